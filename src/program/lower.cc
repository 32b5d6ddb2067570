#include "program/lower.h"

#include <algorithm>
#include <map>
#include <span>

#include "base/error.h"
#include "base/mapped_file.h"
#include "graph/cluster.h"
#include "graph/expression/body.h"
#include "graph/passes/passes.h"
#include "graph/triton_source.h"
#include "kernel/own_op.h"
#include "program/memory.h"
#include "program/step_class.h"

namespace nereid::program {

namespace {

using graph::Dim;
using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;
using Kind = kernel::ArgumentSource::Kind;

// The attribute of operations that may compute the rows of a part of a step's sequences.
constexpr const char* kRows = "rows";

// What it says; nothing for operations without it.
std::string rows_of(const Node& node) {
  return node.row().find_attr(kRows) == nullptr ? "" : node.text_attr(kRows);
}

// Whether the rows that it computes are those of sequences that decode.
bool computes_decodes(const Node& node, const Bounds& bounds) {
  return bounds.is_decode || rows_of(node) == "decode";
}

Dim product(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return a.offset * b.offset;
  const auto& [symbolic, constant] = a.is_constant() ? std::pair(b, a) : std::pair(a, b);
  NEREID_CHECK(constant.is_constant(), "{} * {}", dim_text(a), dim_text(b));
  return {symbolic.symbol, symbolic.factor * constant.offset, symbolic.offset * constant.offset};
}

Dim product(std::span<const Dim> shape) {
  Dim elements = 1;
  for (const auto& dim : shape) elements = product(elements, dim);
  return elements;
}

bool is_gpu(const Bounds& bounds) { return kernel::target_family(bounds.target) != "cpu"; }

// Of the operand that the node reads first: most of what decides between kernels.
std::int64_t most_rows(const Graph& graph, const Node& node, const Bounds& bounds) {
  const auto& shape = graph.value(node.inputs[0]).shape;
  if (shape.empty()) return bounds.largest.n_tokens;
  const bool is_weight = graph.value(node.inputs[0]).kind == graph::ValueKind::weight;
  if (shape[0].symbol.is_own() || (shape[0].is_constant() && !is_weight))
    return dim_value(shape[0], bounds.largest);
  const bool is_logits = shape[0].symbol == graph::Symbol::n_logits;
  return is_logits ? bounds.largest.n_logits : bounds.largest.n_tokens;
}

bool is_in_place(const graph::OpRow& op, std::size_t operand) {
  return std::ranges::any_of(op.aliases,
                             [&](const auto& alias) { return alias.second == operand; });
}

// Every optional operand that is there and every attribute that is set. Operands in place show in
// the results, and for which rows a kernel is its `when` says.
bool takes_all(const kernel::Spec& spec, const Node& node) {
  const auto takes = [&](std::string_view name, bool (kernel::ArgumentSource::*is_kind)() const) {
    return std::ranges::any_of(spec.params, [&](const kernel::Param& param) {
      return (param.of.*is_kind)() && param.of.name == name;
    });
  };
  const auto& op = node.row();
  const auto& roles = op.operands;
  // What decides a size alone shows in the size.
  const auto is_size = [&](std::string_view attr) {
    return node.op == graph::Op::own && graph::is_dimension(op, attr);
  };
  for (std::size_t i = 0; i < roles.size(); ++i)
    if (roles[i].is_optional && node.inputs[i] != kNoValue && !is_in_place(op, i) &&
        !takes(roles[i].name, &kernel::ArgumentSource::is_of_value))
      return false;
  return std::ranges::all_of(node.attrs, [&](const auto& attr) {
    return std::holds_alternative<DType>(attr.second) || attr.first == kRows ||
           is_size(attr.first) || takes(attr.first, &kernel::ArgumentSource::is_of_attribute);
  });
}

// One node's arguments, found by the sources that a Spec names.
class Arguments {
 public:
  Arguments(const Graph& graph, const Node& node, const Bounds& bounds)
      : graph_(graph), node_(node), bounds_(bounds) {
    const auto& row = node.row();
    for (std::size_t i = 0; i < row.operands.size(); ++i)
      names_.emplace_back(row.operands[i].name, node.inputs[i]);
    for (std::size_t i = 0; i < row.results.size(); ++i)
      names_.emplace_back(row.results[i].name, node.outputs[i]);
  }
  // Of a generated kernel: operands and results are named in the body it is written from.
  Arguments(const Graph& graph, const Node& node, const Bounds& bounds, const Graph& body)
      : graph_(graph), node_(node), bounds_(bounds) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      names_.emplace_back(body.values[i].name, node.inputs[i]);
    for (std::size_t i = 0; i < node.outputs.size(); ++i)
      names_.emplace_back(body.value(body.outputs[i]).name, node.outputs[i]);
  }

  ValueId value(const kernel::ArgumentSource& of) const {
    const auto it =
        std::ranges::find(names_, of.name, &std::pair<std::string_view, ValueId>::first);
    NEREID_CHECK(it != names_.end(), "{} has no operand or result {}", node_.row().name, of.name);
    return it->second;
  }

  // Whether the kernel reads and writes values of such types.
  bool fit_types(const kernel::Spec& spec) const {
    return std::ranges::all_of(spec.params, [&](const kernel::Param& param) {
      if (!param.is_pointer() || param.of.kind != Kind::value) return true;
      const auto id = value(param.of);
      return id == kNoValue ||
             std::ranges::count(param.types, dtype_name(graph_.value(id).dtype)) > 0;
    });
  }

  Dim size(const kernel::ArgumentSource& of) const {
    if (of.is_of_value()) return size_of_value(of);
    if (of.kind == Kind::max_query) return graph::Symbol::max_query_tokens;
    if (of.kind == Kind::decodes) return graph::Symbol::n_decodes;
    return integer(of);
  }

  std::int64_t integer(const kernel::ArgumentSource& of) const {
    switch (of.kind) {
      case Kind::attribute:
        return node_.int_attr(of.name);
      case Kind::is_value:
        return node_.text_attr(of.name) == of.value ? 1 : 0;
      case Kind::takes:
        return n_values(node_.text_attr(of.name)) == static_cast<std::size_t>(of.index) ? 1 : 0;
      case Kind::is_nonzero:
        return node_.float_attr(of.name) != 0.0 ? 1 : 0;
      case Kind::presence:
        return value(of) != kNoValue ? 1 : 0;
      // No more than names the last bucket: a variant must not depend on how long a step may be.
      case Kind::class_rows:
        return std::min(most_rows(graph_, node_, bounds_), kBucketRows.back() + 1);
      case Kind::class_uneven:
        return bounds_.is_uneven ? 1 : 0;
      case Kind::is_decode:
        return computes_decodes(node_, bounds_) ? 1 : 0;
      default:
        break;
    }
    const Dim dim = size_of_value(of);
    NEREID_CHECK(dim.is_constant(), "{} of {} is {}", of.name, node_.row().name, dim_text(dim));
    return dim.offset;
  }

  static std::size_t n_values(const std::string& expression) {
    return expression.empty() ? 0
                              : graph::expression::parse_body(expression, "expression").n_operands;
  }
  double number(const kernel::ArgumentSource& of) const { return node_.float_attr(of.name); }
  std::string text(const kernel::ArgumentSource& of) const { return node_.text_attr(of.name); }

 private:
  Dim size_of_value(const kernel::ArgumentSource& of) const {
    const auto id = value(of);
    if (id == kNoValue) return 0;
    const std::span shape = graph_.value(id).shape;
    switch (of.kind) {
      case Kind::dimension:
        return of.index < 0 ? shape.back() : shape[static_cast<std::size_t>(of.index)];
      case Kind::rows:
        return product(shape.first(shape.size() - 1));
      case Kind::elements:
        return product(shape);
      case Kind::stride:
        return row_elements(graph_, id);
      case Kind::group:
        return shape.size() == 3 ? shape[1] : Dim(1);
      default:
        NEREID_UNREACHABLE("{} is no size", of.name);
    }
  }

  const Graph& graph_;
  const Node& node_;
  const Bounds& bounds_;
  std::vector<std::pair<std::string_view, ValueId>> names_;
};

// One of the design asked for goes before one with a condition, and that before one that serves all
// steps.
const kernel::Spec* find_spec(const Graph& graph, const Node& node, const Bounds& bounds,
                              const kernel::SpecTable& specs) {
  const auto& op = node.row();
  const auto lookup = [&](std::string_view name) -> std::optional<std::int64_t> {
    if (name == "rows") return most_rows(graph, node, bounds);
    if (name == "decode") return computes_decodes(node, bounds) ? 1 : 0;
    if (name == "prompt") return rows_of(node) == "prompt" ? 1 : 0;
    if (name == "gpu") return is_gpu(bounds) ? 1 : 0;
    return std::nullopt;
  };
  const Arguments arguments(graph, node, bounds);
  const auto is_for = [&](const kernel::Spec& spec) {
    return spec.when.evaluate([&](std::string_view name) -> std::optional<std::int64_t> {
      const auto* param = spec.find_param(name);
      if (param != nullptr && param->of.is_of_node()) return arguments.integer(param->of);
      return lookup(name);
    }) != 0;
  };
  // A design computes attention alone: what is fused with it is taken apart.
  if (!bounds.attention.empty() && op.op_class == graph::OpClass::attention &&
      node.op != graph::Op::attention)
    return nullptr;
  const auto rank = [](const kernel::Spec& spec) {
    if (!spec.design.empty()) return 2;
    return spec.when.constant_value() ? 0 : 1;
  };
  const kernel::Spec* found = nullptr;
  const auto look_at = [&](const kernel::Spec& spec) {
    if (spec.op != op.name || !takes_all(spec, node) || !is_for(spec)) return;
    // A user's operation has the one kernel, which says what it expected.
    if (node.op != graph::Op::own && !arguments.fit_types(spec)) return;
    if (!spec.design.empty() && spec.design != bounds.attention) return;
    if (found == nullptr || rank(spec) > rank(*found)) found = &spec;
  };
  if (node.op == graph::Op::own)
    for (const auto& [name, kernel] : specs.own()) look_at(kernel->spec);
  else
    for (const auto& [name, spec] : specs.specs()) look_at(spec);
  return found;
}

// The text in its one form. A user's file goes by a name with a hash of what it holds, and its
// source into `sources`: requests are the same wherever the file lies, and others once it changes.
std::string with_file_names(kernel::FunctionKind kind, const std::string& text,
                            std::map<std::string, std::string>& sources) {
  if (kind == kernel::FunctionKind::expression)
    return graph::expression::print_nameless(graph::expression::parse_body(text, "expression"));
  auto functions = kernel::parse_functions(kind, text);
  for (auto& call : functions.calls) {
    if (call.file.empty()) continue;
    auto source = read_text_file(call.file);
    auto name = kernel::own_source_name(call.file, source);
    call.file = name;
    sources[name] = std::move(source);
  }
  return functions.text();
}

void bind(PlannedLaunch& launch, const Arguments& arguments) {
  for (const auto& param : launch.spec->params) {
    if (param.of.kind == Kind::scratch || param.of.kind == Kind::counter) continue;
    if (param.is_pointer())
      launch.pointers.emplace_back(&param, arguments.value(param.of));
    else if (param.role == kernel::ParamRole::scalar)
      launch.scalars.emplace_back(&param, arguments.number(param.of));
    else if (!param.is_constexpr())
      launch.sizes.emplace_back(&param, arguments.size(param.of));
    else if (param.function) {
      if (auto text = arguments.text(param.of); !text.empty())
        launch.functions.emplace_back(&param, std::move(text));
    } else if (param.is_given())
      launch.constexprs.emplace_back(&param, arguments.integer(param.of));
  }
}

// Lowers the nodes of one graph and remembers what it chose.
class Lowering {
 public:
  Lowering(const Graph& graph, const Bounds& bounds, const KernelTables& tables)
      : graph_(graph), bounds_(bounds), tables_(tables) {}

  PlannedLaunch lower(std::size_t index) {
    const auto& node = graph_.nodes[index];
    PlannedLaunch launch;
    launch.node = index;
    std::shared_ptr<const kernel::GeneratedKernel> generated;
    if (graph::is_generated(node.op)) {
      const Graph body = graph::generated_body(graph_, node);
      if (!graph::can_generate(body)) fail(node);
      generated = generated_kernel(body);
      launch.spec = &generated->spec;
      bind(launch, Arguments(graph_, node, bounds_, body));
    } else {
      launch.spec = find_spec(graph_, node, bounds_, tables_.specs);
      if (launch.spec == nullptr) fail(node);
      if (node.op == graph::Op::own) {
        check_strides(node, *launch.spec);
        generated = tables_.specs.own().at(launch.spec->name);
      }
      bind(launch, Arguments(graph_, node, bounds_));
    }
    choose(launch, std::move(generated));
    return launch;
  }

 private:
  [[noreturn]] void fail(const Node& node) const {
    std::string with;
    const auto& roles = node.row().operands;
    for (std::size_t i = 0; i < roles.size(); ++i)
      if (roles[i].is_optional && node.inputs[i] != kNoValue)
        with += fmt::format("{} {}", with.empty() ? " with" : ",", roles[i].name);
    throw Error("%{}: no kernel computes {}{} for {} of up to {} rows on {}",
                graph_.value(node.outputs[0]).name, node.row().name, with,
                bounds_.is_decode ? "decoding steps" : "steps", most_rows(graph_, node, bounds_),
                bounds_.target);
  }

  // A slice's rows lie apart, which a kernel must be told.
  void check_strides(const Node& node, const kernel::Spec& spec) const {
    const auto& roles = node.row().operands;
    for (std::size_t i = 0; i < roles.size(); ++i) {
      const auto id = node.inputs[i];
      if (id == kNoValue || graph_.value(id).shape.empty()) continue;
      const std::span shape = graph_.value(id).shape;
      const auto n_cols = shape.size() > 1 ? product(shape.subspan(1)) : Dim(1);
      const bool takes_stride = std::ranges::any_of(spec.params, [&](const auto& param) {
        return param.of.kind == Kind::stride && param.of.name == roles[i].name;
      });
      if (!takes_stride && n_cols != Dim(row_elements(graph_, id)))
        throw Error(
            "%{}: operand {} (%{}) is a slice, whose rows lie {} elements apart; the kernel of {} "
            "takes no stride(\"{}_stride\")",
            graph_.value(node.outputs[0]).name, roles[i].name, graph_.value(id).name,
            row_elements(graph_, id), node.row().name, roles[i].name);
    }
  }

  std::shared_ptr<const kernel::GeneratedKernel> generated_kernel(const Graph& body) {
    auto& made = generated_[graph::body_text(body)];
    if (!made) made = graph::generate_kernel(body);
    return made;
  }

  // All that a choice depends on, of one graph.
  std::string signature(const PlannedLaunch& launch) const {
    std::string text = launch.spec->name;
    for (const auto& [param, id] : launch.pointers)
      text +=
          id == kNoValue ? '-' : static_cast<char>('a' + static_cast<int>(graph_.value(id).dtype));
    for (const auto& [param, dim] : launch.sizes) text += " " + graph::dim_text(dim);
    for (const auto& [param, value] : launch.constexprs) text += fmt::format(" {}", value);
    for (const auto& [param, function] : launch.functions)
      text += fmt::format(" {}=\"{}\"", param->name, function);
    return text;
  }

  void choose(PlannedLaunch& launch, std::shared_ptr<const kernel::GeneratedKernel> generated) {
    auto& choice = chosen_[signature(launch)];
    if (!choice) {
      auto request = kernel::make_request(*launch.spec, tables_.tuning, bounds_.target,
                                          problem_of(graph_, launch, bounds_));
      request.generated = std::move(generated);
      auto key = request.key();
      choice = std::make_shared<const Choice>(std::move(request), std::move(key));
    }
    launch.choice = choice;
  }

  const Graph& graph_;
  const Bounds& bounds_;
  const KernelTables& tables_;
  std::map<std::string, std::shared_ptr<const Choice>> chosen_;                      // by signature
  std::map<std::string, std::shared_ptr<const kernel::GeneratedKernel>> generated_;  // by body
};

}  // namespace

KernelTables KernelTables::builtin(bool is_tuned, std::string_view target) {
  KernelTables tables;
  tables.specs = kernel::SpecTable::builtin();
  if (is_tuned) tables.tuning = kernel::TuningTable::builtin(tables.specs, target);
  return tables;
}

std::optional<Dim> PlannedLaunch::size_of(std::string_view name) const {
  for (const auto& [param, dim] : sizes)
    if (param->name == name) return dim;
  return std::nullopt;
}

ValueId PlannedLaunch::value_of(std::string_view name) const {
  for (const auto& [param, id] : pointers)
    if (param->name == name) return id;
  return kNoValue;
}

std::int64_t PlannedLaunch::evaluate(const kernel::Expression& expression, const Graph& graph,
                                     const graph::Sizes& step) const {
  return expression.evaluate([&](std::string_view name) -> std::optional<std::int64_t> {
    if (const auto dim = size_of(name)) return graph::dim_value(*dim, step);
    const auto& known = choice->request.constexprs;
    if (const auto it = known.find(std::string(name)); it != known.end()) return it->second;
    for (const auto& [param, id] : pointers)
      if (name == "sizeof(" + param->name + ")")
        return id == kNoValue ? 0
                              : static_cast<std::int64_t>(dtype_size_bytes(graph.value(id).dtype));
    return std::nullopt;
  });
}

bool PlannedLaunch::is_empty(const Graph& graph, const graph::Sizes& step) const {
  return std::ranges::any_of(spec->grid,
                             [&](const auto& axis) { return evaluate(axis, graph, step) == 0; });
}

std::size_t PlannedLaunch::bytes_of(const kernel::Param& param, const Graph& graph,
                                    const graph::Sizes& step) const {
  const auto id = value_of(param.name);
  auto bytes = dtype_size_bytes(id == kNoValue ? dtype_from_name(param.types.front()).value()
                                               : graph.value(id).dtype);
  for (const auto& axis : param.shape)
    bytes *= static_cast<std::size_t>(evaluate(axis, graph, step));
  return bytes;
}

bool has_kernel(const Graph& graph, const Node& node, const Bounds& bounds,
                const kernel::SpecTable& specs) {
  if (!graph::has_launch(node.row().op_class)) return true;
  if (graph::is_generated(node.op)) return graph::can_generate(graph::generated_body(graph, node));
  return find_spec(graph, node, bounds, specs) != nullptr;
}

Graph legalise(const Graph& graph, const Bounds& bounds, const kernel::SpecTable& specs,
               const std::set<std::string>& skip) {
  const auto has_none = [&](const Graph& from, const Node& node) {
    // It will be split, and the rows that decode keep its kernel.
    if (rows_of(node) != "all") return !has_kernel(from, node, bounds, specs);
    auto decodes = node;
    decodes.set_attr(kRows, std::string("decode"));
    return !has_kernel(from, decodes, bounds, specs);
  };
  // Weights are made readable before what is done with them is given up.
  const auto first = [&](const Graph& from, const Node& node) -> std::string_view {
    if (node.op != graph::Op::linear || !node.has("scale")) return "";
    auto plain = node;
    plain.set_operand("norm", kNoValue);
    plain.unset_attr("eps");
    return has_kernel(from, plain, bounds, specs) ? "" : "fuse_dequantise";
  };
  const auto of_bytes = graph::quantise_rows(graph, [&](const Graph& from, const Node& node) {
    const bool is_integer = from.value(node.operand("x")).dtype == DType::i8;
    return (is_integer ? bounds.multiplies_bytes : bounds.has_fp8_activations) &&
           has_kernel(from, node, bounds, specs);
  });
  const auto legal = graph::take_apart(of_bytes, has_none, first, skip);
  return bounds.is_decode ? legal : graph::split_attention(legal);
}

kernel::Problem problem_of(const Graph& graph, const PlannedLaunch& launch, const Bounds& bounds) {
  kernel::Problem problem;
  // An operand that the variant does not read, and memory of the kernel's own, still have a type.
  for (const auto& param : launch.spec->params)
    if (param.is_pointer())
      problem.pointers[param.name] = dtype_from_name(param.types.front()).value();
  for (const auto& [param, id] : launch.pointers)
    if (id != kNoValue) problem.pointers[param->name] = graph.value(id).dtype;
  for (const auto& [param, dim] : launch.sizes) {
    // A size that the kernel lets each step set must not shape the variant, even where it happens
    // to be constant.
    if (param->is_step)
      problem.largest[param->name] = graph::dim_value(dim, bounds.largest);
    else if (dim.is_constant())
      problem.sizes[param->name] = dim.offset;
  }
  for (const auto& [param, value] : launch.constexprs) problem.constexprs[param->name] = value;
  for (const auto& [param, text] : launch.functions)
    problem.functions[param->name] =
        with_file_names(param->function.value(), text, problem.function_files);
  return problem;
}

std::vector<PlannedLaunch> lower(const Graph& graph, const Bounds& bounds,
                                 const KernelTables& tables) {
  Lowering lowering(graph, bounds, tables);
  std::vector<PlannedLaunch> launches;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (graph::has_launch(graph.nodes[i].row().op_class)) launches.push_back(lowering.lower(i));
  return launches;
}

}  // namespace nereid::program
