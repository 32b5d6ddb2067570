// Goal: options resolved once for a model and a target: what stands for "choose" is replaced, what
// is out of range is an Error.
// Non-goal: limits that memory sets (Program chooses the number of cache blocks).
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/shard.h"
#include "nereid/options.h"
#include "sched/limits.h"
#include "tensor/dtype.h"

namespace nereid::program {

inline constexpr std::int64_t kBlockTokens = 64;
inline constexpr std::int64_t kMaxBatchTokens = 65536;

struct Settings {
  std::string target;  // "cpu", "cuda:90", "hip:gfx942"
  std::string mode;    // eager | compiled | graph
  std::set<std::string> skip_passes;
  bool is_tuned = true;             // kernels' choices are measured ones, where there are such
  bool is_batch_invariant = false;  // kernels do not depend on a step's number of rows
  sched::Limits limits;             // n_kv_blocks 0: as many as fit
  std::optional<model::Quantization> quantization = {};  // of the checkpoint, or of this run
  std::string attention = {};  // a design (attention_designs.h); empty: this program's own
  DType kv_cache = DType::fp16;
  model::Shard shard = {};  // what of the model this program is
  // On a processor: whether products of integers are faster than those of fp32.
  bool multiplies_bytes = true;
  // Whether weights of e4m3 with a scale a row are multiplied by rows of e4m3, where a kernel takes
  // them.
  bool has_fp8_activations = false;
};

// What the checkpoint is, or becomes when it is loaded as `asked` (Options::quantize).
std::optional<model::Quantization> quantization_of(const model::ModelConfig& config,
                                                   const std::string& asked);

// Of keys and values, as asked (Options::kv_cache). An Error where the checkpoint asks for a narrow
// cache that is another.
DType kv_cache_dtype(const model::ModelConfig& config, const std::string& asked);

// Whether rows become e4m3, as asked (Options::activations), for weights quantised so. An Error
// where what was asked for is not to be had.
bool has_fp8_activations(const std::optional<model::Quantization>& quantization,
                         const Options& options, std::string_view target);

Settings resolve(const model::ModelConfig& config, const Options& options,
                 const std::string& target, const model::Shard& shard = {});

// "auto" becomes the fastest mode of the target. An Error where there is no such mode.
std::string resolve_mode(const std::string& mode, std::string_view target);

// Element type of activations: the processor computes in fp32 whatever the weights are.
DType activation_dtype(std::string_view target, DType weights);

}  // namespace nereid::program
