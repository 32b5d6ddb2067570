// Goal: a step's launches for people: what each computes, what it moves, how long that takes at
// least and, where it was measured, how long it took; why its tile sizes were chosen. What comes
// again, layer for layer, stands there once. Lines fit a terminal of 120 columns.
// Non-goal: planning and measuring (program/planner.h, measure/launch_bench.h).
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "measure/model_cost.h"
#include "measure/step_planner.h"
#include "program/planner.h"

namespace nereid::apps {

// What a device reads and multiplies in a second, at most.
struct DeviceSpeed {
  std::string name;  // "H100 SXM, as its maker says"
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

class PlanText {
 public:
  // Without a speed no times are told but those that were measured. `has_choices`: tile sizes and
  // all of the reasons, which otherwise have a line each.
  PlanText(const program::Planner& planner, std::optional<DeviceSpeed> speed, bool has_choices)
      : planner_(planner), speed_(std::move(speed)), has_choices_(has_choices) {}

  // A step of this shape. `measured_us`: of launches by launch_id().
  void add_step(const measure::StepShape& shape, const program::StepPlan& plan,
                const std::map<std::string, double>& measured_us);
  // The text, with the reasons that its launches name by number.
  std::string take();

  // Equal for launches that are timed alike, such as those of other layers.
  static std::string launch_id(const program::PlannedLaunch& launch,
                               const measure::LaunchCost& cost);

 private:
  struct Row {
    std::string line;     // what must be equal to come again
    std::string choices;  // tile sizes
    double bytes = 0, least_us = 0, measured_us = 0;
  };
  Row row_of(const measure::StepShape& shape, const program::StepPlan& plan,
             const program::PlannedLaunch& launch,
             const std::map<std::string, double>& measured_us);
  std::string costs_text(std::span<const Row> rows) const;  // of all together
  void add_row(const Row& row, std::size_t indent);
  void add_repeated(std::span<const Row> rows);
  std::size_t number_of(const std::string& reason);

  const program::Planner& planner_;
  const std::optional<DeviceSpeed> speed_;
  const bool has_choices_;
  std::string text_;
  std::vector<std::string> reasons_;
};

}  // namespace nereid::apps
