#include "model/stored_name.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace nereid::model {

namespace {

struct PartPrefix {
  StoredPart part;
  std::string_view prefix;
};
constexpr std::array<PartPrefix, 4> kPrefixes{{{StoredPart::one_plus, "one_plus."},
                                               {StoredPart::scale, "scale."},
                                               {StoredPart::zero, "zero."},
                                               {StoredPart::order, "order."}}};
constexpr std::string_view kRows = ".rows.", kColumns = ".columns.";

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 0) return std::nullopt;
  return value;
}

// "BEGIN.N.ALL", of rows that are among all.
std::optional<StoredRange> range(std::string_view text) {
  std::array<std::int64_t, 3> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const bool is_last = i + 1 == numbers.size();
    const auto end = is_last ? text.size() : text.find('.');
    if (end == std::string_view::npos) return std::nullopt;
    const auto value = number(text.substr(0, end));
    if (!value) return std::nullopt;
    numbers[i] = *value;
    text.remove_prefix(is_last ? end : end + 1);
  }
  const auto [begin, count, n_stored] = numbers;
  if (count > n_stored || begin > n_stored - count) return std::nullopt;
  return StoredRange{begin, count, n_stored};
}

// Takes the range that stands behind `word` at the end off `name`.
std::optional<StoredRange> take_range(std::string_view& name, std::string_view word) {
  const auto at = name.rfind(word);
  if (at == std::string_view::npos) return std::nullopt;
  const auto found = range(name.substr(at + word.size()));
  if (found) name = name.substr(0, at);
  return found;
}

std::string range_name(const std::string& name, std::string_view word, StoredRange range) {
  return fmt::format("{}{}{}.{}.{}", name, word, range.begin, range.count, range.n_stored);
}

}  // namespace

StoredName stored_name(std::string_view weight) {
  StoredName name{weight, std::nullopt, std::nullopt};
  for (const auto& [part, prefix] : kPrefixes) {
    if (!weight.starts_with(prefix)) continue;
    name.part = part;
    name.tensor.remove_prefix(prefix.size());
    break;
  }
  name.columns = take_range(name.tensor, kColumns);
  name.rows = take_range(name.tensor, kRows);
  return name;
}

std::string rows_name(const std::string& tensor, StoredRange rows) {
  return range_name(tensor, kRows, rows);
}

std::string columns_name(const std::string& name, StoredRange columns) {
  return range_name(name, kColumns, columns);
}

std::string part_name(StoredPart part, const std::string& weight) {
  for (const auto& [of, prefix] : kPrefixes)
    if (of == part) return std::string(prefix) + weight;
  return weight;
}

}  // namespace nereid::model
