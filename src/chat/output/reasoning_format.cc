#include "chat/output/reasoning_format.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "chat/output/white_space.h"

namespace nereid::chat {

namespace {

// In the order in which templates are looked at.
constexpr ReasoningFormat kReasoningFormats[] = {
    {.name = "granite", .start = "Here is my thought process:", .end = "Here is my response:"},
    {.name = "think", .start = "<think>", .end = "</think>"},
    {.name = "none", .start = "", .end = ""},
};

}  // namespace

bool ReasoningFormat::is_opened_by(std::string_view prompt) const {
  return !start.empty() && without_space_at_end(prompt).ends_with(start);
}

std::span<const ReasoningFormat> reasoning_formats() { return kReasoningFormats; }

const ReasoningFormat& reasoning_format(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& format : kReasoningFormats) {
    if (format.name == name) return format;
    names.push_back(format.name);
  }
  throw Error("reasoning format \"{}\": expected one of {}", name, fmt::join(names, ", "));
}

const ReasoningFormat& detect_reasoning_format(std::string_view template_source) {
  for (const auto& format : kReasoningFormats)
    if (!format.end.empty() && template_source.find(format.end) != std::string_view::npos)
      return format;
  return reasoning_format("none");
}

}  // namespace nereid::chat
