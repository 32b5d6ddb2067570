#include "engine/planning.h"

#include "base/error.h"
#include "engine/plan_catalog.h"
#include "engine/random_weights.h"

namespace nereid::engine {

namespace {

// The planner's view of a model of which only the config is known.
class Planner {
 public:
  Planner(const model::ModelConfig& config, const std::string& target, const RunnerOptions& options)
      : options_(resolve_options(config, options)),
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
                                                const RunnerOptions& options) {
  const Planner planner(PlanCatalog::representative(config), target, options);
  auto requests = planner.catalog().requests();
  // A config without weights can then run on random ones from the same bundle.
  requests.push_back(RandomWeights::request(config.dtype, target, planner.tables()));
  return requests;
}

std::string describe_plans(const model::ModelConfig& config, const std::string& target,
                           const RunnerOptions& options) {
  const Planner planner(config, target, options);
  const auto& resolved = planner.options();
  std::string text = fmt::format(
      "target {}, mode {}, activations {}, KV cache {} in blocks of {} tokens, context {}\n"
      "a step: at most {} tokens, {} sequences, {} logit rows\n",
      target, resolved.mode, dtype_name(activation_dtype(target, config.dtype)),
      dtype_name(config.dtype), kBlockTokens, resolved.max_context_tokens,
      resolved.max_batch_tokens, resolved.max_sequences, resolved.max_logit_rows);
  const auto plan = [&](const PlanKey& key, const graph::SymbolValues& sizes) {
    const auto& graph = planner.catalog().graph(key.tail);
    const auto launches = planner.catalog().launches(key);
    const auto memory = graph::plan_memory(graph, sizes);
    text += fmt::format("\n{} of {} tokens: {} launches, {} bytes of activations ({} unshared)\n",
                        key.is_decode ? "decode" : "prefill", sizes[1], launches.size(),
                        memory.arena_bytes, memory.unshared_bytes);
    text += graph::describe(graph, launches, sizes, planner.tables());
  };
  plan({model::Tail::greedy, 0, 0, true}, {1, 1, 1, 1, 1});
  const auto n_tokens = resolved.max_batch_tokens;
  plan({model::Tail::greedy, PlanCatalog::bucket_of(n_tokens), 0, false},
       {1, n_tokens, 1, 1, n_tokens});
  return text;
}

}  // namespace nereid::engine
