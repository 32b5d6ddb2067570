#include "engine/sampling_params.h"

#include <bit>
#include <string>

#include "base/error.h"
#include "model/architecture.h"

namespace nereid::engine {

namespace {

template <typename T>
std::span<T> column(program::StepInputs& inputs, std::string_view name) {
  const int handle = inputs.handle(std::string(name));
  NEREID_CHECK(handle >= 0, "no graph that samples reads {}", name);
  return inputs.elements<T>(handle);
}

}  // namespace

SamplingInputs::SamplingInputs(program::StepInputs& inputs)
    : seed_(column<std::uint64_t>(inputs, model::names::kSeed)),
      n_generated_(column<std::int32_t>(inputs, model::names::kStep)),
      slot_(column<std::int32_t>(inputs, model::names::kRowSlots)) {
  for (std::size_t p = 0; p < params_.size(); ++p)
    params_[p] = column<std::uint32_t>(inputs, kSamplingParams[p].name);
}

void SamplingInputs::fill_row(std::size_t i, const SamplingRow& row) const {
  for (std::size_t p = 0; p < params_.size(); ++p)
    params_[p][i] = std::visit(
        [&](const auto& field) { return std::bit_cast<std::uint32_t>(row.params.*field.member); },
        kSamplingParams[p].field);
  seed_[i] = row.seed;
  n_generated_[i] = row.n_generated;
  slot_[i] = row.slot;
}

}  // namespace nereid::engine
