// What the Spec says that a kernel touches lies in what the plan gives it, scratch and counters
// included: for every launch of every plan, at the largest steps of its class.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include "model/architecture.h"
#include "program/planner.h"

namespace nereid::program {
namespace {

// Of one pointer, by the Spec; 0 where it does not say.
std::size_t touched_bytes(const StepPlan& plan, const PlannedLaunch& launch,
                          const kernel::Param& param) {
  return param.shape.empty() ? 0 : launch.bytes_of(param, plan.graph, plan.largest);
}

bool is_table_by_slot(const graph::Value& value) {
  namespace names = model::names;
  constexpr std::array<std::string_view, 5> kTables{
      names::kTokenCounts, names::kBiasIds, names::kBiasValues, names::kBiasUntil, names::kAllowed};
  return std::ranges::count(kTables, value.name) > 0;
}

int check_operands(const StepPlan& plan, const PlannedLaunch& launch) {
  int n_checked = 0;
  for (const auto& [param, id] : launch.pointers) {
    if (id == graph::kNoValue) continue;
    const auto& value = plan.graph.value(storage_of(plan.graph, id));
    // How many blocks a cache has is the program's to say; block tables name none beyond it.
    if (value.name.starts_with(model::names::kCachePrefix)) continue;
    // Of a table, ids or slots say which rows.
    const bool is_table = value.kind == graph::ValueKind::weight || is_table_by_slot(value) ||
                          (launch.spec->op == "take_ids" && param->name == "last_ids_ptr");
    if (is_table) continue;
    EXPECT_LE(touched_bytes(plan, launch, *param), graph::value_bytes(value, plan.largest))
        << launch.spec->name << " " << param->name << " is %" << value.name << "; request "
        << launch.choice->key;
    ++n_checked;
  }
  return n_checked;
}

// Scratch lies in the arena, apart from all that lives at the same time; counters have their room.
int check_own_memory(const StepPlan& plan, const PlannedLaunch& launch) {
  using Kind = kernel::ArgumentSource::Kind;
  int n_checked = 0;
  auto scratch = std::ranges::find(plan.memory.scratch, launch.node, &Scratch::node);
  for (const auto& param : launch.spec->params) {
    if (param.of.kind == Kind::counter) {
      EXPECT_LE(touched_bytes(plan, launch, param), plan.counter_bytes);
      ++n_checked;
    }
    if (param.of.kind != Kind::scratch) continue;
    EXPECT_LE(touched_bytes(plan, launch, param), scratch->bytes) << launch.spec->name;
    EXPECT_LE(scratch->offset + scratch->bytes, plan.memory.arena_bytes);
    for (const auto& [other, id] : launch.pointers) {
      const auto offset = id == graph::kNoValue ? Memory::kNotInArena
                                                : plan.memory.offsets[static_cast<std::size_t>(id)];
      if (offset == Memory::kNotInArena) continue;
      const auto bytes = graph::value_bytes(plan.graph.value(id), plan.largest);
      EXPECT_TRUE(scratch->offset + scratch->bytes <= offset || offset + bytes <= scratch->offset)
          << launch.spec->name << ": " << param.name << " and " << other->name;
    }
    ++scratch;
    ++n_checked;
  }
  return n_checked;
}

void check_model(model::ModelConfig config, std::int64_t vocab_size, std::int64_t batch,
                 const std::string& target, const KernelTables& tables) {
  config.vocab_size = vocab_size;
  config = representative(config);
  Options options;
  options.max_sequences = batch;
  options.max_batch_tokens = std::max<std::int64_t>(batch, 512);
  const Planner planner(config, resolve(config, options, target), tables);
  int n_operands = 0;
  int n_own = 0;
  for (const auto tail : kTails)
    for (std::size_t bucket = 0; bucket < kNBuckets; ++bucket)
      for (const bool is_decode : {false, true}) {
        const auto plan = planner.plan({tail, is_decode, bucket, bucket});
        for (const auto& launch : plan.launches) {
          n_operands += check_operands(plan, launch);
          n_own += check_own_memory(plan, launch);
        }
      }
  EXPECT_GT(n_operands, 1000);
  EXPECT_GT(n_own, target == "cpu" ? -1 : 40);  // kernels for CPUs share no row
}

class OperandBytes : public testing::TestWithParam<const char*> {};

TEST_P(OperandBytes, AreThereForEveryVocabularyAndBatch) {
  const auto tables = KernelTables::builtin();
  const auto config =
      model::ModelConfig::load(std::filesystem::path(NEREID_SOURCE_DIR) / "tests/fixtures/qwen3");
  for (const std::int64_t vocab_size : {33, 32000, 131073, 151936, 262144})
    for (const std::int64_t batch : {1, 2, 16, 64, 256}) {
      SCOPED_TRACE(fmt::format("vocabulary {}, batch {}", vocab_size, batch));
      check_model(config, vocab_size, batch, GetParam(), tables);
      if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, OperandBytes,
                         testing::Values("cpu", "cuda:80", "cuda:90", "hip:gfx942"));

}  // namespace
}  // namespace nereid::program
