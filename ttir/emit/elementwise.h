// Goal: one elementwise operation as a C++ expression over its operands' expressions, for scalars
// and vectors alike.
// Non-goal: where operands come from: nest.h.
// Rejected: separate tables for scalars and vectors: the runtime overloads the same names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir.h"

namespace nereid::ttir {

// Which results of narrow types are rounded to one that the type has.
enum class Rounds : std::uint8_t { always, conversions };

// `args` are all vectors (masks for i1) or, with is_vector false, all scalars.
std::string elementwise_text(const Op& op, const std::vector<std::string>& args, bool is_vector,
                             const std::string& where, Rounds rounds = Rounds::always);

// A function of NVIDIA's libdevice; libdevice.cc has the map.
std::string libdevice_text(const Op& op, const std::vector<std::string>& args,
                           const std::string& where);

// What carries a value of a narrow float type, rounded to one that the type has.
std::string rounded_text(const std::string& text, Scalar scalar, bool toward_zero = false);

// The bits of a value as an integer as wide, and the value of such bits.
std::string bits_text(const std::string& text, Scalar scalar);
std::string value_of_bits_text(const std::string& text, Scalar scalar);

// A scalar expression in every lane.
std::string broadcast_text(const std::string& scalar, const Type& type);

}  // namespace nereid::ttir
