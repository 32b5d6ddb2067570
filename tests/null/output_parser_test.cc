// What a model writes, told apart: by example, and at random against a second reading of the rules.
#include "chat/output/output_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "null/output_oracle.h"

namespace nereid::chat {
namespace {

// Joins what is told, and holds it to the order that is promised.
class Collector {
 public:
  void operator()(const OutputDelta& delta) {
    using Kind = OutputDelta::Kind;
    const bool is_call = delta.kind == Kind::call_arguments || delta.kind == Kind::call_end;
    EXPECT_EQ(is_call, is_open_);
    if (is_call || delta.kind == Kind::call_begin) {
      EXPECT_EQ(delta.call_index, told.calls.size() - (is_call ? 1 : 0));
    }
    switch (delta.kind) {
      case Kind::content:
        EXPECT_FALSE(delta.text.empty());
        told.content += delta.text;
        break;
      case Kind::reasoning:
        EXPECT_FALSE(delta.text.empty());
        EXPECT_TRUE(told.content.empty() && told.calls.empty());
        told.reasoning += delta.text;
        break;
      case Kind::call_begin:
        told.calls.push_back({.name = std::string(delta.name)});
        ids.emplace_back(delta.id);
        is_open_ = true;
        break;
      case Kind::call_arguments:
        EXPECT_FALSE(delta.text.empty());
        told.calls.back().arguments += delta.text;
        break;
      case Kind::call_end:
        told.calls.back().has_arguments = delta.has_arguments;
        is_open_ = false;
        break;
    }
  }
  Told told;
  std::vector<std::string> ids;

 private:
  bool is_open_ = false;
};

Collector parsed(const std::vector<std::string>& pieces, const OutputOptions& options) {
  Collector collector;
  OutputParser parser(options);
  const OutputSink sink = [&](const OutputDelta& delta) { collector(delta); };
  for (const auto& piece : pieces) parser.push(piece, sink);
  parser.finish(sink);
  EXPECT_EQ(parser.n_calls(), collector.told.calls.size());
  return collector;
}

std::vector<std::string> bytes_of(const std::string& text) {
  std::vector<std::string> pieces;
  for (const char byte : text) pieces.emplace_back(1, byte);
  return pieces;
}

OutputOptions options_of(std::string_view tools, std::string_view reasoning = "none",
                         bool is_open = false) {
  return {.tools = &tool_format(tools),
          .reasoning = &reasoning_format(reasoning),
          .is_reasoning_open = is_open,
          .seed = 7};
}

// The whole text at once, and byte by byte.
Told told_of(const std::string& text, const OutputOptions& options) {
  const Told told = parsed({text}, options).told;
  EXPECT_EQ(parsed(bytes_of(text), options).told, told) << text;
  return told;
}

TEST(OutputParser, HermesCallsInARow) {
  const Told told = told_of(
      "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\",  "
      "\"days\": 2.50}}\n</tool_call>\n<tool_call>\n{\"name\": \"time\", \"arguments\": "
      "{}}\n</tool_call>",
      options_of("hermes"));
  EXPECT_EQ(told, (Told{.content = "Let me look.",
                        .calls = {{"weather", R"({"city": "Köln",  "days": 2.50})", true},
                                  {"time", "{}", true}}}));
}

TEST(OutputParser, LlamaCallsBareWithTagAndWithSemicolons) {
  const std::vector<ToldCall> two = {{"f", R"({"x": "}; {"})", true}, {"g", "{}", true}};
  const std::string calls =
      R"({"name": "f", "parameters": {"x": "}; {"}}; {"name": "g", "parameters": {}})";
  for (const char* start : {"", "\n ", "<|python_tag|>", "<|python_tag|> "})
    EXPECT_EQ(told_of(start + calls, options_of("llama3")), (Told{.calls = two})) << start;
}

TEST(OutputParser, AnAnswerInJsonIsNoCall) {
  for (const std::string text :
       {R"({"name": "Ada", "age": 36})", R"({"parameters": {}})",
        R"({"name": "Ada", "parameters": [1]})", "{}", "{\"name\": \"Ada\"}"})
    EXPECT_EQ(told_of(text, options_of("llama3")), (Told{.content = text}));
  // Nor is JSON inside of an answer.
  const std::string late = R"(As JSON: {"name": "f", "parameters": {}})";
  EXPECT_EQ(told_of(late, options_of("llama3")), (Told{.content = late}));
}

TEST(OutputParser, ListsOfMistralAndGranite) {
  for (const auto& [format, start] :
       {std::pair("mistral", "[TOOL_CALLS]"), std::pair("mistral", " "),
        std::pair("granite", "<|tool_call|>"), std::pair("granite", "<tool_call>\n"),
        std::pair("granite", "")})
    EXPECT_EQ(
        told_of(start + std::string(
                            R"([{"name": "f", "arguments": {"a": [1, {"b": "]"}]}, "id": "x"}, )"
                            R"({"arguments": {"late": null}, "name": "g"}])"),
                options_of(format)),
        (Told{
            .calls = {{"f", R"({"a": [1, {"b": "]"}]})", true}, {"g", R"({"late": null})", true}}}))
        << start;
}

TEST(OutputParser, ArgumentsAreToldAsTheyCome) {
  std::string told;
  OutputParser parser(options_of("hermes"));
  const OutputSink sink = [&](const OutputDelta& delta) {
    told += delta.kind == OutputDelta::Kind::call_begin ? std::string(delta.name) + "|"
                                                        : std::string(delta.text);
  };
  parser.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"a", sink);
  EXPECT_EQ(told, "f|{\"a");
  parser.push("\": \"\\ud83d", sink);
  EXPECT_EQ(told, "f|{\"a\": \"\\ud83d");
  parser.push("\\ude00\"", sink);
  EXPECT_EQ(told, "f|{\"a\": \"\\ud83d\\ude00\"");
}

TEST(OutputParser, ContentComesAtOnceWhereNoMarkCanBegin) {
  std::string told;
  OutputParser parser(options_of("hermes"));
  const OutputSink sink = [&](const OutputDelta& delta) { told += delta.text; };
  parser.push("one two", sink);
  EXPECT_EQ(told, "one two");
  parser.push(" <tool_", sink);
  EXPECT_EQ(told, "one two");
  parser.push("box>", sink);
  EXPECT_EQ(told, "one two <tool_box>");
}

TEST(OutputParser, WithoutArguments) {
  for (const char* rest : {"}", ", \"arguments\": null}", ", \"id\": 1}"})
    EXPECT_EQ(told_of(std::string("<tool_call>{\"name\": \"now\"") + rest, options_of("hermes")),
              (Told{.calls = {{"now", "{}", true}}}));
}

TEST(OutputParser, WhatIsBrokenStays) {
  for (const std::string text :
       {"<tool_call>", "<tool_call>\nnone", "<tool_call>{\"name\": \"f\", arguments",
        "<tool_call>{}", "a <tool_call> {\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>",
        "<tool_call>{\"name\": 5}", "<tool_call>{\"name\": \"\", \"arguments\": {}}",
        "<tool_call>{\"arguments\": {}",
        "<tool_call>{\"name\": \"a\", \"name\": \"b\", \"arguments\": {}}",
        "<tool_call>{\"name\": \"\\ud800\", \"arguments\": {}}", "a </tool_call> b", "x<tool"})
    EXPECT_EQ(told_of(text, options_of("hermes")), (Told{.content = text}));
  EXPECT_EQ(told_of("<tool_call><tool_call>{\"name\": \"f\"}", options_of("hermes")),
            (Told{.content = "<tool_call>", .calls = {{"f", "{}", true}}}));
}

TEST(OutputParser, ACallThatBreaksOffAfterItWasTold) {
  EXPECT_EQ(
      told_of("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1, \"b", options_of("hermes")),
      (Told{.calls = {{"f", "{\"a\": 1, \"b", false}}}));
  EXPECT_EQ(
      told_of("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oops}}", options_of("hermes")),
      (Told{.content = "oops}}", .calls = {{"f", "{\"a\": ", false}}}));
  // Only the outer brace is missing.
  EXPECT_EQ(told_of("<tool_call>{\"name\": \"f\", \"arguments\": {}", options_of("hermes")),
            (Told{.calls = {{"f", "{}", true}}}));
}

TEST(OutputParser, Reasoning) {
  for (const auto& [text, is_open] : {std::pair("<think>\nHm.\n</think>\n\n Yes \n", false),
                                      std::pair("\nHm.\n</think>\n\n Yes \n", true),
                                      std::pair("\n<think>Hm.</think>Yes \n", true)})
    EXPECT_EQ(told_of(text, options_of("hermes", "think", is_open)),
              (Told{.content = "Yes \n", .reasoning = "Hm."}))
        << text;
  EXPECT_EQ(told_of("Here is my thought process: a\nb Here is my response: c",
                    options_of("none", "granite")),
            (Told{.content = "c", .reasoning = "a\nb"}));
  EXPECT_EQ(told_of("A <think> is no start.", options_of("none", "think")),
            (Told{.content = "A <think> is no start."}));
  EXPECT_EQ(told_of("<think> <tool_call>{\"name\": \"f\"} ", options_of("hermes", "think")),
            (Told{.reasoning = "<tool_call>{\"name\": \"f\"}"}));
}

TEST(OutputParser, NestingHasALimit) {
  const std::string text =
      "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": " + std::string(100000, '[');
  const Told told = told_of(text, options_of("hermes"));
  ASSERT_EQ(told.calls.size(), 1U);
  EXPECT_FALSE(told.calls[0].has_arguments);
  EXPECT_EQ(told.calls[0].arguments.size() + told.content.size(), text.size() - text.find("{\"a"));
}

TEST(OutputParser, IdsAreOfTheSeed) {
  const std::string text =
      R"([TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}])";
  const auto ids = parsed({text}, options_of("mistral")).ids;
  ASSERT_EQ(ids.size(), 2U);
  EXPECT_NE(ids[0], ids[1]);
  for (const auto& id : ids) EXPECT_TRUE(std::regex_match(id, std::regex("[A-Za-z0-9]{9}"))) << id;
  EXPECT_EQ(parsed(bytes_of(text), options_of("mistral")).ids, ids);
  OutputOptions other = options_of("mistral");
  other.seed = 8;
  EXPECT_NE(parsed({text}, other).ids[0], ids[0]);
  const auto hermes = parsed({"<tool_call>{\"name\": \"f\"}"}, options_of("hermes")).ids;
  EXPECT_TRUE(std::regex_match(hermes.at(0), std::regex("call_[A-Za-z0-9]{24}"))) << hermes[0];
}

TEST(ToolFormat, WhatItWritesItReads) {
  for (const auto& format : tool_formats()) {
    if (format.shape == CallShape::none) continue;
    const auto call = [&](const std::string& name, const std::string& arguments) {
      return format.call_prefix(name) + arguments + format.call_suffix();
    };
    const std::string text = format.calls_prefix() + call("f", "{\"x\": 1}") +
                             format.calls_separator() + call("g \"q\"", "{}") +
                             format.calls_suffix();
    EXPECT_EQ(told_of(text, options_of(format.name)),
              (Told{.calls = {{"f", "{\"x\": 1}", true}, {"g \"q\"", "{}", true}}}))
        << text;
  }
  EXPECT_EQ(tool_format("hermes").call_prefix("f") + "{}" + tool_format("hermes").call_suffix(),
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>");
}

TEST(ToolFormat, IsDetectedByWhatTemplatesWrite) {
  for (const auto& [source, name] : {
           std::pair("{{ '<tool_call>\\n{\"name\": \"' }}", "hermes"),
           std::pair("{{ '<tool_call>\\n<function=' }}", "none"),
           std::pair("{{ \"[TOOL_CALLS][\" }}", "mistral"),
           std::pair("{{ 'write <|tool_call|> and a list' }}", "granite"),
           std::pair("{{ 'Respond in the format {\"name\": function name, \"parameters\": ...}' }}",
                     "llama3"),
           std::pair("{{ messages[0].content }}", "none"),
       })
    EXPECT_EQ(detect_tool_format(source).name, name) << source;
  EXPECT_THROW(tool_format("xml"), Error);
}

TEST(ReasoningFormat, IsDetectedAndOpenedByThePrompt) {
  EXPECT_EQ(detect_reasoning_format("content.split('</think>')").name, "think");
  EXPECT_EQ(detect_reasoning_format("Write 'Here is my response:' first").name, "granite");
  EXPECT_EQ(detect_reasoning_format("{{ content }}").name, "none");
  EXPECT_TRUE(reasoning_format("think").is_opened_by("<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(reasoning_format("think").is_opened_by("<think>\n\n</think>\n\n"));
  EXPECT_FALSE(reasoning_format("none").is_opened_by("<think>\n"));
  EXPECT_THROW(reasoning_format("loud"), Error);
}

// Texts of calls, prose and marks, whole and spoilt.
class Writer {
 public:
  Writer(std::mt19937& random, const ToolFormat& format, const ReasoningFormat& reasoning)
      : random_(random), format_(format), reasoning_(reasoning) {}

  std::string text() {
    std::string text;
    if (n(3) == 0) text += one_of({"", " ", "\n\n"}) + std::string(reasoning_.start) + prose();
    if (n(2) == 0) text += std::string(reasoning_.end) + one_of({"", "\n\n"});
    for (std::size_t i = n(6); i > 0; --i) text += part();
    for (std::size_t i = n(2) == 0 ? 0 : n(4); i > 0; --i) spoil(text);
    return text;
  }
  std::vector<std::string> cut(const std::string& text) {
    std::vector<std::string> pieces;
    const std::size_t longest = 1 + n(12);
    for (std::size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, n(longest + 1)));  // empty ones, too
      at += pieces.back().size();
    }
    return pieces;
  }

 private:
  std::size_t n(std::size_t end) { return end == 0 ? 0 : random_() % end; }
  std::string one_of(const std::vector<std::string>& all) { return all[n(all.size())]; }

  std::string prose() {
    return one_of(
        {"", " ", "\n", "Yes.", "größer 🙂 ", "a < b", "{", "[1, 2]", "};", "\\\"", "ab\n"});
  }
  nlohmann::ordered_json value(int depth) {
    switch (n(depth > 3 ? 5 : 8)) {
      case 0:
        return nullptr;
      case 1:
        return n(2) == 0;
      case 2:
        return int(n(2000)) - 1000;
      case 3:
        return double(n(100000)) / 128.0 * (n(2) == 0 ? 1e20 : 1);
      case 4:
        return one_of(
            {"", "\"", "\\", "}]", "</tool_call>", "<tool_call>{", "é\n\t", "🙂", "; {"});
      case 5: {
        auto list = nlohmann::ordered_json::array();
        for (std::size_t i = n(4); i > 0; --i) list.push_back(value(depth + 1));
        return list;
      }
      default:
        return object(depth + 1);
    }
  }
  nlohmann::ordered_json object(int depth) {
    auto object = nlohmann::ordered_json::object();
    for (std::size_t i = n(4); i > 0; --i)
      object[one_of({"a", "name", "arguments", "parameters", "é", "\"", "{"})] = value(depth);
    return object;
  }
  std::string dump(const nlohmann::ordered_json& json) {
    // Not the escapes of pairs: spoilt, nlohmann sees more wrong with them than the scanner does.
    const std::string plain = json.dump();
    const bool has_pairs = plain.find("🙂") != std::string::npos;
    return json.dump(n(2) == 0 ? -1 : int(n(3)), n(2) == 0 ? ' ' : '\t', !has_pairs && n(3) == 0);
  }
  std::string call() {
    const std::string arguments_key(n(8) == 0 ? "parameters" : format_.arguments_key);
    std::vector<std::string> fields;
    if (n(12) != 0)
      fields.push_back("\"name\": " + dump(one_of({"f", "get_time", "é", "a\"b", ""})));
    if (n(8) != 0)
      fields.push_back("\"" + arguments_key + "\":" + one_of({"", " "}) + dump(object(0)));
    if (n(12) == 0) fields.push_back("\"" + arguments_key + "\": " + dump(value(0)));
    if (n(4) == 0) fields.push_back("\"id\": " + dump(value(1)));
    if (n(3) == 0) std::shuffle(fields.begin(), fields.end(), random_);
    std::string text = one_of({"{", "{", "{ ", "{\n"});
    for (std::size_t i = 0; i < fields.size(); ++i)
      text += (i > 0 ? one_of({",", ", "}) : "") + fields[i];
    return text + one_of({"}", "}", "}", "\n}"});
  }
  std::string part() {
    switch (n(5)) {
      case 0:
        return prose();
      case 1:
        return one_of({std::string(format_.starts[n(2)]), std::string(format_.end), "]",
                       "<tool_call>", std::string(reasoning_.start), std::string(reasoning_.end)});
      default: {
        std::string text =
            n(3) == 0 ? "" : std::string(format_.starts[n(2)]) + one_of({"", "\n", " "});
        if (format_.shape == CallShape::list) text += "[";
        for (std::size_t i = 1 + n(3); i > 0; --i) {
          text += call();
          if (i > 1) text += one_of({", ", "; ", ",", " ;", "\n", std::string(format_.end)});
        }
        if (format_.shape == CallShape::list && n(6) != 0) text += "]";
        return text + one_of({"", " ", "\n"}) + (n(6) == 0 ? "" : std::string(format_.end));
      }
    }
  }
  // Changes one ASCII byte, or ends the text there: it stays valid UTF-8.
  void spoil(std::string& text) {
    const std::size_t at = n(text.size());
    if (text.empty() || static_cast<unsigned char>(text[at]) >= 0x80) return;
    const std::string byte(1, "{}[]\",:;<>\\ n1-tu\n"[n(18)]);
    switch (n(4)) {
      case 0:
        text.erase(at, 1);
        break;
      case 1:
        text.insert(at, byte);
        break;
      case 2:
        text.replace(at, 1, byte);
        break;
      default:
        if (n(2) == 0) text.resize(at);
    }
  }

  std::mt19937& random_;
  const ToolFormat& format_;
  const ReasoningFormat& reasoning_;
};

TEST(OutputParser, TellsTheSameHoweverItIsCutAndWhatASecondReadingTells) {
  constexpr int kTexts = 2500;
  const auto seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  std::size_t n_calls = 0;
  std::size_t n_broken = 0;
  for (int i = 0; i < kTexts && !testing::Test::HasFailure(); ++i) {
    const ToolFormat& format = tool_formats()[random() % tool_formats().size()];
    const ReasoningFormat& reasoning = reasoning_formats()[random() % reasoning_formats().size()];
    OutputOptions options{.tools = &format, .reasoning = &reasoning, .seed = random()};
    options.is_reasoning_open = !reasoning.start.empty() && random() % 3 == 0;
    Writer writer(random, format, reasoning);
    const std::string text = writer.text();
    SCOPED_TRACE(fmt::format("{}, reasoning {}{}: {}", format.name, reasoning.name,
                             options.is_reasoning_open ? " open" : "",
                             nlohmann::json(text).dump()));
    const Collector whole = parsed({text}, options);
    EXPECT_EQ(whole.told, OutputOracle(text, options).told());
    const Collector cut = parsed(writer.cut(text), options);
    EXPECT_EQ(cut.told, whole.told);
    EXPECT_EQ(cut.ids, whole.ids);
    n_calls += whole.told.calls.size();
    for (const auto& call : whole.told.calls) n_broken += call.has_arguments ? 0 : 1;
  }
  // The texts are of both kinds.
  EXPECT_GT(n_calls, kTexts / 4U);
  EXPECT_GT(n_broken, kTexts / 500U);
}

}  // namespace
}  // namespace nereid::chat
