// Goal: Triton IR in memory, typed and small: what the parser makes, the verifier checks and the
// emitter reads.
// Non-goal: a general MLIR. Regions hold one block each: the parser turns branches between blocks
// into scf.if; values are immutable; nothing is rewritten in place.
// Rejected: linking MLIR: 100 MB of libraries to read a text of 200 lines.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nereid::ttir {

enum class Scalar : std::uint8_t {
  i1,
  i8,
  i16,
  i32,
  i64,
  index,
  f16,
  bf16,
  f32,
  f64,
  f8e4m3fn,
  f8e5m2,
  f8e4m3fnuz,
  f8e5m2fnuz
};

// A value's type. `shape` empty: a scalar. `is_pointer`: the elements are addresses of `scalar`s.
struct Type {
  Scalar scalar = Scalar::i32;
  bool is_pointer = false;
  std::vector<std::int64_t> shape;

  bool is_tensor() const { return !shape.empty(); }
  std::int64_t n_elements() const;
  bool operator==(const Type&) const = default;
};

enum class OpClass : std::uint8_t { elementwise, shape, memory, reduction, matmul, control, other };

enum class OpKind : std::uint8_t {
#define TTIR_OP(enumerator, spelling, op_class) enumerator,
#include "ops.def"
#undef TTIR_OP
};

std::string_view op_spelling(OpKind kind);
OpClass op_class(OpKind kind);

struct Op;
struct Block;

struct Value {
  std::string name;  // without the %: "12", "acc_3", "r:1" is {"r", result 1}
  Type type;
  Op* def = nullptr;       // null for block and function arguments
  Block* block = nullptr;  // the block whose argument this is; null for results
  int index = 0;           // result or argument number
  std::vector<Op*> users;  // each use once per operand
};

// Attribute values: integers and booleans, floats, words and strings (`slt`, `evict_first`),
// integer lists.
using Attr = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>>;

struct Region;

struct Op {
  OpKind kind;
  std::vector<Value*> operands;
  std::vector<std::unique_ptr<Value>> results;
  std::vector<std::pair<std::string, Attr>> attrs;
  std::vector<std::unique_ptr<Region>> regions;
  Block* parent = nullptr;
  int line = 0;  // in the IR text

  const Attr* attr(std::string_view name) const;  // null where absent
  std::int64_t int_attr(std::string_view name, std::int64_t fallback) const;
  std::string_view word_attr(std::string_view name, std::string_view fallback) const;
  Value* result(std::size_t i = 0) const { return results[i].get(); }
};

struct Block {
  std::vector<std::unique_ptr<Value>> args;
  std::vector<std::unique_ptr<Op>> ops;  // the last one is the terminator
  Op* parent = nullptr;
};

struct Region {
  std::unique_ptr<Block> block;
};

// One kernel; functions that it calls are part of its body. Arguments carry {tt.divisibility = 16}.
struct Function {
  std::string name;
  std::unique_ptr<Block> body;
  std::vector<std::int64_t> arg_divisibility;  // 1 where nothing is said
  int line = 0;
};

struct Module {
  std::vector<std::unique_ptr<Function>> functions;  // exactly one
};

// How operations are filled, where the text leaves a choice:
//   arith.constant        attr "value": int64 or double; a splat for tensors (other dense lists are
//   refused);
//                         floats written in hex keep their bits: double of the same value
//   cmpi/cmpf             attr "predicate": word ("slt", "oge")
//   get_program_id        attr "axis": 0, 1, 2
//   make_range            attrs "start", "end"
//   expand_dims, reduce, scan   attr "axis"; scan also "reverse": 0 or 1
//   trans                 attr "order": integer list
//   load                  operands ptr[, mask[, other]]; attrs "cache", "evict" (words), "volatile"
//   store                 operands ptr, value[, mask]; the same attrs
//   atomic_rmw            operands ptr, value[, mask]; attrs "rmw_op", "sem", "scope" (words)
//   atomic_cas            operands ptr, compare, value; attrs "sem", "scope" (words)
//   print                 attrs "prefix" (text), "hex", "isSigned" (integer list, one an operand)
//   assert                operand condition; attr "message" (text)
//   gather                operands source, indices; attr "axis"
//   histogram             operands source[, mask]
//   dot                   operands a, b, c; attr "inputPrecision" (word)
//   fp_to_fp              attr "rounding" (word)
//   dot_scaled            operands a, b, c[, scale of a][, scale of b]; attrs "scales" (bit 0: a
//   has
//                         one, bit 1: b), "lhs", "rhs" (words: the elements), "lhs_k_pack",
//                         "rhs_k_pack" (0: pairs of e2m1 lie along the other dimension)
//   inline_asm            attrs "asm", "constraints" (text), "packed_element"
//   call                  no operands; region 0: the function's body with the caller's values in
//                         place of its arguments; tt.return ends it, in branches too
//   clampf                attr "propagateNan" (word)
//   extern_elementwise    attr "symbol" (word)
//   scf.for               operands lb, ub, step, inits...; region 0: block args iv, carried...;
//   yields end it scf.if                operand cond; regions then [, else] scf.while operands
//   inits...; region 0 "before" ends in scf.condition, region 1 "after" in scf.yield reduce, scan
//   region 0: block args lhs of every operand, then rhs of every operand; map_elementwise: one
//   block arg an operand
//   tt.return may also end a region of scf.if: the program, or the function called, ends there

// Parses and verifies. Throws nereid::Error "<where>:<line>: ..." on anything else than a kernel it
// fully understands;
// never crashes, whatever the text.
std::unique_ptr<Module> parse_module(std::string_view text, const std::string& where);

// Types, operand counts, dominance, terminators. Throws nereid::Error naming op and line.
void verify(const Module& module, const std::string& where);

// Canonical text; parse(print(m)) prints the same.
std::string print(const Module& module);
std::string type_text(const Type& type);

}  // namespace nereid::ttir
