// Goal: the one table of what numbers may be: the program's options and the API's fields are
// checked against the same rows.
// Non-goal: limits that depend on the model or the machine, such as its context or memory.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include "device/registry.h"
#include "model/shard.h"
#include "nereid/options.h"
#include "nereid/request.h"
#include "nereid/service.h"
#include "program/settings.h"

namespace nereid::engine {

template <typename T>
struct Range {
  T low;
  T high;
  std::string_view expected;  // "0 (off) to 1"
  bool is_low_excluded = false;

  // False for NaN.
  constexpr bool contains(T value) const {
    return value >= low && value <= high && !(is_low_excluded && value == low);
  }
};
using IntegerRange = Range<std::int64_t>;
using RealRange = Range<double>;
using SeedRange = Range<std::uint64_t>;

namespace ranges {

inline constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
inline constexpr double kMaxFloat = std::numeric_limits<float>::max();

// Of a request, besides its sampling (sampling_params.h).
inline constexpr SeedRange kSeed{0, std::numeric_limits<std::uint64_t>::max(),
                                 "0 to 18446744073709551615"};
inline constexpr IntegerRange kMaxTokens{0, std::numeric_limits<std::int64_t>::max(), "0 or more"};
inline constexpr IntegerRange kAnswers{1, 128, "1 to 128"};
inline constexpr IntegerRange kLogprobs{0, kMaxLogprobs, "0 to 20"};
inline constexpr RealRange kBias{-kMaxFloat, kMaxFloat, "a finite number"};

// Of an engine. The cache's positions are counted in 32 bits.
inline constexpr IntegerRange kContextTokens{0, kMaxInt32, "0 (the model's) to 2147483647"};
inline constexpr IntegerRange kBatchTokens{0, program::kMaxBatchTokens,
                                           "1 to 65536, or 0 (what suits the device)"};
inline constexpr IntegerRange kSequences{1, 65536, "1 to 65536"};
inline constexpr IntegerRange kKvBlocks{0, 16'777'216, "0 (as many as fit) to 16777216"};
inline constexpr RealRange kRankDeadline{0, 86400, "more than 0 s, to 86400", true};
inline constexpr IntegerRange kThreads{0, device::kMaxCpuThreads, "0 (all) to 1024"};

// Of a service.
inline constexpr IntegerRange kQueue{1, std::numeric_limits<std::int64_t>::max(), "1 or more"};

// Of measuring and compiling.
inline constexpr IntegerRange kCount{1, kMaxInt32, "1 to 2147483647"};
inline constexpr IntegerRange kCountOrNone{0, kMaxInt32, "0 to 2147483647"};
inline constexpr IntegerRange kRanks{1, model::kMaxRanks, "1 to 8"};
inline constexpr IntegerRange kJobs{0, 4096, "0 (one a processor) to 4096"};
inline constexpr RealRange kRate{0, kMaxFloat, "0 (all at once) or more, a second"};
inline constexpr RealRange kPart{0, 1, "0 to 1"};

}  // namespace ranges

// A UsageError names what is outside its range.
void check_options(const Options& options);
void check_options(const ServiceOptions& options);
void check_request(const Request& request);

}  // namespace nereid::engine
