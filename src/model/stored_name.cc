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
constexpr std::string_view kRows = ".rows.";

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 0) return std::nullopt;
  return value;
}

// "BEGIN.N.ALL", of rows that are among all.
std::optional<RowRange> range(std::string_view text) {
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
  return RowRange{begin, count, n_stored};
}

}  // namespace

StoredName stored_name(std::string_view weight) {
  StoredName name{weight, std::nullopt};
  for (const auto& [part, prefix] : kPrefixes) {
    if (!weight.starts_with(prefix)) continue;
    name.part = part;
    name.tensor.remove_prefix(prefix.size());
    break;
  }
  const auto at = name.tensor.rfind(kRows);
  if (at == std::string_view::npos) return name;
  name.rows = range(name.tensor.substr(at + kRows.size()));
  if (name.rows) name.tensor = name.tensor.substr(0, at);
  return name;
}

std::string rows_name(const std::string& tensor, RowRange rows) {
  return fmt::format("{}{}{}.{}.{}", tensor, kRows, rows.begin, rows.count, rows.n_stored);
}

std::string part_name(StoredPart part, const std::string& weight) {
  for (const auto& [of, prefix] : kPrefixes)
    if (of == part) return std::string(prefix) + weight;
  return weight;
}

}  // namespace nereid::model
