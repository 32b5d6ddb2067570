// Times llama.cpp through its library, as its own llama-bench does (that program takes a hundred
// more files to compile): random ids, one warm-up, no sampling; a prompt in one batch with the
// logits of its last token, then tokens one by one. One JSON object a line.
//
//   llama_bench MODEL.gguf THREADS,... N_PROMPT N_OUTPUT REPEATS
//   llama_bench quantize FROM.gguf TO.gguf TYPE     (Q8_0, Q4_0, Q4_K_M)
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "llama.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void compute(llama_context* context, std::vector<llama_token>& ids) {
  if (llama_decode(context, llama_batch_get_one(ids.data(), static_cast<int>(ids.size()))) != 0) {
    std::fprintf(stderr, "llama_decode failed\n");
    std::exit(1);
  }
  llama_synchronize(context);
}

int quantize(const char* from, const char* to, const std::string& type) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  if (type == "Q8_0")
    params.ftype = LLAMA_FTYPE_MOSTLY_Q8_0;
  else if (type == "Q4_0")
    params.ftype = LLAMA_FTYPE_MOSTLY_Q4_0;
  else if (type == "Q4_K_M")
    params.ftype = LLAMA_FTYPE_MOSTLY_Q4_K_M;
  else {
    std::fprintf(stderr, "type %s: expected Q8_0, Q4_0 or Q4_K_M\n", type.c_str());
    return 1;
  }
  return static_cast<int>(llama_model_quantize(from, to, &params));
}

}  // namespace

int main(int argc, char** argv) {
  const auto start = Clock::now();
  const bool quantizes = argc == 5 && std::string(argv[1]) == "quantize";
  if (argc != 6 && !quantizes) {
    std::fprintf(stderr,
                 "usage: llama_bench MODEL.gguf THREADS,... N_PROMPT N_OUTPUT REPEATS\n"
                 "       llama_bench quantize FROM.gguf TO.gguf TYPE\n");
    return 1;
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  if (quantizes) return quantize(argv[2], argv[3], argv[4]);
  const int n_prompt = std::atoi(argv[3]), n_output = std::atoi(argv[4]);
  const int n_repeats = std::atoi(argv[5]);
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) {
    std::fprintf(stderr, "%s: cannot be loaded\n", argv[1]);
    return 1;
  }
  const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::mt19937 random(1);
  const auto ids = [&](int n) {
    std::vector<llama_token> tokens(static_cast<std::size_t>(n));
    for (auto& id : tokens)
      id = static_cast<llama_token>(random() % static_cast<unsigned>(n_vocab));
    return tokens;
  };
  bool is_first = true;
  std::string list = argv[2];
  for (std::size_t at = 0; at < list.size();) {
    const auto comma = std::min(list.find(',', at), list.size());
    const int n_threads = std::atoi(list.substr(at, comma - at).c_str());
    at = comma + 1;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(n_prompt + n_output);
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = n_threads;
    llama_context* context = llama_init_from_model(model, params);
    if (context == nullptr) return 1;
    if (is_first) {
      auto few = ids(16);
      compute(context, few);
      const float* logits = llama_get_logits_ith(context, -1);
      const auto id = std::max_element(logits, logits + n_vocab) - logits;
      std::printf("{\"threads\": %d, \"first_token_ms\": %.1f, \"id\": %d}\n", n_threads,
                  1e3 * seconds_since(start), static_cast<int>(id));
      is_first = false;
    }
    std::vector<double> prefill, decode;
    for (int i = -1; i < n_repeats; ++i) {
      llama_memory_clear(llama_get_memory(context), true);
      auto prompt = ids(n_prompt);
      auto begin = Clock::now();
      compute(context, prompt);
      const double prompt_s = seconds_since(begin);
      llama_memory_clear(llama_get_memory(context), true);
      begin = Clock::now();
      for (int k = 0; k < n_output; ++k) {
        auto one = ids(1);
        compute(context, one);
      }
      if (i < 0) continue;
      prefill.push_back(n_prompt / prompt_s);
      decode.push_back(n_output / seconds_since(begin));
    }
    const auto print = [&](const char* what, int n, std::vector<double> rates) {
      std::sort(rates.begin(), rates.end());
      std::printf("{\"threads\": %d, \"test\": \"%s%d\", \"tokens_per_s\": %.1f, \"best\": %.1f}\n",
                  n_threads, what, n, rates[rates.size() / 2], rates.back());
    };
    print("prefill", n_prompt, prefill);
    print("decode", n_output, decode);
    llama_free(context);
  }
  llama_model_free(model);
}
