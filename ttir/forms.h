// Goal: how each operation is written in Triton's pretty form; the parser reads it, the printer
// writes it.
// Non-goal: what operations mean or which types they take: verify.cc.
// Rejected: one grammar string per operation interpreted at run time: twenty forms cover all of
// them.
#pragma once

#include <cstdint>

#include "ir.h"

namespace nereid::ttir {

enum class Form : std::uint8_t {
  same,        // %a, %b : T                     every operand and the result are T
  compare,     // slt, %a, %b : T                result i1 in T's shape
  select,      // %c, %a, %b : [C,] T
  convert,     // %a : T to U
  arrow,       // %a, %b : T -> U                operands all T, results all U
  addptr,      // %p, %i : P, I                  result P
  load,        // %p, %m, %o : P
  store,       // %p, %v, %m : P
  functional,  // %a, %b : (T, U) -> V
  atomic,      // fadd, acq_rel, gpu, %p, ... : (P, T, M) -> T
  gather,      // %a[%i] {axis = 0} : (T, I) -> U
  print,       // "text" {...} : %a, %b : T, U
  assertion,   // %c, "text" : T
  histogram,   // %a[, %mask] : T -> U
  dot,         // %a, %b, %c : A * B -> C
  dot_scaled,  // %a[ scale %s], %b[ scale %t], %c lhs = e4m3 rhs = e4m3 : A[, S] * B[, T] -> C
  inline_asm,  // "text" {...}[ %a, %b : T, U] -> V, W
  call,        // @name(%a) : (T) -> U           its body is read in its place
  produce,     // {...} : T
  program_id,  // x : i32
  constant,    // dense<0> : T
  unsplat,     // %a : T                         result T's scalar
  statement,   // %a, %b : T, U                  no result
  condition,   // (%c) %a, %b : T, U
  barrier,     // words
  generic,     // "op"(%a) <{...}> ({...}) : (T) -> U
  for_loop,
  if_else,
  while_loop,
  function,
};

Form op_form(OpKind kind);

// Regions nest at most this deep, so that recursion over them is bounded.
inline constexpr int kMaxNesting = 64;
inline constexpr std::size_t kMaxRank = 24;
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 24;

Type scalar_type(Scalar scalar);
bool is_float(Scalar scalar);
bool is_integer(Scalar scalar);
int bit_width(Scalar scalar);  // index counts as 64
std::string_view scalar_text(Scalar scalar);

// Adds an operand and the use that goes with it.
void add_operand(Op& op, Value* value);

// A value written in `scalar`'s bits, as the double of the same value; and the bits of an infinity
// or a NaN.
double float_from_bits(std::uint64_t bits, Scalar scalar);
std::uint64_t bits_of_special(double value, Scalar scalar);
// Rounds to the nearest value that `scalar` has, ties to even; infinity where it is too large.
double round_to(double value, Scalar scalar);

}  // namespace nereid::ttir
