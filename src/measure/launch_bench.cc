#include "measure/launch_bench.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/quantile.h"
#include "device/registry.h"
#include "measure/copies.h"
#include "measure/timing.h"

namespace nereid::measure {

namespace {

namespace names = model::names;

constexpr double kMaxRoundMs = 50;
constexpr double kUsPerSecond = 1e6;

// To a round that does not take too long.
void shorten(device::Device& device, std::vector<program::BoundLaunch>& launches,
             const graph::Sizes& sizes) {
  const auto once = time_launches(device, [&] { launches[0].run(device, sizes); },
                                  {.n_repeats = 1, .target_ms = 0});
  const auto n_in_round = static_cast<std::size_t>(kMaxRoundMs / 1e3 / once[0]);
  if (n_in_round < launches.size())
    launches.erase(
        launches.begin() + std::max<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(n_in_round)),
        launches.end());
}

}  // namespace

double median_us_of_round(device::Device& device, std::vector<program::BoundLaunch> launches,
                          const graph::Sizes& sizes, int n_repeats) {
  shorten(device, launches, sizes);
  const auto seconds = time_launches(device,
                                     [&] {
                                       for (auto& launch : launches) launch.run(device, sizes);
                                     },
                                     {.n_repeats = n_repeats, .target_ms = LaunchBench::kSampleMs});
  return median(seconds) / static_cast<double>(launches.size()) * kUsPerSecond;
}

std::unique_ptr<device::Device> open_device_of(const std::string& target, int n_threads) {
  std::unique_ptr<device::Device> device;
  try {
    device = device::open_device(
        {.name = std::string(kernel::target_family(target)), .n_threads = n_threads});
  } catch (const Error& error) {
    throw Error("--target {}: expected a device of this target here: {}", target, error.what());
  }
  const auto& info = device->info();
  if (info.target != target)
    throw Error("--target {}: expected a device of this target here, got {} ({}) of target {}",
                target, info.name, info.description, info.target);
  return device;
}

LaunchBench::LaunchBench(const StepPlanner& planner, device::Device& device,
                         std::optional<kernel::Bundle> bundle)
    : planner_(planner),
      device_(device),
      program_(device, planner.config(), planner.options(), std::move(bundle)),
      random_(device_, program_.bundle(), planner_.tables()) {
  std::size_t bytes = kPoolBytes;
  for (const auto& value : planner_.planner().graph(model::Tail::greedy).values)
    bytes = std::max(bytes, 2 * pooled_bytes(value));
  pool_ = device_.allocate(bytes, "weights and keys that are timed");
  device_.prefer_large_pages(pool_);  // as the engine's weights
  fill(pool_.address(), pool_.size_bytes());
}

void LaunchBench::fill(device::Address address, std::size_t size_bytes) {
  const auto dtype = planner_.config().dtype;
  constexpr double kStd = 0.02;
  random_(address, dtype, static_cast<std::int64_t>(size_bytes / dtype_size_bytes(dtype)), 1, kStd);
  device_.synchronize();
}

// Weights and caches, which lie in the pool; 0 for all else.
std::size_t LaunchBench::pooled_bytes(const graph::Value& value) const {
  if (program::is_cache(value))
    return aligned(program::cache_bytes(value, program_.limits().n_kv_blocks));
  const bool is_weight = value.kind == graph::ValueKind::weight && !names::is_computed(value.name);
  return is_weight ? aligned(graph::value_bytes(value)) : 0;
}

// What a launch of the step touches of it. Copies of whole caches would be so few that a cache of
// the device holds what short contexts read of them all.
std::size_t LaunchBench::touched_bytes(const Step& step, const graph::Value& value) const {
  if (!program::is_cache(value)) return pooled_bytes(value);
  const auto block_tokens = program_.limits().block_tokens;
  const auto n_blocks = (step.shape.n_context + block_tokens - 1) / block_tokens;
  return aligned(program::cache_bytes(value, step.shape.n_sequences * n_blocks));
}

void LaunchBench::set_inputs(const StepShape& shape, const graph::Sizes& sizes) {
  const auto n = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  const auto& limits = program_.limits();
  const auto n_blocks = (shape.n_context + limits.block_tokens - 1) / limits.block_tokens;
  NEREID_CHECK(n_blocks <= limits.max_blocks_per_sequence() &&
                   shape.n_sequences * n_blocks <= limits.n_kv_blocks,
               "{} blocks a sequence, {} columns, {} blocks", n_blocks,
               limits.max_blocks_per_sequence(), limits.n_kv_blocks);
  auto& inputs = program_.begin({model::Tail::greedy, sizes});
  std::vector<std::int32_t> starts{0};
  std::vector<std::int32_t> contexts, table, positions, slots;
  for (std::int64_t s = 0; s < shape.n_sequences; ++s) {
    starts.push_back(n((s + 1) * shape.n_query));
    contexts.push_back(n(shape.n_context));
    table.clear();
    for (std::int64_t b = 0; b < n_blocks; ++b) table.push_back(n(s * n_blocks + b));
    inputs.set_table_row(static_cast<std::size_t>(s), table);
    for (std::int64_t q = 0; q < shape.n_query; ++q) {
      const auto position = shape.n_context - shape.n_query + q;
      positions.push_back(n(position));
      slots.push_back(n(s * n_blocks * limits.block_tokens + position));
    }
  }
  const auto write = [&](const char* name, const std::vector<std::int32_t>& values) {
    std::ranges::copy(values, inputs.elements<std::int32_t>(inputs.handle(name)).begin());
  };
  write(names::kQueryStarts, starts);
  write(names::kContextLens, contexts);
  write(names::kPositions, positions);
  write(names::kSlots, slots);
  inputs.send();
  device_.synchronize();
}

LaunchBench::Step LaunchBench::make_step(const StepShape& shape, std::int64_t n_logits) {
  auto plan = program_.planner().plan(StepPlanner::class_of(shape, n_logits));
  auto addresses = program_.addresses_of(plan);
  // Where activations are of another type than weights, on the processor, what they hold does not
  // matter.
  const auto dtype = planner_.config().dtype;
  if (program::activation_dtype(planner_.target(), dtype) == dtype)
    fill(addresses.arena, plan.memory.arena_bytes);
  set_inputs(shape, shape.sizes(n_logits));
  return {shape, shape.sizes(n_logits), std::move(plan), std::move(addresses)};
}

// Scratch and counters: another choice may need more than the plan's.
device::Buffer LaunchBench::own_memory(const Step& step, const program::PlannedLaunch& launch,
                                       program::Addresses& addresses) {
  using Kind = kernel::ArgumentSource::Kind;
  std::size_t counter_bytes = 0;
  std::size_t n_bytes = 0;
  addresses.scratch.clear();
  for (const auto& param : launch.spec->params) {
    const auto bytes = [&] { return launch.bytes_of(param, step.plan.graph, step.plan.largest); };
    if (param.of.kind == Kind::counter) counter_bytes = std::max(counter_bytes, aligned(bytes()));
    if (param.of.kind != Kind::scratch) continue;
    addresses.scratch.push_back({launch.node, bytes(), n_bytes});
    n_bytes += aligned(bytes());
  }
  n_bytes += counter_bytes;
  auto own = device_.allocate(std::max(n_bytes, kAlignmentBytes), "scratch");
  device_.fill_zero(own.address(), own.size_bytes());
  addresses.counters = own.address() + n_bytes - counter_bytes;
  addresses.arena = own.address();
  return own;
}

LaunchBench::Copies LaunchBench::copies_of(const Step& step, const program::PlannedLaunch& launch) {
  const auto* variant = program_.bundle().find(launch.choice->key);
  NEREID_CHECK(variant != nullptr, "the bundle lacks {}", launch.choice->key);
  const auto* function = program_.load(*variant);
  auto addresses = step.addresses;
  const auto own = std::make_shared<device::Buffer>(own_memory(step, launch, addresses));
  std::vector<std::pair<std::size_t, std::size_t>> pooled;  // id, bytes
  std::size_t bytes = 1;
  for (const auto& [param, id] : launch.pointers)
    if (id != graph::kNoValue)
      if (const auto n = touched_bytes(step, step.plan.graph.value(id)); n > 0) {
        pooled.emplace_back(static_cast<std::size_t>(id), n);
        bytes += n;
      }
  const auto n = std::clamp<std::size_t>(pool_.size_bytes() / bytes, 2, kMaxCopies);
  const auto launches = std::make_shared<std::vector<program::BoundLaunch>>();
  std::size_t offset = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (const auto& [id, n_bytes] : pooled) {
      if (offset + n_bytes > pool_.size_bytes()) offset = 0;
      addresses.values[id] = pool_.address() + offset;
      offset += n_bytes;
    }
    launches->push_back(program::bind(launch, *variant, function, addresses));
  }
  shorten(device_, *launches, step.sizes);
  return {[this, own, launches, sizes = step.sizes] {
            for (auto& bound : *launches) bound.run(device_, sizes);
          },
          launches->size()};
}

double LaunchBench::median_us(const Step& step, const program::PlannedLaunch& launch,
                              int n_repeats) {
  const auto copies = copies_of(step, launch);
  const auto seconds =
      time_launches(device_, copies.queue, {.n_repeats = n_repeats, .target_ms = kSampleMs});
  return median(seconds) / static_cast<double>(copies.n) * kUsPerSecond;
}

}  // namespace nereid::measure
