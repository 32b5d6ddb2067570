// The interpreter of chat templates: cases worked out by hand, what hostile templates cost, and
// where the bytes of a rendering come from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "chat/jinja/from_json.h"
#include "chat/jinja/template.h"

namespace nereid::chat::jinja {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

Text rendered(const std::string& source, const ordered_json& context = {}) {
  const Template program = Template::parse(source, "template");
  Runtime runtime(program.limits(), 0);
  Dict variables;
  for (const auto& [name, value] : context.items())
    variables.set(Value(name), from_json(value, /*is_input=*/true, runtime.budget));
  return program.render(runtime, variables);
}

std::string render(const std::string& source, const ordered_json& context = {}) {
  return std::string(rendered(source, context).view());
}

std::string error_of(const std::string& source, const ordered_json& context = {}) {
  try {
    render(source, context);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Jinja, WhiteSpaceOfTags) {
  EXPECT_EQ(render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(render("a \n {{- 1 -}} \n b"), "a1b");
  EXPECT_EQ(render("  {%+ if true +%}\nx{% endif %}"), "  \nx");
  EXPECT_EQ(render("{# note #}\nx"), "x");
}

TEST(Jinja, PrintsAsPython) {
  EXPECT_EQ(render("{{ [true, none, 1.0, 'a', (1,), {'k': 0.1}] }}"),
            "[True, None, 1.0, 'a', (1,), {'k': 0.1}]");
  EXPECT_EQ(render("{{ x | tojson }}", {{"x", {{"b", "ä\"<"}, {"a", {1, nullptr}}}}}),
            R"({"b": "ä\"<", "a": [1, null]})");
  EXPECT_EQ(render("{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 'ab' * 2 }}"),
            "-4 2 3.5 8 abab");
  // What is no whole number is neither, however large.
  EXPECT_EQ(
      render("{% for x in [0.5, 2.0, -3.0, 1.5e300] %}{{ x is even }} {{ x is odd }} {% endfor %}"),
      "False False True False False True True False ");
  EXPECT_EQ(render("{{ 'Größe'[::-1] }} {{ 'Größe'|length }} {{ 'a,b'.split(',')[-1] }}"),
            "eßörG 5 b");
}

TEST(Jinja, Scopes) {
  EXPECT_EQ(render("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}"), "1");
  EXPECT_EQ(render("{% set n = namespace(x=1) %}{% for i in [1] %}{% set n.x = 2 %}{% endfor %}"
                   "{{ n.x }}"),
            "2");
  EXPECT_EQ(render("{% macro m(a, b='d') %}{{ a }}{{ b }}{{ x }}{% endmacro %}{% set x = 3 %}"
                   "{{ m(1) }}{{ m(1, b=2) }}"),
            "1d3123");
  EXPECT_EQ(render("{% for i in 'abc' %}{{ loop.index }}{{ loop.last }},{% endfor %}"),
            "1False,2False,3True,");
  const ordered_json context = {{"d", {{"items", "i"}}}};
  EXPECT_EQ(render("{{ d['items'] }}{{ d.items()|list }}", context), "i[('items', 'i')]");
}

TEST(Jinja, UndefinedIsSilentUntilAsked) {
  EXPECT_EQ(render("[{{ x }}{{ (x.y is defined) if false }}]{% for i in x %}{% endfor %}"), "[]");
  EXPECT_THAT(error_of("{{ x.y }}"), HasSubstr("'x' is undefined"));
  EXPECT_THAT(error_of("\n\n{{ 1 + x }}"), HasSubstr("line 3"));
}

TEST(Jinja, ErrorsNameTheConstruct) {
  EXPECT_THAT(error_of("a\n{% include 'x' %}"), HasSubstr("line 2: the statement {% include %}"));
  EXPECT_THAT(error_of("{{ 1|nope }}"), HasSubstr("filter 'nope'"));
  EXPECT_THAT(error_of("{% for x in y recursive %}{% endfor %}"), HasSubstr("recursive"));
  EXPECT_THAT(error_of("{{ [1].append(2) }}"), HasSubstr("'append' would change"));
  EXPECT_EQ(error_of("{{ raise_exception('no tools') }}"),
            "the chat template refused this: no tools");
  for (const char* source : {"{{", "{% if %}", "{{ 'x }}", "{% endif %}", "{{ (1] }}", "{# x",
                             "{% for %}", "{{ 1 }", "{% set = 1 %}", "{{ a..b }}", "{{ x[ }}"})
    EXPECT_NE(error_of(source), "no error") << source;
}

TEST(Jinja, ErrorsAreWholeCharacters) {
  EXPECT_THAT(error_of("{{ '%\xE4\xB8\x80' % 1 }}"), HasSubstr("directive '\xEF\xBF\xBD'"));
  // 80 bytes of the name are shown.
  const auto error = error_of("{{ x['" + std::string(79, 'a') + "\xE4\xB8\x80'].y }}", {{"x", 1}});
  EXPECT_THAT(error, HasSubstr("a\xEF\xBF\xBD"));
}

TEST(Jinja, HostileTemplatesEndAtOnce) {
  EXPECT_THAT(error_of("{{ range(10**9) }}"), HasSubstr("range"));
  EXPECT_THAT(error_of("{{ 'x' * 10**12 }}"), HasSubstr("bytes"));
  EXPECT_THAT(error_of("{{ [1] * 10**12 }}"), HasSubstr("steps"));
  EXPECT_THAT(error_of("{{ 'x'.center(10**12) }}"), HasSubstr("bytes"));
  EXPECT_THAT(error_of("{{ '%999999999d' % 1 }}"), HasSubstr("bytes"));
  EXPECT_THAT(error_of("{% set n = namespace(s='x') %}{% for i in range(99) %}"
                       "{% set n.s = n.s + n.s %}{% endfor %}"),
              HasSubstr("bytes"));
  EXPECT_THAT(error_of("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
                       "{% endfor %}"),
              HasSubstr("steps"));
  EXPECT_THAT(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), HasSubstr("nests"));
  EXPECT_THAT(error_of("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}"),
              HasSubstr("nests"));
  EXPECT_NE(error_of("{{ " + std::string(5000, '-') + "1 }}"), "no error");
  std::string chain = "{{ 1";
  for (int i = 0; i < 100'000; ++i) chain += " + 1";
  EXPECT_THAT(error_of(chain + " }}"), HasSubstr("parts"));
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if 1 %}";
  EXPECT_THAT(error_of(blocks), HasSubstr("nests"));
  EXPECT_THAT(error_of("{% set n = namespace() %}{% set n.n = n %}{{ n }}"),
              HasSubstr("cannot be printed"));
}

// The rendering with the caller's bytes in brackets.
std::string bracketed(const std::string& source, const ordered_json& context) {
  std::string out;
  for_each_origin(rendered(source, context), [&](std::string_view part, bool is_input) {
    out += is_input ? "[" + std::string(part) + "]" : std::string(part);
  });
  return out;
}

TEST(Jinja, BytesKnowTheirOrigin) {
  const ordered_json context = {{"x", " ab,c "}, {"d", {{"k", "v"}}}};
  EXPECT_EQ(bracketed("<{{ x }}>", context), "<[ ab,c ]>");
  EXPECT_EQ(bracketed("{{ ('<' + x + '>')|trim|upper }}", context), "<[ AB,C ]>");
  EXPECT_EQ(bracketed("{{ x.strip().split(',')|join('-') }}", context), "[ab]-[c]");
  EXPECT_EQ(bracketed("{{ ('<' ~ x)[:3] }}", context), "<[ a]");
  EXPECT_EQ(bracketed("{{ x|replace('b', '<b>') }}", context), "[ a]<b>[,c ]");
  EXPECT_EQ(bracketed("{{ d|tojson }}", context), "{\"[k]\": \"[v]\"}");
  EXPECT_EQ(bracketed("{{ '%s=%s' % (1, d.k) }}{{ '{}!'.format(d.k) }}", context), "1=[vv]!");
  EXPECT_EQ(bracketed("{% macro m(a) %}<{{ a }}>{% endmacro %}{% set y %}{{ m(d.k) }}{% endset %}"
                      "{{ y }}",
                      context),
            "<[v]>");
}

}  // namespace
}  // namespace nereid::chat::jinja
