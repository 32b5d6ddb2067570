#include "chat/output/tool_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"

namespace nereid::chat {

namespace {

constexpr std::string_view kIdPrefix = "call_";
constexpr std::size_t kIdLetters = 24;
// Mistral's templates refuse an id of another length, or with other than letters and digits.
constexpr std::size_t kMistralIdLetters = 9;

// In the order in which templates are looked at: `<tool_call>` is also the second start of Granite.
constexpr ToolFormat kFormats[] = {
    {.name = "mistral",
     .shape = CallShape::list,
     .starts = {"[TOOL_CALLS]"},
     .end = "",
     .padding = "",
     .separator = ',',
     .name_key = "name",
     .arguments_key = "arguments",
     .may_start_bare = true,
     .id_prefix = "",
     .n_id_letters = kMistralIdLetters,
     .template_signs = {"[TOOL_CALLS]"}},
    {.name = "granite",
     .shape = CallShape::list,
     .starts = {"<|tool_call|>", "<tool_call>"},
     .end = "",
     .padding = "",
     .separator = ',',
     .name_key = "name",
     .arguments_key = "arguments",
     .may_start_bare = true,
     .id_prefix = kIdPrefix,
     .n_id_letters = kIdLetters,
     .template_signs = {"<|tool_call|>"}},
    {.name = "hermes",
     .shape = CallShape::object,
     .starts = {"<tool_call>"},
     .end = "</tool_call>",
     .padding = "\n",
     .separator = 0,
     .name_key = "name",
     .arguments_key = "arguments",
     .may_start_bare = false,
     .id_prefix = kIdPrefix,
     .n_id_letters = kIdLetters,
     .template_signs = {"<tool_call>"}},
    {.name = "llama3",
     .shape = CallShape::object,
     .starts = {"<|python_tag|>"},
     .end = "",
     .padding = "",
     .separator = ';',
     .name_key = "name",
     .arguments_key = "parameters",
     .may_start_bare = true,
     .id_prefix = kIdPrefix,
     .n_id_letters = kIdLetters,
     .template_signs = {"<|python_tag|>", R"({"name": function name, "parameters":)"}},
    {.name = "none",
     .shape = CallShape::none,
     .starts = {},
     .end = "",
     .padding = "",
     .separator = 0,
     .name_key = "",
     .arguments_key = "",
     .may_start_bare = false,
     .id_prefix = kIdPrefix,
     .n_id_letters = kIdLetters,
     .template_signs = {}},
};

// `<tool_call>` with XML inside, as Qwen 3 Coder writes it: no format of the table.
constexpr std::string_view kXmlSign = "<function=";

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::span<const ToolFormat> tool_formats() { return kFormats; }

const ToolFormat& tool_format(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& format : kFormats) {
    if (format.name == name) return format;
    names.push_back(format.name);
  }
  throw Error("tool format \"{}\": expected one of {}", name, fmt::join(names, ", "));
}

const ToolFormat& detect_tool_format(std::string_view template_source) {
  if (contains(template_source, kXmlSign)) return tool_format("none");
  for (const auto& format : kFormats)
    if (std::ranges::any_of(format.template_signs, [&](std::string_view sign) {
          return !sign.empty() && contains(template_source, sign);
        }))
      return format;
  return tool_format("none");
}

std::string ToolFormat::calls_prefix() const {
  return shape == CallShape::list ? fmt::format("{}{}[", starts[0], padding) : std::string();
}

std::string ToolFormat::call_prefix(std::string_view function) const {
  NEREID_CHECK(shape != CallShape::none, "format {} has no calls", name);
  const std::string text = fmt::format(R"({{"{}": {}, "{}": )", name_key,
                                       nlohmann::json(function).dump(), arguments_key);
  // A start that begins every call of its own; Llama's is written by the interpreter's calls only.
  return end.empty() ? text : fmt::format("{}{}{}", starts[0], padding, text);
}

std::string ToolFormat::call_suffix() const {
  return end.empty() ? "}" : fmt::format("}}{}{}", padding, end);
}

std::string ToolFormat::calls_separator() const {
  return separator != 0 ? fmt::format("{} ", separator) : std::string(padding);
}

std::string ToolFormat::calls_suffix() const {
  return shape == CallShape::list ? fmt::format("]{}{}", padding, end) : std::string();
}

}  // namespace nereid::chat
