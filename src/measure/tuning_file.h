// Goal: measured rows into a tuning table (docs/formats.md, section 2), which people edit too: what
// they wrote stays, in an order in which every row can still be met, and the text is that of a
// hand-written file.
// Non-goal: measuring; reading tables to plan with (kernel/tuning.h).
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernel/tuning.h"

namespace nereid::measure {

using Conditions = std::map<std::string, kernel::TuningRow::Range>;

struct MeasuredRow {
  Conditions when;
  std::vector<std::pair<std::string, std::int64_t>> choice;  // in the order of the file
  std::string note;
};

// "a=1 b=2..64": equal for equal conditions.
std::string conditions_text(const Conditions& when);

// `table` with the rows: each takes the place of the one with the same `when`, or stands before all
// that would hide it and behind all that it would hide. A null `table` is an empty one. An Error
// where it is another kernel's or target's, or no tuning table.
nlohmann::ordered_json merged_table(nlohmann::ordered_json table, const std::string& kernel,
                                    const std::string& target, std::span<const MeasuredRow> rows,
                                    const std::string& where);

std::string tuning_text(const nlohmann::ordered_json& table);

}  // namespace nereid::measure
