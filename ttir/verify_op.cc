#include "verify_op.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace nereid::ttir {
namespace {

// Attributes that change nothing on a CPU, or that the emitter reads. Names with a dot
// (tt.divisibility) are hints.
constexpr std::array<std::string_view, 44> kKnownAttributes = {"value",
                                                               "predicate",
                                                               "axis",
                                                               "start",
                                                               "end",
                                                               "reverse",
                                                               "order",
                                                               "cache",
                                                               "evict",
                                                               "volatile",
                                                               "rmw_op",
                                                               "sem",
                                                               "scope",
                                                               "rounding",
                                                               "inputPrecision",
                                                               "maxNumImpreciseAcc",
                                                               "propagateNan",
                                                               "symbol",
                                                               "libname",
                                                               "libpath",
                                                               "pure",
                                                               "fastmath",
                                                               "overflow",
                                                               "allow_reorder",
                                                               "efficient_layout",
                                                               "nneg",
                                                               "nonNeg",
                                                               "exact",
                                                               "isExact",
                                                               "operandSegmentSizes",
                                                               "pack",
                                                               "prefix",
                                                               "message",
                                                               "hex",
                                                               "isSigned",
                                                               "scales",
                                                               "lhs",
                                                               "rhs",
                                                               "fastMath",
                                                               "lhs_k_pack",
                                                               "rhs_k_pack",
                                                               "asm",
                                                               "constraints",
                                                               "packed_element"};

constexpr std::array<std::string_view, 10> kIntegerPredicates = {"eq",  "ne",  "slt", "sle", "sgt",
                                                                 "sge", "ult", "ule", "ugt", "uge"};
constexpr std::array<std::string_view, 14> kFloatPredicates = {"oeq", "ogt", "oge", "olt", "ole",
                                                               "one", "ord", "ueq", "ugt", "uge",
                                                               "ult", "ule", "une", "uno"};
constexpr std::array<std::string_view, 10> kAtomics = {"and", "or",  "xor",  "add",  "fadd",
                                                       "max", "min", "umax", "umin", "exch"};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

Type with_scalar(Type type, Scalar scalar) {
  type.scalar = scalar;
  type.is_pointer = false;
  return type;
}

}  // namespace

Counts counts_of(OpKind kind) {
  switch (kind) {
    case OpKind::negf:
    case OpKind::exp:
    case OpKind::exp2:
    case OpKind::log:
    case OpKind::log2:
    case OpKind::sin:
    case OpKind::cos:
    case OpKind::sqrt:
    case OpKind::rsqrt:
    case OpKind::absf:
    case OpKind::absi:
    case OpKind::floor:
    case OpKind::ceil:
    case OpKind::erf:
    case OpKind::precise_sqrt:
      return {1, 1, 1};
    case OpKind::fma:
    case OpKind::clampf:
      return {3, 3, 1};
    case OpKind::join:
    case OpKind::cat:
      return {2, 2, 1};
    case OpKind::atomic_cas:
      return {3, 3, 1};
    case OpKind::split:
      return {1, 1, 2};
    case OpKind::assume:
      return {1, 1, 0};
    default:
      break;
  }
  switch (op_form(kind)) {
    case Form::same:
    case Form::compare:
    case Form::addptr:
      return {2, 2, 1};
    case Form::select:
    case Form::dot:
      return {3, 3, 1};
    case Form::convert:
    case Form::arrow:
    case Form::unsplat:
      return {1, 1, 1};
    case Form::load:
      return {1, 3, 1};
    case Form::store:
      return {2, 3, 0};
    case Form::atomic:
      return {2, 3, 1};
    case Form::gather:
      return {2, 2, 1};
    case Form::histogram:
      return {1, 2, 1};
    case Form::print:
      return {0, kAny, 0};
    case Form::assertion:
      return {1, 1, 0};
    case Form::functional:
      return {1, 8, 1};
    case Form::dot_scaled:
      return {3, 5, 1};
    case Form::inline_asm:
      return {0, kAny, kAny};
    case Form::call:
      return {0, 0, kAny, 1, 1};
    case Form::produce:
    case Form::program_id:
    case Form::constant:
      return {0, 0, 1};
    case Form::statement:
      return {0, kAny, 0};
    case Form::condition:
      return {1, kAny, 0};
    case Form::barrier:
    case Form::function:
      return {0, 0, 0};
    case Form::generic:
      return {1, kAny, kAny, 1, 1};
    case Form::for_loop:
      return {3, kAny, kAny, 1, 1};
    case Form::if_else:
      return {1, 1, kAny, 1, 2};
    case Form::while_loop:
      return {0, kAny, kAny, 2, 2};
  }
  NEREID_UNREACHABLE("no counts for {}", op_spelling(kind));
}

std::vector<Type> operand_types(const Op& op, std::size_t first) {
  std::vector<Type> types;
  for (std::size_t i = first; i < op.operands.size(); ++i) types.push_back(op.operands[i]->type);
  return types;
}

std::vector<Type> result_types(const Op& op) {
  std::vector<Type> types;
  for (const auto& result : op.results) types.push_back(result->type);
  return types;
}

std::vector<Type> arg_types(const Block& block, std::size_t first) {
  std::vector<Type> types;
  for (std::size_t i = first; i < block.args.size(); ++i) types.push_back(block.args[i]->type);
  return types;
}

Type element(Type type) {
  type.shape.clear();
  return type;
}

OpRules::OpRules(std::string where, std::string kernel)
    : where_(std::move(where)), kernel_(std::move(kernel)) {}

void OpRules::size(const Op& op, const Type& type) const {
  std::int64_t n_elements = 1;
  expect(type.shape.size() <= kMaxRank, op, "a tensor of more than {} dimensions", kMaxRank);
  for (const std::int64_t dim : type.shape) {
    expect(dim >= 1 && dim <= kMaxElements, op, "a tensor dimension of {}", dim);
    n_elements *= dim;
    expect(n_elements <= kMaxElements, op, "a tensor of more than {} elements", kMaxElements);
  }
}

void OpRules::counts(const Op& op) const {
  const Counts counts = counts_of(op.kind);
  expect(op.operands.size() >= counts.min_operands && op.operands.size() <= counts.max_operands, op,
         "{} operands; expected {}", op.operands.size(),
         counts.max_operands == counts.min_operands ? fmt::format("{}", counts.min_operands)
         : counts.max_operands == kAny
             ? fmt::format("{} or more", counts.min_operands)
             : fmt::format("{} to {}", counts.min_operands, counts.max_operands));
  expect(counts.n_results == kAny || op.results.size() == counts.n_results, op,
         "{} results; expected {}", op.results.size(), counts.n_results);
  expect(op.regions.size() >= counts.min_regions && op.regions.size() <= counts.max_regions, op,
         "{} regions; expected {}", op.regions.size(), counts.min_regions);
  for (const auto& [name, value] : op.attrs) {
    expect(contains(kKnownAttributes, name) || name.find('.') != std::string::npos, op,
           "attribute {} is not supported", name);
  }
  for (const auto& result : op.results) size(op, result->type);
  for (const auto& region : op.regions) {
    for (const auto& arg : region->block->args) size(op, arg->type);
  }
}

void OpRules::check(const Op& op) const {
  counts(op);
  switch (op_class(op.kind)) {
    case OpClass::elementwise:
      return elementwise(op);
    case OpClass::shape:
      return shape(op);
    case OpClass::memory:
      return memory(op);
    case OpClass::reduction:
      return reduction(op);
    case OpClass::matmul:
      return op.kind == OpKind::dot_scaled ? dot_scaled(op) : dot(op);
    case OpClass::control:
      return control(op);
    case OpClass::other:
      return other(op);
  }
}

void OpRules::elementwise(const Op& op) const {
  const Type& result = op.result()->type;
  const Type& first = op.operands[0]->type;
  switch (op.kind) {
    case OpKind::addptr: {
      const Type& offset = op.operands[1]->type;
      expect(first.is_pointer, op, "operand %{} is no pointer", op.operands[0]->name);
      expect(is_int(offset) && offset.shape == first.shape, op,
             "offset %{} has type {}; expected integers in the shape of {}", op.operands[1]->name,
             type_text(offset), type_text(first));
      return expect_type(op, "the result", result, first);
    }
    case OpKind::select: {
      const Type& condition = op.operands[0]->type;
      expect(condition == scalar_type(Scalar::i1) || condition == with_scalar(result, Scalar::i1),
             op, "condition %{} has type {}", op.operands[0]->name, type_text(condition));
      expect_type(op, "operand 1", op.operands[1]->type, result);
      return expect_type(op, "operand 2", op.operands[2]->type, result);
    }
    case OpKind::extern_elementwise:
      expect(!op.word_attr("symbol", "").empty(), op, "no symbol");
      for (const Value* operand : op.operands) {
        expect(operand->type.shape == result.shape, op,
               "operand %{} has type {}; expected the "
               "shape of {}",
               operand->name, type_text(operand->type), type_text(result));
      }
      return;
    case OpKind::cmpi:
    case OpKind::cmpf: {
      const bool is_integer_compare = op.kind == OpKind::cmpi;
      const std::string_view predicate = op.word_attr("predicate", "");
      expect(is_integer_compare ? contains(kIntegerPredicates, predicate)
                                : contains(kFloatPredicates, predicate),
             op, "unknown predicate '{}'", predicate);
      expect(is_integer_compare ? is_int(first) : is_flt(first), op, "cannot compare {}",
             type_text(first));
      expect_type(op, "operand 1", op.operands[1]->type, first);
      return expect_type(op, "the result", result, with_scalar(first, Scalar::i1));
    }
    default:
      break;
  }
  const Form form = op_form(op.kind);
  if (form == Form::convert || form == Form::arrow) return conversion(op);
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    expect_type(op, fmt::format("operand {}", i), op.operands[i]->type, result);
  }
  const std::string_view name = op_spelling(op.kind);
  const bool takes_integers = (name.starts_with("arith.") && !name.ends_with("f")) ||
                              op.kind == OpKind::absi || op.kind == OpKind::mulhiui;
  expect(takes_integers ? is_int(result) : is_flt(result), op, "a result of type {}",
         type_text(result));
  if (op.kind == OpKind::clampf) {
    const std::string_view word = op.word_attr("propagateNan", "");
    expect(word == "none" || word == "all", op, "propagateNan = '{}'; expected none or all", word);
  }
}

void OpRules::conversion(const Op& op) const {
  const Type& to = op.result()->type;
  const Type& from = op.operands[0]->type;
  const int n_from = from.is_pointer ? 64 : bit_width(from.scalar);
  const int n_to = to.is_pointer ? 64 : bit_width(to.scalar);
  const auto holds = [&] {
    switch (op.kind) {
      case OpKind::extf:
        return is_flt(from) && is_flt(to) && n_from < n_to;
      case OpKind::truncf:
        return is_flt(from) && is_flt(to) && n_from > n_to;
      case OpKind::extsi:
      case OpKind::extui:
        return is_int(from) && is_int(to) && n_from < n_to;
      case OpKind::trunci:
        return is_int(from) && is_int(to) && n_from > n_to;
      case OpKind::sitofp:
      case OpKind::uitofp:
        return is_int(from) && is_flt(to);
      case OpKind::fptosi:
      case OpKind::fptoui:
        return is_flt(from) && is_int(to);
      case OpKind::index_cast:
        return is_int(from) && is_int(to);
      case OpKind::fp_to_fp:
        return is_flt(from) && is_flt(to);
      case OpKind::bitcast:
        return !from.is_pointer && !to.is_pointer && n_from == n_to;
      case OpKind::bitcast_tt:
        return from.is_pointer == to.is_pointer && n_from == n_to;
      case OpKind::int_to_ptr:
        return is_int(from) && n_from == 64 && to.is_pointer;
      case OpKind::ptr_to_int:
        return from.is_pointer && is_int(to) && n_to == 64;
      default:
        return false;
    }
  };
  expect(holds() && from.shape == to.shape, op, "cannot make {} of {}", type_text(to),
         type_text(from));
  const std::string_view rounding = op.word_attr("rounding", "rtne");
  expect(rounding == "rtne" || rounding == "rtz", op, "rounding '{}'; expected rtne or rtz",
         rounding);
}

void OpRules::shape(const Op& op) const {
  const Type& to = op.result()->type;
  if (op.kind == OpKind::poison) return;
  if (op.kind == OpKind::constant) {
    const Attr* value = op.attr("value");
    const bool fits =
        value != nullptr && (is_float(to.scalar) ? std::holds_alternative<double>(*value)
                                                 : std::holds_alternative<std::int64_t>(*value));
    return expect(fits && !to.is_pointer, op, "no value of type {}", type_text(to));
  }
  if (op.kind == OpKind::make_range) {
    const std::int64_t start = op.int_attr("start", -1);
    const std::int64_t end = op.int_attr("end", -1);
    const bool is_vector = to.shape.size() == 1 && !to.is_pointer && to.scalar == Scalar::i32;
    return expect(
        is_vector && start >= 0 && end > start && end <= INT32_MAX && to.shape[0] == end - start,
        op, "start {}, end {} for {}", start, end, type_text(to));
  }
  const Type& from = op.operands[0]->type;
  const std::vector<std::int64_t>& dims = from.shape;
  const auto axis = op.int_attr("axis", -1);
  const auto holds = [&] {
    switch (op.kind) {
      case OpKind::splat:
        return !from.is_tensor() && to.is_tensor();
      case OpKind::unsplat:
        return from.is_tensor() && from.n_elements() == 1 && !to.is_tensor();
      case OpKind::expand_dims: {
        if (axis < 0 || axis > static_cast<std::int64_t>(dims.size()) || dims.empty()) return false;
        std::vector<std::int64_t> expanded = dims;
        expanded.insert(expanded.begin() + axis, 1);
        return to.shape == expanded;
      }
      case OpKind::broadcast: {
        bool fits = !dims.empty() && to.shape.size() == dims.size();
        for (std::size_t i = 0; fits && i < dims.size(); ++i) {
          fits = dims[i] == to.shape[i] || dims[i] == 1;
        }
        return fits;
      }
      case OpKind::reshape:
        return from.is_tensor() && to.is_tensor() && from.n_elements() == to.n_elements();
      case OpKind::trans: {
        const Attr* attr = op.attr("order");
        const auto* order = attr ? std::get_if<std::vector<std::int64_t>>(attr) : nullptr;
        if (!order || order->size() != dims.size() || to.shape.size() != dims.size()) return false;
        std::vector<bool> seen(dims.size());
        for (std::size_t i = 0; i < dims.size(); ++i) {
          const std::int64_t source = (*order)[i];
          if (source < 0 || source >= static_cast<std::int64_t>(dims.size())) return false;
          const auto at = static_cast<std::size_t>(source);
          if (seen[at] || to.shape[i] != dims[at]) return false;
          seen[at] = true;
        }
        return true;
      }
      case OpKind::join: {
        std::vector<std::int64_t> joined = dims;
        joined.push_back(2);
        return op.operands[1]->type == from && from.is_tensor() && to.shape == joined;
      }
      case OpKind::cat: {
        std::vector<std::int64_t> both = dims;
        if (dims.empty()) return false;
        both[0] *= 2;
        return op.operands[1]->type == from && to.shape == both;
      }
      case OpKind::gather: {
        const Type& at = op.operands[1]->type;
        bool fits = is_int(at) && at.scalar != Scalar::i1 && at.shape == to.shape && axis >= 0 &&
                    axis < static_cast<std::int64_t>(dims.size()) && dims.size() == to.shape.size();
        for (std::size_t i = 0; fits && i < dims.size(); ++i)
          fits = dims[i] == to.shape[i] || static_cast<std::int64_t>(i) == axis;
        return fits;
      }
      case OpKind::split: {
        std::vector<std::int64_t> joined = to.shape;
        joined.push_back(2);
        return op.result(1)->type == to && to.is_tensor() && dims == joined;
      }
      default:
        return false;
    }
  };
  const bool same_element = from.scalar == to.scalar && from.is_pointer == to.is_pointer;
  expect(same_element && holds(), op, "cannot make {} of {}{}", type_text(to), type_text(from),
         op.kind == OpKind::expand_dims ? fmt::format(" with axis {}", axis) : "");
}

void OpRules::memory(const Op& op) const {
  const Type& pointer = op.operands[0]->type;
  expect(pointer.is_pointer, op, "operand %{} has type {}; expected a pointer",
         op.operands[0]->name, type_text(pointer));
  const Type value = with_scalar(pointer, pointer.scalar);
  const Type mask = with_scalar(pointer, Scalar::i1);
  if (op.kind == OpKind::load) {
    if (op.operands.size() > 1) expect_type(op, "the mask", op.operands[1]->type, mask);
    if (op.operands.size() > 2) expect_type(op, "the other value", op.operands[2]->type, value);
    return expect_type(op, "the result", op.result()->type, value);
  }
  expect_type(op, "the value", op.operands[1]->type, value);
  if (op.kind == OpKind::atomic_cas) {
    expect_type(op, "the new value", op.operands[2]->type, value);
    expect(bit_width(value.scalar) >= 16, op, "on {}", type_text(value));
    return expect_type(op, "the result", op.result()->type, value);
  }
  if (op.operands.size() > 2) expect_type(op, "the mask", op.operands[2]->type, mask);
  if (op.kind != OpKind::atomic_rmw) return;
  expect_type(op, "the result", op.result()->type, value);
  const std::string_view word = op.word_attr("rmw_op", "");
  expect(contains(kAtomics, word), op, "unknown operation '{}'", word);
  // Extrema of floats are what descriptors of 16 bits ask for; Triton makes integers' of others.
  const bool is_extreme = word == "min" || word == "max";
  expect(word == "exch" || is_extreme || (word == "fadd") == is_float(value.scalar), op, "{} on {}",
         word, type_text(value));
}

void OpRules::reduction(const Op& op) const {
  if (op.kind == OpKind::inline_asm) return inline_asm(op);
  const Type& first = op.operands[0]->type;
  if (op.kind == OpKind::map_elementwise) return mapping(op);
  if (op.kind == OpKind::histogram) {
    const Type& bins = op.result()->type;
    expect(is_int(first) && first.shape.size() == 1 && is_int(bins) && bins.shape.size() == 1 &&
               (bins.scalar == Scalar::i32 || bins.scalar == Scalar::i64),
           op, "cannot make {} of {}", type_text(bins), type_text(first));
    if (op.operands.size() > 1)
      expect_type(op, "the mask", op.operands[1]->type, with_scalar(first, Scalar::i1));
    return;
  }
  const std::int64_t axis = op.int_attr("axis", -1);
  const auto rank = static_cast<std::int64_t>(first.shape.size());
  expect(axis >= 0 && axis < rank, op, "axis {} of {}", axis, type_text(first));
  std::vector<Type> results;
  std::vector<Type> arguments;
  for (const Value* operand : op.operands) {
    expect(operand->type.shape == first.shape, op,
           "operand %{} has type {}; expected the shape "
           "of {}",
           operand->name, type_text(operand->type), type_text(first));
    results.push_back(operand->type);
    if (op.kind == OpKind::reduce) {
      results.back().shape.erase(results.back().shape.begin() + axis);
    }
    arguments.push_back(element(operand->type));
  }
  expect_types(op, "result", result_types(op), results);
  for (std::size_t i = 0; i < op.operands.size(); ++i) arguments.push_back(arguments[i]);
  expect_types(op, "region argument", arg_types(*op.regions[0]->block), arguments);
  const std::int64_t reverse = op.int_attr("reverse", 0);
  expect(reverse == 0 || reverse == 1, op, "reverse = {}", reverse);
}

// The end of the program, or of a function that it calls; from branches too, not from loops.
void OpRules::return_from(const Op& op) const {
  expect(op.parent != nullptr, op, "outside of a function");
  const Op* owner = op.parent->parent;
  while (owner != nullptr && owner->kind == OpKind::scf_if) owner = owner->parent->parent;
  if (owner == nullptr)
    return expect(op.operands.empty(), op, "a kernel that returns a value; expected none");
  expect(owner->kind == OpKind::call, op, "inside a loop");
  expect_types(op, "value", operand_types(op), result_types(*owner));
}

void OpRules::control(const Op& op) const {
  switch (op.kind) {
    case OpKind::scf_for: {
      const Block& body = *op.regions[0]->block;
      expect(!body.args.empty(), op, "no loop variable");
      const Type& variable = body.args[0]->type;
      expect(is_int(variable) && !variable.is_tensor(), op, "a loop variable of type {}",
             type_text(variable));
      for (std::size_t i = 0; i < 3; ++i) {
        expect_type(op, "a bound", op.operands[i]->type, variable);
      }
      expect_types(op, "carried value", operand_types(op, 3), result_types(op));
      return expect_types(op, "region argument", arg_types(body, 1), result_types(op));
    }
    case OpKind::scf_if:
      expect_type(op, "the condition", op.operands[0]->type, scalar_type(Scalar::i1));
      expect(op.results.empty() || op.regions.size() == 2, op, "results without an else");
      for (const auto& region : op.regions) {
        expect(region->block->args.empty(), op, "a region with arguments");
      }
      return;
    case OpKind::scf_while:
      expect_types(op, "argument", arg_types(*op.regions[0]->block), operand_types(op));
      return expect_types(op, "argument", arg_types(*op.regions[1]->block), result_types(op));
    case OpKind::call:
      return;  // what its region returns is checked there
    case OpKind::return_:
      return return_from(op);
    default:
      return expect(op.parent != nullptr && op.parent->parent != nullptr, op,
                    "outside of the region that it ends");
  }
}

void OpRules::other(const Op& op) const {
  if (op.kind == OpKind::assume) {
    expect_type(op, "the condition", op.operands[0]->type, scalar_type(Scalar::i1));
  }
  if (op.kind == OpKind::assert_) {
    expect(is_int(op.operands[0]->type) && op.operands[0]->type.scalar == Scalar::i1, op,
           "a condition of type {}", type_text(op.operands[0]->type));
  }
  if (op.kind == OpKind::print) {
    const Attr* attr = op.attr("isSigned");
    const auto* flags = attr ? std::get_if<std::vector<std::int64_t>>(attr) : nullptr;
    expect(flags != nullptr && flags->size() == op.operands.size(), op, "isSigned for {} operands",
           op.operands.size());
  }
  if (op_form(op.kind) != Form::program_id) return;
  const std::int64_t axis = op.int_attr("axis", -1);
  expect(axis >= 0 && axis <= 2, op, "axis {}; expected 0 to 2", axis);
  expect_type(op, "the result", op.result()->type, scalar_type(Scalar::i32));
}

}  // namespace nereid::ttir
