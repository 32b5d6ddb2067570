// Goal: known sums of products: four unsigned bytes of a word with four signed ones of another,
// which processors add up in one instruction (ttir/runtime/dot_int8.h).
// Non-goal: products of other widths; bytes in another order.
// Rejected: an operation of its own, which Triton's IR has not; PTX's dp4a in the kernel's source,
// which the other back ends of Triton do not read.
#pragma once

#include <optional>

#include "ir.h"

namespace nereid::ttir {

struct Quads {
  const Value* sum;  // null: zero
  const Value* a;    // words of unsigned bytes
  const Value* b;    // words of signed bytes; a and b may have yet to be broadcast
};

// What op adds up, where it is the last addition of such a sum, in the order of the bytes.
std::optional<Quads> quads_of(const Op& op);

}  // namespace nereid::ttir
