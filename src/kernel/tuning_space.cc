#include "kernel/tuning_space.h"

#include <optional>
#include <set>
#include <string>

#include "base/error.h"

namespace nereid::kernel {

namespace {

// Far more than anybody waits for.
constexpr std::size_t kMaxCombinations = 4096;

// All that the planner and the choice have decided.
Expression::Lookup lookup_of(const KernelRequest& request, const Problem& problem) {
  return [&](std::string_view name) -> std::optional<std::int64_t> {
    const std::string key(name);
    if (name == "num_warps") return request.num_warps;
    if (name == "num_stages") return request.num_stages;
    for (const auto* known : {&request.constexprs, &problem.sizes, &problem.largest})
      if (const auto it = known->find(key); it != known->end()) return it->second;
    for (const auto& [pointer, dtype] : problem.pointers)
      if (key == "sizeof(" + pointer + ")")
        return static_cast<std::int64_t>(dtype_size_bytes(dtype));
    return std::nullopt;
  };
}

// Every combination of the values, the last name's values next to each other.
std::vector<Choice> combinations(const Spec& spec, const TuningSpace& space) {
  std::vector<Choice> choices{{}};
  for (const auto& [name, values] : space.values) {
    std::vector<Choice> longer;
    for (const auto& choice : choices)
      for (const auto& value : values) {
        longer.push_back(choice);
        longer.back()[name] = value;
      }
    choices = std::move(longer);
    NEREID_CHECK(choices.size() <= kMaxCombinations, "kernel {}: a space of {} choices", spec.name,
                 choices.size());
  }
  return choices;
}

const TuningSpace* space_of(const Spec& spec, std::string_view target) {
  const auto it = spec.spaces.find(std::string(target_family(target)));
  return it == spec.spaces.end() || it->second.values.empty() ? nullptr : &it->second;
}

}  // namespace

bool has_space(const Spec& spec, std::string_view target) {
  return space_of(spec, target) != nullptr;
}

std::vector<KernelRequest> tuning_candidates(const Spec& spec, const TuningTable& tuning,
                                             std::string_view target, const Problem& problem) {
  std::vector<KernelRequest> candidates{make_request(spec, tuning, target, problem)};
  const TuningSpace* space = space_of(spec, target);
  if (space == nullptr) return candidates;
  std::set<std::string> keys{candidates[0].key()};
  for (const auto& choice : combinations(spec, *space)) {
    auto request = make_request(spec, tuning, target, problem, choice);
    if (space->where.evaluate(lookup_of(request, problem)) == 0) continue;
    if (keys.insert(request.key()).second) candidates.push_back(std::move(request));
  }
  return candidates;
}

}  // namespace nereid::kernel
