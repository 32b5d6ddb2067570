// What the Spec says that a kernel touches lies in what the graph gives it: for every launch of
// every plan, at the largest steps of its class.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "engine/plan_catalog.h"
#include "graph/memory_plan.h"
#include "model/architecture.h"

namespace nereid::engine {
namespace {

struct Tables {
  kernel::SpecTable specs = kernel::SpecTable::builtin();
  kernel::TuningTable tuning = kernel::TuningTable::builtin(specs);
  graph::KernelTables tables{specs, tuning};
};

// By the Spec, of one pointer of a launch; 0 where it does not say.
std::int64_t touched_bytes(const graph::Graph& graph, const graph::PlannedLaunch& launch,
                           const kernel::Param& param, DType dtype,
                           const graph::SymbolValues& sizes) {
  if (param.shape.empty()) return 0;
  const kernel::Expression::Lookup lookup =
      [&](std::string_view name) -> std::optional<std::int64_t> {
    for (const auto& [size, dim] : launch.call.sizes)
      if (size == name) return graph::dim_value(dim, sizes);
    if (const auto it = launch.request.constexprs.find(std::string(name));
        it != launch.request.constexprs.end())
      return it->second;
    for (const auto& [pointer, id] : launch.call.pointers)
      if (name == "sizeof(" + pointer + ")")
        return id == graph::kNoValue ? 0 : std::int64_t(dtype_size_bytes(graph.value(id).dtype));
    return std::nullopt;
  };
  std::int64_t n = 1;
  for (const auto& extent : param.shape) n *= extent.evaluate(lookup);
  return n * std::int64_t(dtype_size_bytes(dtype));
}

int check_launch(const graph::Graph& graph, const graph::PlannedLaunch& launch,
                 const kernel::Spec& spec, const graph::SymbolValues& sizes) {
  int n_checked = 0;
  for (const auto& [name, id] : launch.call.pointers) {
    if (id == graph::kNoValue) continue;
    const auto& value = graph.value(graph::storage_of(graph, id));
    // How many blocks a cache has is the runner's to say; block tables name none beyond it.
    if (value.name.starts_with(model::names::kCachePrefix)) continue;
    // Of a table, ids or slots say which rows.
    if (value.kind == graph::ValueKind::weight || value.name == model::names::kSeen) continue;
    const auto touched = touched_bytes(graph, launch, *spec.find_param(name), value.dtype, sizes);
    const auto held = std::int64_t(graph::value_bytes(value, sizes));
    EXPECT_LE(touched, held) << spec.name << " " << name << " is %" << value.name << "; request "
                             << launch.request.key();
    ++n_checked;
  }
  return n_checked;
}

void check_model(model::ModelConfig config, std::int64_t vocab_size, std::int64_t batch,
                 const std::string& target, const Tables& t) {
  config.vocab_size = vocab_size;
  config = PlanCatalog::representative(config);
  RunnerOptions options;
  options.max_sequences = batch;
  options.max_batch_tokens = std::max<std::int64_t>(batch, 512);
  options = resolve_options(config, options, target);
  const PlanCatalog catalog(config, target, options, t.tables,
                            [&](const std::string&) { return config.dtype; });
  int n_checked = 0;
  for (std::size_t tail = 0; tail < kNTails; ++tail)
    for (std::size_t tokens = 0; tokens < kNBuckets; ++tokens)
      for (const bool is_decode : {false, true}) {
        const PlanKey key{static_cast<model::Tail>(tail), tokens, tokens, is_decode};
        const auto steps = catalog.step_class(key);
        const graph::SymbolValues sizes{1, steps.max_tokens,
                                        std::min(steps.max_sequences, steps.max_tokens),
                                        steps.max_logits, is_decode ? 1 : steps.max_tokens};
        const auto& graph = catalog.graph(key);
        for (const auto& launch : catalog.launches(key))
          n_checked += check_launch(graph, launch, kernel::spec_of(launch.request, t.specs), sizes);
      }
  EXPECT_GT(n_checked, 1000);
}

class OperandBytes : public testing::TestWithParam<const char*> {};

TEST_P(OperandBytes, AreThereForEveryVocabularyAndBatch) {
  const Tables t;
  const auto config =
      model::ModelConfig::load(std::filesystem::path(NEREID_SOURCE_DIR) / "tests/fixtures/qwen3");
  for (const std::int64_t vocab_size : {33, 32000, 131073, 151936, 262144, 300000})
    for (const std::int64_t batch : {1, 2, 5, 16, 64, 256}) {
      SCOPED_TRACE(fmt::format("vocabulary {}, batch {}", vocab_size, batch));
      check_model(config, vocab_size, batch, GetParam(), t);
      if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, OperandBytes,
                         testing::Values("cpu", "cuda:80", "cuda:90", "hip:gfx942"));

}  // namespace
}  // namespace nereid::engine
