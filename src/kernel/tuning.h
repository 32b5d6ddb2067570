// Goal: measured choices, one table a (target, kernel): tuning/<target>/<kernel>.json
// (docs/formats.md, section 2).
// Non-goal: measuring.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "kernel/expression.h"
#include "kernel/spec.h"

namespace nereid::kernel {

struct TuningRow {
  struct Range {
    std::int64_t low, high;  // inclusive
  };
  std::map<std::string, Range> when;
  Choice choice;  // what it leaves out the Spec's default chooses
  std::string note;
};

class TuningTable {
 public:
  // The tables this program was built with; checked against `specs` (an Error names a row that
  // names no parameter).
  // Of one target; of all where none is named.
  static TuningTable builtin(const SpecTable& specs, std::string_view target = {});
  void add(const Json& table, const SpecTable& specs, const std::string& where);

  // The first row whose `when` holds; a row that asks for a name `lookup` does not know does not
  // hold.
  const TuningRow* find(std::string_view target, std::string_view kernel,
                        const Expression::Lookup& lookup) const;

 private:
  std::map<std::pair<std::string, std::string>, std::vector<TuningRow>, std::less<>> tables_;
};

}  // namespace nereid::kernel
