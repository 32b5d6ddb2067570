#include "kernel/tuning.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "kernel/builtin.h"

namespace nereid::kernel {

namespace {

TuningRow::Range parse_range(const Json& json, const std::string& where) {
  if (json.is_boolean()) return {json.get<bool>(), json.get<bool>()};
  if (json.is_number_integer()) return {json.get<std::int64_t>(), json.get<std::int64_t>()};
  if (json.is_array() && json.size() == 2 && json[0].is_number_integer() &&
      json[1].is_number_integer())
    return {json[0].get<std::int64_t>(), json[1].get<std::int64_t>()};
  throw Error("{}: expected an integer or [low, high], got {}", where, json.dump());
}

// "sizeof(x_ptr)" -> "x_ptr"; empty for other names.
std::string_view sizeof_pointer(std::string_view name) {
  constexpr std::string_view kSizeof = "sizeof(";
  if (!name.starts_with(kSizeof) || !name.ends_with(')')) return {};
  return name.substr(kSizeof.size(), name.size() - kSizeof.size() - 1);
}

}  // namespace

TuningTable TuningTable::builtin(const SpecTable& specs, std::string_view target) {
  TuningTable table;
  // "tuning/cuda-90/silu_mul.json"
  std::string folder(target);
  std::ranges::replace(folder, ':', '-');
  for (const auto& [name, text] : builtin_tuning()) {
    if (!target.empty() && name.find("/" + folder + "/") == std::string_view::npos) continue;
    table.add(parse_json(text, std::string(name)), specs, std::string(name));
  }
  return table;
}

void TuningTable::add(const Json& json, const SpecTable& specs, const std::string& where) {
  const auto target = json_field<std::string>(json, "target", where);
  const auto kernel = json_field<std::string>(json, "kernel", where);
  const Spec* spec = specs.find(kernel);
  if (spec == nullptr) throw Error("{}: no kernel \"{}\"", where, kernel);
  auto& rows = tables_[{target, kernel}];
  for (const auto& row_json : json_member(json, "rows", where)) {
    const std::string here = fmt::format("{}, row {}", where, rows.size());
    TuningRow row;
    row.note = json_field_or<std::string>(row_json, "note", "", here);
    const Json& when = json_member(row_json, "when", here);
    if (!when.is_object()) throw Error("{}: \"when\" is no object", here);
    for (const auto& [name, range] : when.items()) {
      const Param* pointer = spec->find_param(sizeof_pointer(name));
      const Param* param = spec->find_param(name);
      const bool is_known = pointer != nullptr
                                ? pointer->is_pointer()
                                : param != nullptr && !param->is_pointer() && !param->is_tuned;
      if (!is_known) throw Error("{}: \"{}\" is not known when {} is planned", here, name, kernel);
      row.when[name] = parse_range(range, here + ", " + name);
    }
    row.choice = parse_choice(json_member(row_json, "choice", here), *spec, here);
    rows.push_back(std::move(row));
  }
}

const TuningRow* TuningTable::find(std::string_view target, std::string_view kernel,
                                   const Expression::Lookup& lookup) const {
  const auto table = tables_.find(std::pair(std::string(target), std::string(kernel)));
  if (table == tables_.end()) return nullptr;
  for (const auto& row : table->second) {
    const bool holds = std::all_of(row.when.begin(), row.when.end(), [&](const auto& condition) {
      const auto value = lookup(condition.first);
      return value && *value >= condition.second.low && *value <= condition.second.high;
    });
    if (holds) return &row;
  }
  return nullptr;
}

}  // namespace nereid::kernel
