#include "engine/planning.h"

#include <fmt/ranges.h>

#include <map>

#include "base/error.h"
#include "engine/plan_catalog.h"
#include "engine/random_weights.h"
#include "graph/passes/passes.h"
#include "graph/plan_text.h"

namespace nereid::engine {

namespace {

// The planner's view of a model of which only the config is known.
class Planner {
 public:
  Planner(const model::ModelConfig& config, const std::string& target, const RunnerOptions& options)
      : options_(resolve_options(config, options, target)),
        tuning_(kernel::TuningTable::builtin(specs_)),
        catalog_(config, target, options_, tables(),
                 [dtype = config.dtype](const std::string&) { return dtype; }) {}

  graph::KernelTables tables() const { return {specs_, tuning_}; }
  const PlanCatalog& catalog() const { return catalog_; }
  const RunnerOptions& options() const { return options_; }

 private:
  RunnerOptions options_;
  const kernel::SpecTable specs_ = kernel::SpecTable::builtin();
  const kernel::TuningTable tuning_;
  PlanCatalog catalog_;
};

}  // namespace

std::vector<kernel::KernelRequest> requests_for(const model::ModelConfig& config,
                                                const std::string& target,
                                                const RunnerOptions& options,
                                                const graph::KernelTables& tables) {
  const auto reduced = PlanCatalog::representative(config);
  const PlanCatalog catalog(reduced, target, resolve_options(reduced, options, target), tables,
                            [&](const std::string&) { return config.dtype; });
  auto requests = catalog.requests();
  // A config without weights can then run on random ones from the same bundle.
  requests.push_back(RandomWeights::request(config.dtype, target, tables));
  return requests;
}

std::vector<kernel::KernelRequest> requests_for(const model::ModelConfig& config,
                                                const std::string& target,
                                                const RunnerOptions& options) {
  const auto specs = kernel::SpecTable::builtin();
  const auto tuning = kernel::TuningTable::builtin(specs);
  return requests_for(config, target, options, {specs, tuning});
}

std::string plan_id(const model::ModelConfig& config, const RunnerOptions& resolved) {
  if (config.source_sha256.empty()) return {};
  return fmt::format("{} {} {} {} {} {} {} {}", config.source_sha256, resolved.mode,
                     fmt::join(resolved.skip_passes, ","), resolved.max_batch_tokens,
                     resolved.max_sequences, resolved.max_logit_rows, resolved.max_context_tokens,
                     resolved.n_kv_blocks);
}

std::vector<kernel::KernelRequest> requests_for_all_modes(const model::ModelConfig& config,
                                                          const std::string& target,
                                                          const RunnerOptions& options) {
  std::map<std::string, kernel::KernelRequest> by_key;
  auto of_mode = options;
  for (const char* mode : {"eager", "compiled"}) {
    of_mode.mode = mode;
    for (auto& request : requests_for(config, target, of_mode)) {
      auto key = request.key();
      by_key.try_emplace(std::move(key), std::move(request));
    }
  }
  std::vector<kernel::KernelRequest> requests;
  for (auto& [key, request] : by_key) requests.push_back(std::move(request));
  return requests;
}

std::string describe_passes(const model::ModelConfig& config, const std::string& target,
                            const RunnerOptions& options) {
  auto eager = options;
  eager.mode = "eager";
  const Planner planner(PlanCatalog::representative(config), target, eager);
  const auto& graph = planner.catalog().graph(model::Tail::greedy);
  std::string text = fmt::format("# as the model's description builds it\n{}", print(graph));
  const auto fused = graph::run_passes(
      graph, {.skip = options.skip_passes,
              .observe = [&](const graph::PassRow& row, const graph::Graph& after, double ms) {
                text += fmt::format("\n# after {} ({:.3f} ms): {}\n{}", row.name, ms, row.summary,
                                    print(after));
              }});
  for (const bool is_decode : {true, false}) {
    const PlanKey key{model::Tail::greedy, is_decode ? 0 : kNBuckets - 1, 0, is_decode};
    text += fmt::format(
        "\n# what a {} step runs\n{}", is_decode ? "decoding" : "prefill",
        print(graph::legalise(fused, planner.catalog().step_class(key), options.skip_passes)));
  }
  return text;
}

std::string describe_plans(const model::ModelConfig& config, const std::string& target,
                           const RunnerOptions& options) {
  const Planner planner(config, target, options);
  const auto& resolved = planner.options();
  graph::PlanText text(planner.tables());
  text.add_line(fmt::format(
      "target {}, mode {}, activations {}, KV cache {} in blocks of {} tokens, context {}\n"
      "a step: at most {} tokens, {} sequences, {} logit rows",
      target, resolved.mode, dtype_name(activation_dtype(target, config.dtype)),
      dtype_name(config.dtype), kBlockTokens, resolved.max_context_tokens,
      resolved.max_batch_tokens, resolved.max_sequences, resolved.max_logit_rows));
  const auto plan = [&](const PlanKey& key, const graph::SymbolValues& sizes) {
    const auto& graph = planner.catalog().graph(key);
    const auto launches = planner.catalog().launches(key);
    const auto memory = graph::plan_memory(graph, sizes);
    text.add_line(fmt::format("\n{} of {}: {} launches, {} bytes of activations ({} unshared)",
                              key.is_decode ? "decode" : "prefill",
                              sizes[1] == 1 ? "1 token" : fmt::format("{} tokens", sizes[1]),
                              launches.size(), memory.arena_bytes, memory.unshared_bytes));
    text.add_launches(graph, launches, sizes);
  };
  plan({model::Tail::greedy, 0, 0, true}, {1, 1, 1, 1, 1});
  const auto n_tokens = resolved.max_batch_tokens;
  plan({model::Tail::greedy, PlanCatalog::bucket_of(n_tokens), 0, false},
       {1, n_tokens, 1, 1, n_tokens});
  return text.take();
}

}  // namespace nereid::engine
