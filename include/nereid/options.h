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
  std::string device = "auto";  // auto | cpu | cuda[:i] | null
  int n_threads = 0;            // cpu: 0 is every cpu the process may run on
  // auto (the fastest that the device has) | eager | compiled | graph
  std::string mode = "auto";
  std::set<std::string> skip_passes = {};  // passes of the graph compiler to leave out, by name
  std::int64_t max_context_tokens = 0;     // 0: as far as the model goes
  std::int64_t max_batch_tokens = 512;  // tokens computed in one step; longer prompts take several
  std::int64_t max_sequences = 64;      // requests computed in one step; further ones wait
  std::int64_t n_kv_blocks = 0;  // 0: enough for max_sequences full contexts, as far as memory goes
  std::filesystem::path bundle_dir =
      {};               // compiled kernels; empty: beside the model, then the user's cache
  bool strict = false;  // fields of config.json that the model's class does not know are refused
  bool random_weights = false;  // config.json is enough; the text is noise, the speed is real
  bool print_launches = false;  // the kernel launches of the first step, on stderr
  // Debugging, slow: looks at what every launch wrote; where logits are not finite, the error says
  // where the first NaN or infinity appeared.
  bool check_numbers = false;
};

}  // namespace nereid
