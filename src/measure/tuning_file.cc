#include "measure/tuning_file.h"

#include <algorithm>

#include "base/error.h"

namespace nereid::measure {

namespace {

using OrderedJson = nlohmann::ordered_json;

bool is_within(const kernel::TuningRow::Range& inner, const kernel::TuningRow::Range& outer) {
  return inner.low >= outer.low && inner.high <= outer.high;
}

// Whether some use of the kernel meets both.
bool overlap(const Conditions& a, const Conditions& b) {
  return std::ranges::all_of(a, [&](const auto& condition) {
    const auto other = b.find(condition.first);
    return other == b.end() || (condition.second.low <= other->second.high &&
                                other->second.low <= condition.second.high);
  });
}

// Whether all that meets `a` meets `b` too.
bool is_narrower(const Conditions& a, const Conditions& b) {
  return std::ranges::all_of(b, [&](const auto& condition) {
    const auto own = a.find(condition.first);
    return own != a.end() && is_within(own->second, condition.second);
  });
}

// By names, then ranges: the order of rows that do not hide each other.
bool comes_before(const Conditions& a, const Conditions& b) {
  return std::ranges::lexicographical_compare(a, b, [](const auto& x, const auto& y) {
    return std::tie(x.first, x.second.low, x.second.high) <
           std::tie(y.first, y.second.low, y.second.high);
  });
}

Conditions parse_when(const OrderedJson& row, const std::string& where) {
  const auto refuse = [&](const OrderedJson& got) {
    throw Error("{}: expected {{\"when\": {{NAME: number or [low, high]}}, ...}}, got {}", where,
                got.dump());
  };
  if (!row.is_object() || !row.contains("when") || !row.at("when").is_object()) refuse(row);
  Conditions when;
  for (const auto& [name, range] : row.at("when").items()) {
    if (range.is_array() && range.size() == 2 && range[0].is_number_integer() &&
        range[1].is_number_integer())
      when[name] = {range[0].get<std::int64_t>(), range[1].get<std::int64_t>()};
    else if (range.is_number_integer())
      when[name] = {range.get<std::int64_t>(), range.get<std::int64_t>()};
    else if (range.is_boolean())
      when[name] = {range.get<bool>(), range.get<bool>()};
    else
      refuse(range);
  }
  return when;
}

OrderedJson row_json(const MeasuredRow& row) {
  OrderedJson when = OrderedJson::object(), choice = OrderedJson::object();
  for (const auto& [name, range] : row.when) {
    if (range.low == range.high)
      when[name] = range.low;
    else
      when[name] = {range.low, range.high};
  }
  for (const auto& [name, value] : row.choice) choice[name] = value;
  return {{"when", when}, {"choice", choice}, {"note", row.note}};
}

// Behind the rows that are more special, before those that would hide it, else sorted.
std::size_t place_of(const Conditions& when, const std::vector<Conditions>& rows) {
  std::size_t first = 0, last = rows.size();
  for (std::size_t i = 0; i < last; ++i) {
    if (!overlap(rows[i], when)) continue;
    if (is_narrower(rows[i], when))
      first = i + 1;
    else
      last = i;
  }
  while (first < last && comes_before(rows[first], when)) ++first;
  return first;
}

// {"a": 1, "b": [2, 3]}: on one line, with spaces.
std::string inline_text(const OrderedJson& json) {
  if (json.is_array()) {
    std::string text;
    for (const auto& item : json) text += (text.empty() ? "" : ", ") + inline_text(item);
    return "[" + text + "]";
  }
  if (!json.is_object()) return json.dump();
  std::string text;
  for (const auto& [name, value] : json.items())
    text += (text.empty() ? "" : ", ") + OrderedJson(name).dump() + ": " + inline_text(value);
  return "{" + text + "}";
}

}  // namespace

std::string conditions_text(const Conditions& when) {
  std::string text;
  for (const auto& [name, range] : when) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, range.low);
    if (range.high != range.low) text += fmt::format("..{}", range.high);
  }
  return text;
}

OrderedJson merged_table(OrderedJson table, const std::string& kernel, const std::string& target,
                         std::span<const MeasuredRow> rows, const std::string& where) {
  if (table.is_null())
    table = {{"kernel", kernel}, {"target", target}, {"rows", OrderedJson::array()}};
  if (!table.is_object() || table.value("kernel", OrderedJson()) != kernel ||
      table.value("target", OrderedJson()) != target || !table.contains("rows") ||
      !table.at("rows").is_array())
    throw Error("{}: expected the tuning table of {} for {}, got {}", where, kernel, target,
                table.dump().substr(0, 100));
  auto& old_rows = table.at("rows");
  std::vector<Conditions> conditions;
  for (std::size_t i = 0; i < old_rows.size(); ++i)
    conditions.push_back(parse_when(old_rows[i], fmt::format("{}, row {}", where, i)));
  for (const auto& row : rows) {
    const auto same = std::ranges::find_if(conditions, [&](const Conditions& when) {
      return is_narrower(when, row.when) && is_narrower(row.when, when);
    });
    if (same != conditions.end()) {
      old_rows[static_cast<std::size_t>(same - conditions.begin())] = row_json(row);
      continue;
    }
    const auto at = place_of(row.when, conditions);
    old_rows.insert(old_rows.begin() + static_cast<std::ptrdiff_t>(at), row_json(row));
    conditions.insert(conditions.begin() + static_cast<std::ptrdiff_t>(at), row.when);
  }
  return table;
}

std::string tuning_text(const OrderedJson& table) {
  std::string text = fmt::format("{{\n \"kernel\": {},\n \"target\": {},\n \"rows\": [",
                                 table.at("kernel").dump(), table.at("target").dump());
  const char* separator = "\n";
  for (const auto& row : table.at("rows")) {
    text += fmt::format("{}  {{", separator);
    const char* before = "\n";
    for (const auto& [name, value] : row.items()) {
      text += fmt::format("{}   {}: {}", before, OrderedJson(name).dump(), inline_text(value));
      before = ",\n";
    }
    text += "\n  }";
    separator = ",\n";
  }
  return text + (table.at("rows").empty() ? "]\n}\n" : "\n ]\n}\n");
}

}  // namespace nereid::measure
