#include "measure/tune_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "kernel/tuning_space.h"

namespace nereid::measure {

namespace {

// "HAS_BIAS" -> "bias"; others as "ROWS=2".
std::string flag_text(const std::string& name, std::int64_t value) {
  constexpr std::string_view kHas = "HAS_";
  if (!name.starts_with(kHas)) return fmt::format("{}={}", name, value);
  std::string text = name.substr(kHas.size());
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// "640 x 384 norm ROWS=2"; of what is no product the sizes by name.
std::string shape_text(const program::PlannedLaunch& launch, const kernel::Spec& spec,
                       const kernel::Problem& problem) {
  std::string text;
  if (is_product(launch)) {
    text = fmt::format("{} x {}", problem.sizes.at("n_out"), problem.sizes.at("n_in"));
    for (const auto& [name, value] : problem.constexprs)
      if (value != 0) text += " " + flag_text(name, value);
    return text;
  }
  for (const auto& [name, value] : problem.sizes)
    if (spec.find_param(name)->role == kernel::ParamRole::size && value != 0)
      text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  return text;
}

bool is_used(const program::PlannedLaunch& launch, const std::string& pointer) {
  return launch.value_of(pointer) != graph::kNoValue;
}

std::optional<kernel::TuningRow::Range> row_range(const graph::Dim& dim,
                                                  const program::StepClass& steps) {
  std::optional<std::size_t> bucket;
  if (dim.symbol == graph::Symbol::n_tokens ||
      (dim.symbol == graph::Symbol::max_query_tokens && !steps.is_decode))
    bucket = steps.token_bucket;
  if (dim.symbol == graph::Symbol::n_logits) bucket = steps.logit_bucket;
  if (!bucket) return std::nullopt;
  const auto [low, high] = program::bucket_range(*bucket);
  return kernel::TuningRow::Range{low * dim.factor + dim.offset, high * dim.factor + dim.offset};
}

// What a table's row may ask for: sizes, what the planner gives, element sizes, and of sizes that
// steps set those that count rows, as the bucket of rows that the plan serves.
Conditions conditions_of(const program::PlannedLaunch& launch, const kernel::Spec& spec,
                         const kernel::Problem& problem, const program::StepClass& steps) {
  Conditions when;
  for (const auto& param : spec.params) {
    const auto set = [&](const std::map<std::string, std::int64_t>& known) {
      if (const auto it = known.find(param.name); it != known.end())
        when[param.name] = {it->second, it->second};
    };
    if (param.role == kernel::ParamRole::size && !param.is_step) set(problem.sizes);
    if (param.is_given()) set(problem.constexprs);
    if (param.function) {
      const std::int64_t is_there = problem.functions.contains(param.name) ? 1 : 0;
      when[param.name] = {is_there, is_there};
    }
    if (param.is_pointer() && param.role != kernel::ParamRole::out && param.types.size() > 1 &&
        is_used(launch, param.name)) {
      const auto bytes =
          static_cast<std::int64_t>(dtype_size_bytes(problem.pointers.at(param.name)));
      when["sizeof(" + param.name + ")"] = {bytes, bytes};
    }
    if (const auto dim = launch.size_of(param.name); param.is_step && dim)
      if (const auto range = row_range(*dim, steps)) when[param.name] = *range;
  }
  return when;
}

void check_kernel_names(const StepPlanner& planner, std::span<const std::string> kernels) {
  std::vector<std::string> tunable;
  for (const auto& [name, spec] : planner.tables().specs.specs())
    if (kernel::has_space(spec, planner.target())) tunable.push_back(name);
  if (tunable.empty()) throw Error("no kernel leaves a choice on {}", planner.target());
  for (const auto& name : kernels)
    if (std::ranges::find(tunable, name) == tunable.end())
      throw Error("--kernel {}: it leaves no choice on {}; these do: {}", name, planner.target(),
                  fmt::join(tunable, ", "));
}

Contest make_contest(const StepPlanner& planner, const program::StepClass& steps,
                     const StepShape& step, std::int64_t n_logits, const graph::Graph& graph,
                     const program::PlannedLaunch& launch) {
  const auto& spec = *launch.spec;
  const auto problem = program::problem_of(graph, launch, planner.planner().bounds(steps));
  return {step,
          n_logits,
          launch,
          kernel::tuning_candidates(spec, planner.tables().tuning, planner.target(), problem),
          conditions_of(launch, spec, problem, steps),
          spec.name,
          label_of(graph, launch),
          shape_text(launch, spec, problem)};
}

}  // namespace

std::vector<Contest> plan_contests(const StepPlanner& planner, std::span<const StepShape> steps,
                                   std::span<const std::string> kernels) {
  check_kernel_names(planner, kernels);
  const auto is_wanted = [&](const program::PlannedLaunch& launch) {
    // What the graph compiler wrote has no space.
    const auto* spec = planner.tables().specs.find(launch.spec->name);
    return spec != nullptr && kernel::has_space(*spec, planner.target()) &&
           (kernels.empty() || std::ranges::find(kernels, spec->name) != kernels.end());
  };
  std::vector<Contest> contests;
  std::set<std::string> seen;
  for (const auto& step : steps) {
    const auto n_logits = std::min(step.n_tokens(), StepPlanner::kMaxLogitRows);
    const auto steps_of_class = StepPlanner::class_of(step, n_logits);
    const auto plan = planner.planner().plan(steps_of_class);
    for (const auto& launch : plan.launches) {
      if (!is_wanted(launch) || launch.is_empty(plan.graph, step.sizes(n_logits))) continue;
      auto contest = make_contest(planner, steps_of_class, step, n_logits, plan.graph, launch);
      if (contest.candidates.size() > 1 &&
          seen.insert(contest.kernel + " " + conditions_text(contest.when)).second)
        contests.push_back(std::move(contest));
    }
  }
  return contests;
}

}  // namespace nereid::measure
