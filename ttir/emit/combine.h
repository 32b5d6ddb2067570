// Goal: what is known of the function that combines two elements in a reduction or scan.
// Non-goal: the order in which elements are combined: reduce.cc and tree.cc.
// Rejected: a table of Triton's own functions by name: the IR has no names, users write their own.
#pragma once

#include <string>

#include "ir.h"

namespace nereid::ttir {

// The one operation that the function is made of, or null.
const Op* single_combine(const Op& reduce);

// What leaves the other operand of such an operation as it is, as a literal; empty where the
// function is anything else.
std::string reduce_identity(const Op& reduce);

}  // namespace nereid::ttir
