#include "measure/launch_bench.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "measure/timing.h"

namespace nereid::measure {

namespace {

// A pool of small weights would otherwise become a plan of very many launches.
constexpr std::size_t kMaxCopies = 256;
constexpr double kMaxRoundMs = 50;

}  // namespace

LaunchBench::LaunchBench(const StepPlanner& planner, device::Device& device, kernel::Bundle bundle)
    : planner_(planner),
      device_(device),
      bundle_(std::move(bundle)),
      random_(device_, bundle_, planner_.tables()) {
  std::size_t bytes = kPoolBytes;
  for (const bool is_decode : {true, false}) {
    const auto bucket = is_decode ? 0 : engine::kNBuckets - 1;
    const auto& graph = planner_.catalog().graph({model::Tail::greedy, bucket, bucket, is_decode});
    bytes = std::max(bytes, 2 * BenchMemory::largest_weight_bytes(graph));
  }
  pool_ = device_.allocate(bytes, "weights and keys that are timed");
  device_.prefer_large_pages(pool_);  // as the engine's weights
  fill(pool_);
}

const device::Function* LaunchBench::load(const kernel::Variant& variant) {
  const device::Function*& function = functions_[&variant];
  if (function == nullptr) function = device_.load(bundle_.image(variant));
  return function;
}

void LaunchBench::fill(const device::Buffer& buffer) {
  const auto n = buffer.size_bytes() / dtype_size_bytes(planner_.config().dtype);
  constexpr double kStd = 0.02;
  random_(buffer.address(), planner_.config().dtype, static_cast<std::int64_t>(n), 1, kStd);
  device_.synchronize();
}

LaunchBench::Step LaunchBench::make_step(const StepShape& shape, std::int64_t n_logits) {
  const auto key = planner_.key_of(shape, n_logits);
  const auto& graph = planner_.catalog().graph(key);
  Step step{shape,
            key,
            {1, shape.n_tokens(), shape.n_sequences, n_logits, shape.n_query},
            &graph,
            BenchMemory(device_, graph, planner_.catalog().largest(),
                        planner_.runner_options().n_kv_blocks, pool_)};
  // Where activations are of another type than weights, on the processor, zeros do as well.
  if (engine::activation_dtype(planner_.target(), planner_.config().dtype) ==
      planner_.config().dtype)
    fill(step.memory.arena());
  step.memory.set_step(shape);
  return step;
}

LaunchBench::Copies LaunchBench::copies_of(const Step& step, const graph::PlannedLaunch& launch) {
  const auto bytes =
      std::max<std::size_t>(step.memory.pooled_bytes(step.graph->nodes[launch.node]), 1);
  const auto n = std::clamp<std::size_t>(pool_.size_bytes() / bytes, 2, kMaxCopies);
  const auto plans = std::make_shared<std::vector<graph::Plan>>();
  std::size_t offset = 0;
  for (std::size_t i = 0; i < n; ++i)
    plans->emplace_back(
        std::vector<graph::PlannedLaunch>{launch}, bundle_,
        [this](const kernel::Variant& variant) { return load(variant); },
        [&](graph::ValueId id) { return step.memory.address(id, offset); });
  const auto once = time_launches(device_, [&] { (*plans)[0].run(device_, step.sizes); },
                                  {.n_repeats = 1, .target_ms = 0});
  const auto n_in_round = static_cast<std::size_t>(kMaxRoundMs / 1e3 / once[0]);
  if (n_in_round < n)
    plans->erase(
        plans->begin() + std::max<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(n_in_round)),
        plans->end());
  return {[this, plans, sizes = step.sizes] {
            for (auto& plan : *plans) plan.run(device_, sizes);
          },
          plans->size()};
}

}  // namespace nereid::measure
