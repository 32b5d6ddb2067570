// Goal: what is chosen once, when a model is opened.
// Non-goal: anything that a single request may choose (request.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>

namespace nereid {

struct Options {
  std::filesystem::path model_dir =
      {};  // a Hugging Face snapshot: config.json, *.safetensors, tokenizer.json
  // auto | cpu | cuda[:i] | null; or several that share one model: cuda:0,cuda:1 | cpu:N (N ranks)
  std::string device = "auto";
  int n_threads = 0;  // cpu: 0 is every cpu the process may run on
  // auto (the fastest that the device has) | eager | compiled | graph
  std::string mode = "auto";
  // By which design attention is computed: nereid, or a published one (amd, tutorial, dao, flex,
  // split-k, split-k-atomic; docs/attention.md), to compare.
  std::string attention = "nereid";
  // What weights are quantised to when they are loaded: int8, fp8 or int4 (docs/quantization.md);
  // empty: they stay as they are stored.
  std::string quantize = {};
  // What the products of fp8 weights take of more than 64 rows: 16 bits, 8 (e4m3, with a scale a
  // row; docs/quantization.md), or auto: 8 where the checkpoint was made for it and the device
  // multiplies such.
  std::string activations = "auto";
  // What keys and values are kept as: auto, which is the model's type, or fp8 (e4m3: half the
  // memory; docs/quantization.md).
  std::string kv_cache = "auto";
  std::set<std::string> skip_passes = {};  // passes of the graph compiler to leave out, by name
  bool is_tuned = true;  // false: kernels take their own defaults, whatever was measured
  std::int64_t max_context_tokens = 0;  // 0: as far as the model goes
  // Tokens computed in one step; longer prompts take several. 0: as many as suit the device.
  std::int64_t max_batch_tokens = 0;
  // The same of a step in which answers go on: more make prompts quicker, and the time between two
  // tokens of the answers longer. 0: as many as suit the device. Less than max_sequences + 1 is
  // taken for that: every answer gets its token, and a prompt one.
  std::int64_t max_mixed_tokens = 0;
  std::int64_t max_sequences = 64;  // requests computed in one step; further ones wait
  std::int64_t n_kv_blocks = 0;  // 0: enough for max_sequences full contexts, as far as memory goes
  // What a request gets does not depend, to the last bit, on what else is computed with it, or on
  // what was cached: every number of rows takes the same kernels. Answers come slower. (One that is
  // put back for want of cache may differ still: Stats::n_preemptions.)
  bool batch_invariant = false;
  bool prefix_caching = true;  // prompts that begin as others did are not computed again
  std::filesystem::path bundle_dir =
      {};               // compiled kernels; empty: beside the model, then the user's cache
  bool strict = false;  // fields of config.json that the model's class does not know are refused
  bool random_weights = false;  // config.json is enough; the text is noise, the speed is real
  bool print_launches = false;  // the kernel launches of the first step, on stderr
  // Debugging, slow: looks at what every launch wrote; where logits are not finite, the error says
  // where the first NaN or infinity appeared.
  bool check_numbers = false;
  // Debugging, slow: of a model on several devices, whether all have the same bits after each
  // exchange; a step where they have not is an error.
  bool check_ranks = false;
  // Of a model on several devices: a step in which none of them gets on for so long has failed.
  double rank_deadline_s = 60.0;
};

}  // namespace nereid
