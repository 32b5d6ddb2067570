#include "program/memory.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace nereid::program {

namespace {

using graph::Graph;
using graph::ValueId;
using graph::ValueKind;

// Vector loads and the divisibility promised to kernels want at least 16; 64 is a cache line.
constexpr std::size_t kArenaAlignmentBytes = 64;

struct Lifetime {
  std::size_t* place;       // where its offset goes
  std::size_t first, last;  // node indices, inclusive
  std::size_t bytes;
  std::size_t offset = 0;
};

// For each output of a node that is an operand in place: which operand. -1 elsewhere.
std::vector<ValueId> direct_aliases(const Graph& graph) {
  std::vector<ValueId> alias(graph.values.size(), -1);
  for (const auto& node : graph.nodes)
    for (const auto& [output, operand] : node.row().aliases)
      alias[static_cast<std::size_t>(node.outputs[output])] = node.inputs[operand];
  return alias;
}

// Bytes from the start of its operand to the start of a slice.
std::vector<std::size_t> slice_offsets(const Graph& graph) {
  std::vector<std::size_t> offsets(graph.values.size(), 0);
  for (const auto& node : graph.nodes)
    if (node.op == graph::Op::slice)
      offsets[static_cast<std::size_t>(node.outputs[0])] =
          static_cast<std::size_t>(node.int_attr("begin")) *
          dtype_size_bytes(graph.value(node.outputs[0]).dtype);
  return offsets;
}

ValueId follow(const std::vector<ValueId>& alias, ValueId id) {
  while (alias[static_cast<std::size_t>(id)] >= 0) id = alias[static_cast<std::size_t>(id)];
  return id;
}

std::size_t bytes_from_root(const std::vector<ValueId>& alias,
                            const std::vector<std::size_t>& within, ValueId id) {
  std::size_t bytes = 0;
  for (; alias[static_cast<std::size_t>(id)] >= 0; id = alias[static_cast<std::size_t>(id)])
    bytes += within[static_cast<std::size_t>(id)];
  return bytes;
}

}  // namespace

std::int64_t row_elements(const Graph& graph, ValueId id) {
  for (const auto& node : graph.nodes)
    if (node.row().op_class == graph::OpClass::view && node.outputs[0] == id)
      return row_elements(graph, node.inputs[0]);
  const auto& shape = graph.value(id).shape;
  std::int64_t n = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) n *= shape[i].offset;
  return n;
}

ValueId storage_of(const Graph& graph, ValueId id) { return follow(direct_aliases(graph), id); }

std::pair<ValueId, std::size_t> storage_place(const Graph& graph, ValueId id) {
  const auto alias = direct_aliases(graph);
  const auto root = follow(alias, id);
  if (root == id) return {id, 0};
  return {root, bytes_from_root(alias, slice_offsets(graph), id)};
}

Memory plan_memory(const Graph& graph, const graph::Sizes& largest, std::vector<Scratch> scratch) {
  const auto alias = direct_aliases(graph);
  constexpr auto kNever = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> first(graph.values.size(), kNever);
  std::vector<std::size_t> last(graph.values.size(), 0);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto touch = [&](ValueId id) {
      const auto root = static_cast<std::size_t>(follow(alias, id));
      first[root] = std::min(first[root], i);
      last[root] = std::max(last[root], i);
    };
    for (const auto id : graph.nodes[i].reads()) touch(id);
    for (const auto id : graph.nodes[i].outputs) touch(id);
  }
  // What the graph returns is read after its last node.
  for (const auto id : graph.outputs)
    last[static_cast<std::size_t>(follow(alias, id))] = graph.nodes.size();

  std::vector<Lifetime> lifetimes;
  Memory plan;
  plan.offsets.assign(graph.values.size(), Memory::kNotInArena);
  plan.scratch = std::move(scratch);
  const auto add = [&](std::size_t& place, std::size_t begin, std::size_t end, std::size_t bytes) {
    bytes = (bytes + kArenaAlignmentBytes - 1) / kArenaAlignmentBytes * kArenaAlignmentBytes;
    lifetimes.push_back({&place, begin, end, bytes});
    plan.unshared_bytes += bytes;
  };
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    if (graph.values[i].kind == ValueKind::intermediate && first[i] != kNever &&
        follow(alias, static_cast<ValueId>(i)) == static_cast<ValueId>(i))
      add(plan.offsets[i], first[i], last[i], graph::value_bytes(graph.values[i], largest));
  for (auto& [node, bytes, offset] : plan.scratch) add(offset, node, node, bytes);

  // Largest first; each takes the lowest gap among those placed that live at the same time.
  std::stable_sort(lifetimes.begin(), lifetimes.end(),
                   [](const Lifetime& a, const Lifetime& b) { return a.bytes > b.bytes; });
  std::vector<const Lifetime*> placed;  // by offset
  for (auto& lifetime : lifetimes) {
    std::size_t offset = 0;
    for (const auto* other : placed) {
      if (other->last < lifetime.first || lifetime.last < other->first) continue;
      if (offset + lifetime.bytes <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes);
    }
    lifetime.offset = offset;
    *lifetime.place = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + lifetime.bytes);
    placed.insert(std::upper_bound(
                      placed.begin(), placed.end(), &lifetime,
                      [](const Lifetime* a, const Lifetime* b) { return a->offset < b->offset; }),
                  &lifetime);
  }
  const auto within = slice_offsets(graph);
  const auto roots = plan.offsets;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const auto root = follow(alias, static_cast<ValueId>(i));
    plan.offsets[i] = roots[static_cast<std::size_t>(root)];
    if (plan.offsets[i] == Memory::kNotInArena) continue;
    plan.offsets[i] += bytes_from_root(alias, within, static_cast<ValueId>(i));
  }
  return plan;
}

}  // namespace nereid::program
