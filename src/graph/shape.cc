// Types of results from types of operands, no data: what the op's row says (ops.def) for all, and
// a function for each op of which a row cannot say everything.

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "graph/cluster.h"
#include "graph/expression/formula.h"
#include "graph/ir.h"
#include "kernel/functions.h"

namespace nereid::graph {

namespace {

using Types = std::vector<TypedShape>;

std::string type_text(DType dtype, const std::vector<Dim>& shape) {
  return fmt::format("{}{}", dtype_name(dtype), dims_text(shape));
}

std::optional<Dim> step_size(std::string_view name) {
  for (const auto& symbol : kStepSymbols)
    if (symbol.name() == name) return Dim(symbol);
  return std::nullopt;
}

// What a graph's text may hold (text.cc).
constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;

// A node held against its row. Letters stand for the size that an operand has where the letter is
// alone, the first in order.
class Fit {
 public:
  Fit(const Graph& graph, const Node& node) : graph_(graph), node_(node), row_(node.row()) {
    if (row_.is_variadic()) {
      if (node.inputs.empty() || std::ranges::count(node.inputs, kNoValue) > 0)
        throw Error("{}: expected the operands {}", row_.name, roles_text(row_.operands));
      return;
    }
    NEREID_CHECK(node.inputs.size() == row_.operands.size(), "{}: {} operands", row_.name,
                 node.inputs.size());
    for (std::size_t i = 0; i < row_.operands.size(); ++i)
      if (node.inputs[i] != kNoValue)
        bind(row_.operands[i].type, value(i).shape);
      else if (!row_.operands[i].is_optional)
        throw Error("{}: operand {} is missing; expected the operands {}", row_.name,
                    row_.operands[i].name, roles_text(row_.operands));
    for (std::size_t i = 0; i < row_.operands.size(); ++i)
      if (node.inputs[i] != kNoValue && !fits(row_.operands[i].type, value(i)))
        fail(i, wanted(row_.operands[i].type));
    if (row_.op == Op::own) check_in_place();
  }

  const Graph& graph() const { return graph_; }
  const Node& node() const { return node_; }
  const Value& value(std::size_t i) const { return graph_.value(node_.inputs[i]); }
  const Value& operator[](std::string_view role) const { return graph_.value(node_.operand(role)); }

  [[noreturn]] void fail(std::size_t i, const std::string& expected) const {
    throw Error("{}: operand {} (%{}): expected {}, got {}", row_.name,
                row_.operands[row_.is_variadic() ? 0 : i].name, value(i).name, expected,
                type_text(value(i).dtype, value(i).shape));
  }
  [[noreturn]] void fail(std::string_view role, const std::string& expected) const {
    fail(row_.find_operand(role).value(), expected);
  }

  // An attribute that is set says something of an operand, which must then be there.
  void is_of(std::string_view attr, std::string_view role) const {
    if (!node_.has(role) && std::ranges::count(node_.attrs, attr, &Attrs::value_type::first) > 0)
      throw Error("{}: attribute {}: expected none without the operand {}", row_.name, attr, role);
  }

  // Held against a type that its row does not say: letters mean what they mean there, and those
  // that are not there any size.
  void is_as(std::string_view role, std::string_view text) const {
    Fit with = *this;
    const auto type = type_pattern_of(text);
    const auto& value = with[role];
    if (type.dims) with.bind(type, value.shape);
    if (!with.fits(type, value)) fail(role, with.wanted(type));
  }

  // As the row says them; of others the element type of the first operand.
  Types results() const {
    Types types;
    for (const auto& role : row_.results) {
      const auto& like = role.type.like.empty() ? value(0) : (*this)[role.type.like];
      TypedShape result{role.type.dtype.value_or(like.dtype), {}};
      if (role.type.dims)
        for (const auto& dim : *role.type.dims) {
          const auto size = size_of(dim);
          if (!size)
            throw Error(
                "{}: result {}: dimension \"{}\" is known only where its letters are numbers",
                row_.name, role.name, dim.text);
          result.shape.push_back(*size);
        }
      else if (!role.type.like.empty())
        result.shape = like.shape;
      if (row_.find_attr("dtype") != nullptr)
        result.dtype = node_.dtype_attr("dtype").value_or(result.dtype);
      types.push_back(std::move(result));
    }
    return types;
  }

 private:
  // What is read elsewhere must not change on the way: only what lives between steps may.
  void check_in_place() const {
    for (const auto& [result, operand] : row_.aliases)
      if (node_.inputs[operand] != kNoValue && !is_state(node_.inputs[operand]))
        fail(operand, "a state, since it is written in place");
  }

  // A state, or what another operation made of it in place.
  bool is_state(ValueId id) const {
    if (graph_.value(id).kind == ValueKind::state) return true;
    for (const auto& node : graph_.nodes)
      for (const auto& [result, operand] : node.row().aliases)
        if (result < node.outputs.size() && node.outputs[result] == id)
          return node.inputs[operand] != kNoValue && is_state(node.inputs[operand]);
    return false;
  }

  struct Aligned {
    std::span<const DimPattern> dims;
    std::span<const Dim> sizes;
  };
  // Which size is held against which of the row's dimensions; nothing where there are too few or
  // too many.
  static std::optional<Aligned> aligned(const TypePattern& type, const std::vector<Dim>& shape) {
    std::span<const DimPattern> dims(*type.dims);
    const bool is_open = dims[0].name == "...";
    if (is_open) dims = dims.subspan(1);
    if (shape.size() < dims.size() || (!is_open && shape.size() > dims.size())) return std::nullopt;
    return Aligned{dims, std::span(shape).last(dims.size())};
  }

  void bind(const TypePattern& type, const std::vector<Dim>& shape) {
    const auto pairs = type.dims ? aligned(type, shape) : std::nullopt;
    for (std::size_t i = 0; pairs && i < pairs->dims.size(); ++i) {
      const auto& dim = pairs->dims[i];
      if (!is_letter(dim.text) || step_size(dim.name)) continue;
      auto& size = letters_[static_cast<std::size_t>(dim.name[0] - 'A')];
      if (!size) size = pairs->sizes[i];
    }
  }

  // Of a letter or an attribute; nothing for a letter that no operand says.
  std::optional<Dim> size_named(std::string_view name) const {
    if (const auto symbol = step_size(name)) return symbol;
    if (is_letter(name)) return letters_[static_cast<std::size_t>(name[0] - 'A')];
    return Dim(node_.int_attr(name));
  }

  // A number where all that it reads are numbers; a step's size times one number plus another,
  // where it comes to that.
  std::optional<Dim> value_of(const kernel::Expression& expression) const {
    for (const auto& name : expression.symbols())
      if (!size_named(name)) return std::nullopt;
    const auto rest =
        expression.substitute([&](std::string_view name) -> std::optional<std::int64_t> {
          const auto size = size_named(name);
          return size->is_constant() ? std::optional(size->offset) : std::nullopt;
        });
    std::vector<kernel::Expression::Affine> sizes;
    Dim result(0);
    bool is_of_one = true;
    for (const auto& name : rest.symbols()) {
      const auto size = *size_named(name);
      is_of_one &= sizes.empty() || result.symbol == size.symbol;
      result.symbol = size.symbol;
      sizes.push_back({size.factor, size.offset});
    }
    // Of numbers alone; an Error where they have no result.
    if (rest.symbols().empty())
      return checked_size(expression, rest.evaluate(std::span<const std::int64_t>()));
    const auto affine = is_of_one ? rest.affine(sizes) : std::nullopt;
    if (!affine) {
      std::string known;
      for (const auto& name : expression.symbols())
        known +=
            fmt::format("{}{} = {}", known.empty() ? "" : ", ", name, dim_text(*size_named(name)));
      throw Error(
          "{}: dimension \"{}\", of {}, is no number and no multiple of one size plus a number",
          row_.name, expression.text(), known);
    }
    return checked_size(expression, affine->factor == 0
                                        ? Dim(affine->offset)
                                        : Dim(result.symbol, affine->factor, affine->offset));
  }

  Dim checked_size(const kernel::Expression& expression, const Dim& size) const {
    if (size.factor < 0 || size.factor > kMaxSize || std::abs(size.offset) > kMaxSize ||
        (size.is_constant() && size.offset < 0))
      throw Error("{}: dimension \"{}\" is {}; expected a size from 0 to {}", row_.name,
                  expression.text(), dim_text(size), kMaxSize);
    return size;
  }

  // Nothing for a letter that no operand says.
  std::optional<Dim> size_of(const DimPattern& dim) const {
    if (dim.expression) return value_of(*dim.expression);
    std::optional<Dim> size;
    if (dim.name.empty())
      size = Dim(0);
    else if (dim.name != "...")
      size = size_named(dim.name);
    if (!size || (dim.is_half && !size->is_constant())) return std::nullopt;
    if (dim.is_half) size->offset /= 2;
    size->offset += dim.offset;
    return size;
  }

  bool fits(const TypePattern& type, const Value& value) const {
    const Value* like = type.like.empty() ? nullptr : &(*this)[type.like];
    if (type.dtype && value.dtype != *type.dtype) return false;
    if (type.is_float && !dtype_row(value.dtype).is_float) return false;
    if (like != nullptr && value.dtype != like->dtype) return false;
    if (!type.dims) return like == nullptr || value.shape == like->shape;
    const auto pairs = aligned(type, value.shape);
    if (!pairs) return false;
    for (std::size_t i = 0; i < pairs->dims.size(); ++i)
      if (size_of(pairs->dims[i]) != pairs->sizes[i]) return false;
    return true;
  }

  // The row's words, with sizes where operands say them.
  std::string wanted(const TypePattern& type) const {
    if (!type.like.empty() && !type.dims)
      return type_text((*this)[type.like].dtype, (*this)[type.like].shape);
    std::string text(type.text.substr(0, type.text.find('[')));
    if (!type.dims) return text;
    std::string dims;
    for (const auto& dim : *type.dims) {
      const auto size = size_of(dim);
      dims += fmt::format("{}{}", dims.empty() ? "" : ", ", size ? dim_text(*size) : dim.text);
    }
    return fmt::format("{}[{}]", text, dims);
  }

  const Graph& graph_;
  const Node& node_;
  const OpRow& row_;
  std::array<std::optional<Dim>, 26> letters_;
};

// ---- what rows cannot say. Each gets the results as its row says them.

// Of so many columns, and groups of these.
void check_weight(const Fit& fit, const Dim& n_in) {
  constexpr std::int64_t kBlock = 128;  // columns of a block of 4 bits each, two a byte
  const auto& weight = fit["weight"];
  if (!n_in.is_constant()) fit.fail("x", "a constant number of columns");
  const bool is_4_bits = weight.dtype == DType::u8;
  const auto n_columns =
      is_4_bits ? (n_in.offset + kBlock - 1) / kBlock * (kBlock / 2) : n_in.offset;
  if (weight.shape[1] != Dim(n_columns))
    fit.fail("weight", fmt::format("{} columns{}", n_columns, is_4_bits ? ", of 4 bits" : ""));
  const bool has_scale = fit.node().has("scale");
  if (is_quantised(weight.dtype) != has_scale)
    fit.fail("weight", has_scale ? "i8, fp8e4nv, fp8e5 or u8 beside a scale"
                                 : "a floating-point type, or a scale beside it");
  if (!has_scale && !dtype_row(weight.dtype).is_float) fit.fail("weight", "a floating-point type");
  if (fit.node().has("zero") && !is_4_bits) fit.fail("zero", "none, but for u8");
  if (!has_scale) return;
  const auto& n_groups = fit["scale"].shape[1];
  if (!n_groups.is_constant() || n_groups.offset < 1 || n_in.offset % n_groups.offset != 0)
    fit.fail("scale", fmt::format("a number of groups that divides {} columns", n_in.offset));
}

// Of how many values a linear's epilogue is.
std::size_t check_epilogue(const Node& node) {
  const std::string where = "linear, epilogue";
  const auto text = node.text_attr("epilogue");
  if (text.empty()) return 1;
  const auto body = expression::parse_body(text, where);
  if (body.n_operands > 2 || body.results.size() != 1)
    throw Error("{}: expected one result of one value or of two halves, got {} of {}", where,
                body.results.size(), body.n_operands);
  if (expression::expand(body, where).has_reduction())
    throw Error("{}: expected what a value gives by itself, got a reduction of rows", where);
  return body.n_operands;
}

void check_groups(const Fit& fit, std::string_view role, std::int64_t n_groups) {
  const auto& n_in = fit["x"].shape[1];
  if (!n_in.is_constant() || n_groups < 1 || n_in.offset % n_groups != 0)
    fit.fail(role, fmt::format("a number of groups that divides {} columns", dim_text(n_in)));
}

// Of 8 bits it has scales, and is multiplied by weights of its own kind: integers by integers,
// whose groups its own are within, 8-bit floats by such with a scale a row.
void check_x(const Fit& fit) {
  const auto& node = fit.node();
  const auto& x = fit["x"];
  if (!node.has("x_scale")) {
    if (node.has("x_low")) throw Error("linear: operand x_scale is missing, which is beside x_low");
    if (!dtype_row(x.dtype).is_float) fit.fail("x", "a floating-point type, or x_scale beside it");
    return;
  }
  const bool is_float8 = x.dtype == DType::fp8e4nv;
  if (x.dtype != DType::i8 && !is_float8) fit.fail("x", "i8 or fp8e4nv beside x_scale");
  if (!is_float8 && !node.has("x_low"))
    throw Error("linear: operand x_low is missing, which is beside x_scale of integers");
  if (node.has("norm")) fit.fail("norm", "none beside x_scale");
  const auto& weight = fit["weight"];
  if (is_float8) {
    if (node.has("x_low")) fit.fail("x_low", "none beside x of fp8e4nv");
    if (weight.dtype != DType::fp8e4nv) fit.fail("weight", "fp8e4nv beside x of that type");
    for (const char* scale : {"scale", "x_scale"})
      if (fit[scale].shape[1] != Dim(1)) fit.fail(scale, "one column beside x of fp8e4nv");
    return;
  }
  if (weight.dtype != DType::i8 && weight.dtype != DType::u8)
    fit.fail("weight", "i8 or u8 beside x_scale of integers");
  const auto& n_groups = fit["x_scale"].shape[1];
  if (!n_groups.is_constant()) fit.fail("x_scale", "a constant number of columns");
  check_groups(fit, "x_scale", n_groups.offset);
  if (const auto n = fit["scale"].shape[1].offset; n_groups.offset % n != 0)
    fit.fail("x_scale", fmt::format("a multiple of {} columns", n));
}

// An epilogue of two values halves the rows of weight.
void infer_linear(const Fit& fit, Types& results) {
  check_weight(fit, fit["x"].shape[1]);
  check_x(fit);
  fit.is_of("eps", "norm");
  fit.is_of("alpha", "residual");
  const auto& rows = fit["weight"].shape[0];
  const bool is_halved = check_epilogue(fit.node()) == 2;
  if (is_halved && (!rows.is_constant() || rows.offset % 2 != 0))
    fit.fail("weight", "an even number of rows");
  results[0].shape = {fit["x"].shape[0], is_halved ? Dim(rows.offset / 2) : rows};
  if (fit.node().has("residual") &&
      (fit["residual"].dtype != results[0].dtype || fit["residual"].shape != results[0].shape))
    fit.fail("residual", type_text(results[0].dtype, results[0].shape));
}

// Query heads share those of keys and values.
void check_heads(const Fit& fit, const Dim& heads) {
  const auto& kv_heads = fit["k_cache"].shape[1];
  if (!heads.is_constant() || !kv_heads.is_constant() || heads.offset < 1 || kv_heads.offset < 1 ||
      heads.offset % kv_heads.offset != 0)
    fit.fail("k_cache", fmt::format("a number of heads that divides {}", dim_text(heads)));
}

// Only what 8 bits hold is scaled.
void check_scales(const Fit& fit) {
  const auto& node = fit.node();
  for (const auto& [attr, cache] : {std::pair("k_scale", "k_cache"), {"v_scale", "v_cache"}}) {
    if (node.row().find_attr(attr) == nullptr) continue;
    const auto scale = node.float_attr(attr);
    if (!(scale > 0.0))
      throw Error("{}: attribute {}: expected a number above 0, got {}", node.row().name, attr,
                  scale);
    if (scale != 1.0 && fit[cache].dtype != DType::fp8e4nv)
      fit.fail(cache, fmt::format("fp8e4nv beside {}", attr));
  }
}

// Where all rows are computed, none is left to be what it was.
void check_rows(const Fit& fit) {
  if (fit.node().has("into") && fit.node().text_attr("rows") == "all")
    fit.fail("into", "none beside rows = all");
}

// What functions are named and what these read: the tensors that are bound, of their types, and
// none that nobody reads.
void check_functions(const Fit& fit) {
  using kernel::FunctionKind;
  const auto& node = fit.node();
  std::set<std::string> read;
  for (const auto kind : {FunctionKind::score, FunctionKind::mask}) {
    const auto attr = kernel::function_kind_name(kind);
    const auto text = node.text_attr(attr);
    if (text.empty()) continue;
    const std::string_view replaced = kind == FunctionKind::score ? "softcap" : "window";
    if (std::ranges::count(node.attrs, replaced, &Attrs::value_type::first) > 0)
      throw Error("attention: attribute {0}: expected none beside {1}; write {0}({2}) in {1}",
                  replaced, attr, attr_text(node.attr(replaced)));
    for (const auto& call : kernel::parse_functions(kind, text).calls) {
      for (std::size_t i = 0; i < call.args.size(); ++i) {
        if (!kernel::is_bound_tensor(call.args[i])) continue;
        const auto role = "fn_" + call.args[i];
        if (!node.has(role))
          throw Error("attention: operand {} is missing, which {} = \"{}\" reads", role, attr,
                      text);
        const auto builtin = kernel::builtin_functions().find(call.name);
        if (call.file.empty())
          fit.is_as(role, builtin->second.takes[i]);
        else if (fit[role].dtype != DType::fp32 && fit[role].dtype != DType::i32)
          fit.fail(role, "fp32 or i32");
        read.insert(role);
      }
    }
  }
  for (const auto* role : {"fn_a", "fn_b"})
    if (node.has(role) && !read.contains(role)) fit.fail(role, "none, since no function reads it");
}

// [T, H*D] -> [T, H, D] with the attribute "heads"; without it [T, H, D] -> [T, H*D].
void infer_reshape(const Fit& fit, Types& results) {
  const auto heads = fit.node().int_attr("heads");
  const auto& shape = fit["x"].shape;
  if (heads > 0) {
    if (shape.size() != 2 || !shape[1].is_constant() || shape[1].offset % heads != 0)
      fit.fail("x", fmt::format("2 dimensions, columns that are a multiple of {}", heads));
    results[0].shape = {shape[0], heads, shape[1].offset / heads};
    return;
  }
  std::int64_t n_cols = 0;
  if (shape.size() != 3 || !shape[1].is_constant() || !shape[2].is_constant() ||
      __builtin_mul_overflow(shape[1].offset, shape[2].offset, &n_cols))
    fit.fail("x", "3 dimensions, the last two constant");
  results[0].shape = {shape[0], n_cols};
}

// Rows of several matrices, or entries of several vectors, below one another.
void infer_pack(const Fit& fit, Types& results) {
  auto& packed = results[0].shape;
  packed = fit.value(0).shape;
  if (packed.empty() || packed.size() > 2) fit.fail(0, "a matrix or a vector");
  packed[0] = 0;
  for (std::size_t i = 0; i < fit.node().inputs.size(); ++i) {
    const auto& part = fit.value(i);
    auto wanted = fit.value(0).shape;
    if (!part.shape.empty()) wanted[0] = part.shape[0];
    if (part.dtype != results[0].dtype || part.shape != wanted || !wanted[0].is_constant())
      fit.fail(i, fmt::format("rows as those of %{}", fit.value(0).name));
    if (part.kind != ValueKind::weight) fit.fail(i, "a weight");
    packed[0].offset += wanted[0].offset;
  }
}

void check_slice(const Fit& fit) {
  const auto begin = fit.node().int_attr("begin");
  const auto size = fit.node().int_attr("size");
  const auto& n_cols = fit["x"].shape[1];
  if (begin < 0 || size < 1 || !n_cols.is_constant() || size > n_cols.offset ||
      begin > n_cols.offset - size)
    fit.fail("x", fmt::format("{} columns from {}", size, begin));
}

void check_exchange(const Fit& fit) {
  const auto& node = fit.node();
  const auto ranks = node.int_attr("ranks"), rank = node.int_attr("rank");
  const auto is_role = [&](std::int64_t i) {
    return node.row().find_operand(fmt::format("inbox{}", i)).has_value();
  };
  std::int64_t n_roles = 0, n_inboxes = 0;
  while (is_role(n_roles)) ++n_roles;
  while (n_inboxes < n_roles && node.has(fmt::format("inbox{}", n_inboxes))) ++n_inboxes;
  if (ranks < 1 || ranks != n_inboxes || rank < 0 || rank >= ranks)
    throw Error("{}: expected an inbox for each of 1 to {} ranks, got {} for rank {} of {}",
                node.row().name, n_roles, n_inboxes, rank, ranks);
}

// The columns of all ranks.
void infer_all_gather(const Fit& fit, Types& results) {
  check_exchange(fit);
  auto& n_cols = results[0].shape[1];
  if (!n_cols.is_constant()) fit.fail("x", "a number of columns that is known");
  n_cols.offset *= fit.node().int_attr("ranks");
}

// A bit a token, 32 a word.
void check_allowed(const Fit& fit) {
  constexpr std::int64_t kWordBits = 32;
  const auto& n_vocab = fit["logits"].shape[1];
  const auto& n_words = fit["allowed"].shape[1];
  if (!n_vocab.is_constant() || n_words != Dim((n_vocab.offset + kWordBits - 1) / kWordBits))
    fit.fail("allowed",
             fmt::format("a bit for each of {} tokens, {} a word", dim_text(n_vocab), kWordBits));
}

// qkv: rows of all heads of q, of k and of v.
void check_rope(const Fit& fit) {
  fit.is_of("eps", "q_norm");
  const auto heads = fit.node().int_attr("heads");
  check_heads(fit, heads);
  const auto& given = fit["qkv"].shape[1];
  const auto& cache = fit["k_cache"].shape;
  std::int64_t n_cols = 0;
  if (!given.is_constant() || heads > given.offset ||
      __builtin_mul_overflow(heads + 2 * cache[1].offset, cache[3].offset, &n_cols) ||
      given.offset != n_cols)
    fit.fail("qkv", fmt::format("columns of {} heads and twice {}, of {}", heads,
                                dim_text(cache[1]), dim_text(cache[3])));
}

// Rows of one shape and vectors as long as these; what they are for says the body.
void infer_map(const Fit& fit, Types& results) {
  const auto& inputs = fit.node().inputs;
  const auto body = expression::parse_body(fit.node().text_attr(kBody), "map, body");
  const auto formula = expression::expand(body, "map, body");
  if (body.n_operands != inputs.size())
    throw Error("map: its body has {} operands, the node {}", body.n_operands, inputs.size());
  std::optional<std::size_t> rows;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!dtype_row(fit.value(i).dtype).is_float) fit.fail(i, "a floating-point type");
    if (fit.value(i).shape.empty()) fit.fail(i, "rows or a vector");
    if (fit.value(i).shape.size() > 1 && !rows) rows = i;
  }
  if (!rows) fit.fail(0, "rows: an operand must have more than one dimension");
  const auto& like = fit.value(*rows);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& shape = fit.value(i).shape;
    if (shape.size() == 1 ? shape[0] != like.shape.back() : shape != like.shape)
      fit.fail(i, fmt::format("rows {} or a vector [{}]", dims_text(like.shape),
                              dim_text(like.shape.back())));
  }
  results.assign(formula.results.size(),
                 {fit.node().dtype_attr("dtype").value_or(like.dtype), like.shape});
  if (!dtype_row(results[0].dtype).is_float)
    throw Error("map: attribute dtype: expected a floating-point type, got {}",
                dtype_name(results[0].dtype));
}

void infer_cluster(const Fit& fit, Types& results) {
  const Graph body = cluster_body(fit.graph(), fit.node());
  results.clear();
  for (const auto id : body.outputs)
    results.push_back({body.value(id).dtype, body.value(id).shape});
}

}  // namespace

std::vector<TypedShape> infer_shapes(const Graph& graph, const Node& node) {
  const Fit fit(graph, node);
  auto results = fit.results();
  switch (node.op) {
    case Op::linear:
      infer_linear(fit, results);
      break;
    case Op::dequantise:
      check_weight(fit, node.int_attr("columns"));
      break;
    case Op::quantise_rows:
      check_groups(fit, "x", node.int_attr("groups"));
      break;
    case Op::quantise_rows_fp8:
      fit.is_of("eps", "norm");
      break;
    case Op::attention:
      check_heads(fit, fit["q"].shape[1]);
      check_scales(fit);
      check_rows(fit);
      check_functions(fit);
      break;
    case Op::kv_write:
      check_scales(fit);
      break;
    case Op::reshape:
      infer_reshape(fit, results);
      break;
    case Op::pack:
      infer_pack(fit, results);
      break;
    case Op::slice:
      check_slice(fit);
      break;
    case Op::all_reduce:
      check_exchange(fit);
      break;
    case Op::all_gather:
      infer_all_gather(fit, results);
      break;
    case Op::adjust_logits:
      check_allowed(fit);
      break;
    case Op::rope_attention:
      check_rows(fit);
      [[fallthrough]];
    case Op::rope_kv_write:
      check_rope(fit);
      check_scales(fit);
      break;
    case Op::map:
      infer_map(fit, results);
      break;
    case Op::cluster:
      infer_cluster(fit, results);
      break;
    default:
      break;
  }
  return results;
}

}  // namespace nereid::graph
