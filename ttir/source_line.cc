#include "source_line.h"

#include <algorithm>
#include <charconv>

#include "lexer.h"

namespace nereid::ttir {

namespace {

// The number in the first ":NUMBER: ", or 0.
std::size_t line_of(std::string_view message) {
  for (std::size_t at = message.find(':'); at != message.npos; at = message.find(':', at + 1)) {
    std::size_t line = 0;
    const char* const end = message.data() + message.size();
    const auto [last, error] = std::from_chars(message.data() + at + 1, end, line);
    if (error == std::errc() && last != end && *last == ':') return line;
  }
  return 0;
}

std::string_view line_at(std::string_view text, std::size_t number) {
  std::size_t begin = 0;
  for (; number > 1; --number) {
    begin = text.find('\n', begin);
    if (begin == text.npos) return {};
    ++begin;
  }
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

std::string with_source_line(const std::string& message, std::string_view text) {
  const std::size_t number = line_of(message);
  if (number == 0) return message;
  const std::string_view line = line_at(text, number);
  const std::size_t comment = line.rfind("  // ");
  if (comment == line.npos) return message;
  const std::string_view place = line.substr(comment + 5);
  if (place.empty()) return message;
  const std::string_view last = place.substr(std::min(place.rfind(':'), place.size() - 1) + 1);
  const bool is_place = !last.empty() && std::all_of(last.begin(), last.end(), is_digit);
  return is_place ? message + " (at " + std::string(place) + ")" : message;
}

}  // namespace nereid::ttir
