// Goal: the one table of the parameters by which a request has its next tokens chosen. Requests are
// checked, command lines read and steps filled by its rows: a new one is a field of SamplingParams,
// a row here, a role of the op `sample` or `adjust_logits` and what its kernel does with it.
// Non-goal: what a parameter does to logits (kernels/sample.py, kernels/adjust_logits.py).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "engine/ranges.h"
#include "model/generation_settings.h"
#include "nereid/request.h"
#include "program/step_inputs.h"

namespace nereid::engine {

template <typename Value, typename Limit>
struct SamplingField {
  Value SamplingParams::*member;
  Range<Limit> range;
};
using RealField = SamplingField<float, double>;
using IntegerField = SamplingField<std::int32_t, std::int64_t>;

struct SamplingParam {
  std::string_view name;  // of the field, the op's role and the input of its graphs
  std::variant<RealField, IntegerField> field;
  const char* help;  // of the program's option: --top-k for "top_k"
};

inline constexpr std::array kSamplingParams{
    SamplingParam{
        "temperature",
        RealField{&SamplingParams::temperature, {0, ranges::kMaxFloat, "0 (greedy) or more"}},
        "0: always the likeliest token; 1: as the model learnt; larger is more random"},
    SamplingParam{"top_k",
                  IntegerField{&SamplingParams::top_k,
                               {-1, ranges::kMaxInt32, "-1 or 0 (off), or 1 to 2147483647"}},
                  "Choose among the K likeliest tokens; 0 or -1: all"},
    SamplingParam{
        "top_p", RealField{&SamplingParams::top_p, {0, 1, "more than 0 and at most 1 (off)", true}},
        "Choose among the likeliest tokens that together have this probability; 1: all"},
    SamplingParam{"min_p", RealField{&SamplingParams::min_p, {0, 1, "0 (off) to 1"}},
                  "Choose among tokens at least this fraction as likely as the best; 0: all"},
    SamplingParam{"repetition_penalty",
                  RealField{&SamplingParams::repetition_penalty,
                            {0, ranges::kMaxFloat, "more than 0 (1: off)", true}},
                  "Above 1: what was said before becomes less likely"},
    SamplingParam{"presence_penalty",
                  RealField{&SamplingParams::presence_penalty,
                            {-ranges::kMaxFloat, ranges::kMaxFloat, "a finite number (0: off)"}},
                  "Above 0: what the answer has said becomes less likely; usual are -2 to 2"},
    SamplingParam{"frequency_penalty",
                  RealField{&SamplingParams::frequency_penalty,
                            {-ranges::kMaxFloat, ranges::kMaxFloat, "a finite number (0: off)"}},
                  "The same, for each time that the answer has said it"},
};

// What a model's makers suggest, over a temperature of 1. An Error names the file and the field
// that is out of range.
SamplingParams suggested_sampling(const model::GenerationSettings& settings);

// How one row's next id is chosen: what its request asked for, and what the engine knows of it.
struct SamplingRow {
  SamplingParams params;
  std::uint64_t seed = 0;  // that of the parameters, or the request's own
  // Tokens generated before this one: with the seed, the random number's key.
  std::int32_t n_generated = 0;
  std::int32_t slot = -1;   // row of the tables by slot; -1: has none, and its logits stay
  std::int32_t n_top = -1;  // of the likeliest tokens, log-probabilities; -1: not even the chosen

  bool has_penalty() const {
    return params.repetition_penalty != 1.0F || params.presence_penalty != 0.0F ||
           params.frequency_penalty != 0.0F;
  }
  // Whether greedy or plain sampling is not enough for it.
  bool needs_tables() const { return slot >= 0 || n_top >= 0; }
};

// The inputs that a sampling step reads, a value a row of logits each. Found by their names once,
// so that no step looks one up; where their elements are may change from step to step.
class SamplingInputs {
 public:
  explicit SamplingInputs(const program::StepInputs& inputs);

  void fill(program::StepInputs& inputs, std::span<const SamplingRow> rows) const;

 private:
  std::array<int, kSamplingParams.size()> params_{};  // handles
  int seed_, n_generated_, slot_, n_top_;
};

}  // namespace nereid::engine
