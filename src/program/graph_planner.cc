#include "program/graph_planner.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "graph/passes/passes.h"
#include "program/own_ops.h"
#include "program/settings.h"

namespace nereid::program {

namespace {

using graph::Dim;
using graph::Graph;
using graph::Symbol;
using graph::Value;
using graph::ValueId;
using graph::ValueKind;

constexpr std::string_view kQueryStarts = "query_starts";  // an operand of attention
constexpr std::array<std::string_view, 3> kKinds{"input", "weight", "state"};

std::string kind_text(const Value& value) {
  return std::string(kKinds[static_cast<std::size_t>(value.kind)]);
}

std::string type_text(DType dtype, const Shape& shape) {
  return fmt::format("{}{}", dtype_name(dtype), shape_text(shape));
}

// Sizes as kernels are made for them: a few numbers of rows serve all.
std::int64_t bucket(std::int64_t n) {
  return static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(n, 1))));
}

// What the tensors say of each size, and which of them said it first.
class SizeFinder {
 public:
  explicit SizeFinder(const Graph& graph) : graph_(graph) {}

  // Nothing where the tensor fits; else what was expected.
  std::optional<std::string> mismatch(const Value& value, const HostTensor& tensor) {
    const auto declared =
        fmt::format("{}{}", dtype_name(value.dtype), graph::dims_text(value.shape));
    if (tensor.dtype != value.dtype || tensor.shape.size() != value.shape.size()) return declared;
    std::string known;
    bool fits = true;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      const auto& dim = value.shape[i];
      if (dim.is_constant() || dim.factor == 0) {
        fits &= tensor.shape[i] == dim.offset;
        continue;
      }
      auto& found = found_[dim.symbol.id()];
      if (!found) {
        const auto multiple = tensor.shape[i] - dim.offset;
        if (multiple < 0 || multiple % dim.factor != 0) {
          fits = false;
          continue;
        }
        found = Found{multiple / dim.factor, value.name};
      }
      fits &= found->size * dim.factor + dim.offset == tensor.shape[i];
      if (found->by != value.name)
        known += fmt::format("{} {} = {} (%{})", known.empty() ? " with" : ",", dim.symbol.name(),
                             found->size, found->by);
    }
    if (fits) return std::nullopt;
    return declared + known;
  }

  std::optional<std::int64_t> size(const Symbol& symbol) const {
    const auto it = found_.find(symbol.id());
    if (it == found_.end() || !it->second) return std::nullopt;
    return it->second->size;
  }

 private:
  struct Found {
    std::int64_t size;
    std::string by;
  };
  const Graph& graph_;
  std::map<std::size_t, std::optional<Found>> found_;  // by Symbol::id()
};

// Whether sequence s brings row s, and no more, wherever attention asks.
bool brings_one_each(const Graph& graph, const model::TensorMap& inputs) {
  for (const auto& node : graph.nodes) {
    if (!node.row().find_operand(kQueryStarts) || !node.has(kQueryStarts)) continue;
    const auto it = inputs.find(graph.value(node.operand(kQueryStarts)).name);
    if (it == inputs.end()) return false;
    const auto& bytes = it->second.bytes;
    for (std::size_t i = 0; i * sizeof(std::int32_t) < bytes.size(); ++i) {
      std::int32_t start = 0;
      std::memcpy(&start, bytes.data() + i * sizeof start, sizeof start);
      if (start != static_cast<std::int32_t>(i)) return false;
    }
  }
  return true;
}

}  // namespace

std::vector<ValueId> given_values(const Graph& graph) {
  std::set<ValueId> made;
  for (const auto& node : graph.nodes) made.insert(node.outputs.begin(), node.outputs.end());
  std::vector<ValueId> given;
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    if (const auto id = static_cast<ValueId>(i); !made.contains(id)) given.push_back(id);
  return given;
}

GraphPlanner::GraphPlanner(const std::string& text, const std::string& where,
                           const GraphOptions& options, const std::string& target)
    : text_(text),
      where_(where),
      target_(target),
      mode_(resolve_mode(options.mode, target)),
      skip_passes_(options.skip_passes),
      tables_(KernelTables::builtin(options.is_tuned, target)) {
  graph::check_pass_names(skip_passes_);
  add_own_ops(options.ops, options.bundle_dir, ops_, tables_.specs);
  graph_ = graph::parse(text_, where_, ops_);
  graph::verify(graph_);
  check();
}

void GraphPlanner::check() const {
  if (graph_.outputs.empty())
    throw Error("{}: graph {} returns nothing; expected a line such as \"return %y\"", where_,
                graph_.name);
  std::set<ValueId> read(graph_.outputs.begin(), graph_.outputs.end());
  if (read.size() != graph_.outputs.size())
    throw Error("{}: graph {} returns a value twice; expected each once", where_, graph_.name);
  for (const auto& node : graph_.nodes)
    for (const auto id : node.reads()) read.insert(id);
  for (const auto id : given_values(graph_)) {
    const auto& value = graph_.value(id);
    if (!read.contains(id))
      throw Error("{}: {} %{} is read by nothing; remove its line, or read it", line_of(value),
                  kind_text(value), value.name);
    if (value.kind == ValueKind::weight && !std::ranges::all_of(value.shape, [](const Dim& dim) {
          return dim.is_constant() || dim.symbol.is_own();
        }))
      throw Error("{}: weight %{}: expected numbers and sizes of the graph's own, got {}",
                  line_of(value), value.name, graph::dims_text(value.shape));
  }
}

GraphPlanner::Bound GraphPlanner::bind(const model::TensorMap& inputs) const {
  SizeFinder finder(graph_);
  std::set<std::string, std::less<>> declared;
  for (const auto id : given_values(graph_)) {
    const auto& value = graph_.value(id);
    declared.insert(value.name);
    const auto it = inputs.find(value.name);
    if (it == inputs.end())
      throw Error(
          ErrorCode::invalid_argument,
          "{}: {} %{} is missing: the inputs have no tensor of that name; they have {}",
          line_of(value), kind_text(value), value.name,
          inputs.empty() ? "none" : fmt::format("{}", fmt::join(std::views::keys(inputs), ", ")));
    if (const auto expected = finder.mismatch(value, it->second))
      throw Error(ErrorCode::invalid_argument, "{}: {} %{}: expected {}, got {}", line_of(value),
                  kind_text(value), value.name, *expected,
                  type_text(it->second.dtype, it->second.shape));
  }
  for (const auto& [name, tensor] : inputs)
    if (!declared.contains(name))
      throw Error(
          ErrorCode::invalid_argument,
          "{}: the inputs have a tensor {}, which graph {} does not declare; it declares {}",
          where_, name, graph_.name, fmt::join(declared, ", "));
  Bound bound;
  auto& sizes = bound.sizes;
  for (std::size_t i = 0; i < graph_.sizes.size(); ++i) {
    const auto size = finder.size(graph_.sizes[i]);
    if (!size)
      throw Error("{}: size {} is unknown: no input has a dimension that is a multiple of it",
                  where_, graph_.sizes[i].name());
    sizes.own[i] = *size;
  }
  const auto n_tokens = finder.size(Symbol::n_tokens);
  const auto n_sequences = finder.size(Symbol::n_sequences);
  sizes.n_tokens = n_tokens.value_or(1);
  sizes.n_sequences = n_sequences.value_or(1);
  sizes.n_logits = finder.size(Symbol::n_logits).value_or(1);
  const bool is_decode =
      n_tokens && n_sequences && *n_tokens == *n_sequences && brings_one_each(graph_, inputs);
  sizes.n_decodes = finder.size(Symbol::n_decodes).value_or(is_decode ? sizes.n_sequences : 0);
  bound.is_decode = n_sequences && sizes.n_decodes == sizes.n_sequences;
  sizes.max_query_tokens =
      finder.size(Symbol::max_query_tokens).value_or(bound.is_decode ? 1 : sizes.n_tokens);
  return bound;
}

// Only the first dimension of a value may change from launch to launch: how far its rows lie apart,
// and with it what a kernel is compiled for, follows from the others.
Graph GraphPlanner::with_numbers(const graph::Sizes& sizes) const {
  std::set<std::size_t> fixed;  // Symbol::id()
  for (const auto& value : graph_.values)
    for (std::size_t i = value.kind == ValueKind::weight ? 0 : 1; i < value.shape.size(); ++i)
      if (!value.shape[i].is_constant()) fixed.insert(value.shape[i].symbol.id());
  auto graph = graph_;
  for (auto& value : graph.values)
    for (auto& dim : value.shape)
      if (fixed.contains(dim.symbol.id())) dim = dim_value(dim, sizes);
  graph::verify(graph);
  return graph;
}

Bounds GraphPlanner::bounds_of(const Graph& graph, const Bound& bound) const {
  Bounds bounds{.largest = bound.sizes, .is_decode = bound.is_decode, .target = target_};
  auto& largest = bounds.largest;
  bool has_tokens = false;
  std::int64_t most = 1;
  for (const auto& value : graph.values)
    if (value.kind != ValueKind::weight && !value.shape.empty()) {
      has_tokens |= value.shape[0].symbol == Symbol::n_tokens;
      most = std::max(most, dim_value(value.shape[0], bound.sizes));
    }
  for (auto* size : {&largest.n_sequences, &largest.n_decodes, &largest.n_logits})
    *size = bucket(*size);
  for (auto& size : largest.own) size = bucket(size);
  // Of operations that begin with a weight, the rows are those of what else they read.
  largest.n_tokens = bucket(has_tokens ? largest.n_tokens : most);
  largest.max_query_tokens = bound.is_decode ? 1 : bucket(largest.max_query_tokens);
  return bounds;
}

LaunchPlan GraphPlanner::plan(const Bound& bound) const {
  auto graph = with_numbers(bound.sizes);
  const auto bounds = bounds_of(graph, bound);
  if (mode_ == "eager") {
    if (!bound.is_decode) graph = graph::split_attention(graph);
  } else {
    graph = graph::run_passes(graph, {.skip = skip_passes_, .observe = {}});
    graph = legalise(graph, bounds, tables_.specs, skip_passes_);
  }
  return make_launch_plan(std::move(graph), bounds, bound.sizes, tables_);
}

std::vector<kernel::KernelRequest> requests_of(const LaunchPlan& plan) {
  std::map<std::string, const kernel::KernelRequest*> by_key;
  for (const auto& launch : plan.launches)
    by_key.try_emplace(launch.choice->key, &launch.choice->request);
  std::vector<kernel::KernelRequest> requests;
  for (const auto& [key, request] : by_key) requests.push_back(*request);
  return requests;
}

}  // namespace nereid::program
