#include "engine/sampling_params.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>

#include "base/error.h"
#include "model/architecture.h"

namespace nereid::engine {

namespace {

int handle_of(const program::StepInputs& inputs, std::string_view name) {
  const int handle = inputs.handle(std::string(name));
  NEREID_CHECK(handle >= 0, "no graph that samples reads {}", name);
  return handle;
}

std::optional<double> parse_real(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

SamplingParams suggested_sampling(const model::GenerationSettings& settings) {
  SamplingParams sampling{.temperature = 1.0F};
  for (const auto& [name, text, source] : settings.sampling)
    for (const auto& param : kSamplingParams) {
      if (param.name != name) continue;
      const auto value = parse_real(text);
      std::visit(
          [&](const auto& field) {
            using Value = std::remove_reference_t<decltype(sampling.*field.member)>;
            if (!value || !field.range.contains(*value))
              throw Error("{}: \"{}\" = {}: expected {}", source, name, text, field.range.expected);
            sampling.*field.member = Value(*value);
          },
          param.field);
    }
  return sampling;
}

SamplingInputs::SamplingInputs(const program::StepInputs& inputs)
    : seed_(handle_of(inputs, model::names::kSeed)),
      n_generated_(handle_of(inputs, model::names::kStep)),
      slot_(handle_of(inputs, model::names::kRowSlots)),
      n_top_(handle_of(inputs, model::names::kNTop)) {
  for (std::size_t p = 0; p < params_.size(); ++p)
    params_[p] = handle_of(inputs, kSamplingParams[p].name);
}

void SamplingInputs::fill(program::StepInputs& inputs, std::span<const SamplingRow> rows) const {
  for (std::size_t p = 0; p < params_.size(); ++p)
    std::visit(
        [&](const auto& field) {
          using Value = std::remove_cvref_t<decltype(rows[0].params.*field.member)>;
          std::ranges::transform(rows, inputs.elements<Value>(params_[p]).begin(),
                                 [&](const SamplingRow& row) { return row.params.*field.member; });
        },
        kSamplingParams[p].field);
  const auto fill_with = [&]<typename T>(int handle, T SamplingRow::*member) {
    std::ranges::transform(rows, inputs.elements<T>(handle).begin(), member);
  };
  fill_with(seed_, &SamplingRow::seed);
  fill_with(n_generated_, &SamplingRow::n_generated);
  fill_with(slot_, &SamplingRow::slot);
  fill_with(n_top_, &SamplingRow::n_top);
}

}  // namespace nereid::engine
