#include "apps/checks.h"

#include <fmt/format.h>

#include <charconv>

namespace nereid::apps {

namespace {

constexpr std::size_t kShownBytes = 40;  // of a value that is refused

template <typename T>
CLI::Validator number_in(const engine::Range<T>& range) {
  const auto check = [range](const std::string& text) -> std::string {
    T value{};
    const char* const end = text.data() + text.size();
    const auto [rest, code] = std::from_chars(text.data(), end, value);
    if (code == std::errc() && rest == end && range.contains(value)) return "";
    const bool is_long = text.size() > kShownBytes;
    return fmt::format("\"{}{}\"; expected {}", text.substr(0, kShownBytes), is_long ? "..." : "",
                       range.expected);
  };
  return {check, ""};
}

}  // namespace

CLI::Validator in_range(const engine::IntegerRange& range) { return number_in(range); }
CLI::Validator in_range(const engine::RealRange& range) { return number_in(range); }
CLI::Validator in_range(const engine::SeedRange& range) { return number_in(range); }

CLI::Validator not_empty() {
  return {[](const std::string& text) -> std::string {
            return text.empty() ? "\"\"; expected something" : "";
          },
          ""};
}

}  // namespace nereid::apps
