// Goal: how types, constants and values are written in the emitted C++.
// Non-goal: expressions: eval.cc.
// Rejected: names from the IR as they are: they collide with C++ words and with each other.
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "ir.h"

namespace nereid::ttir {

// fmt::format for texts that are assembled, not looked up.
template <typename... Args>
std::string cat(const Args&... args) {
  std::string out;
  ((out += args), ...);
  return out;
}

bool is_float_type(Scalar s);
bool is_narrow(Scalar s);           // f16, bf16, 8-bit floats: carried as float
std::string vector_type(Scalar s);  // sixteen lanes of it
std::string value_type(Scalar s);   // "float" for f16: the type that computes
std::string memory_type(Scalar s);  // "rt::f16": the element in memory
std::string storage_type(
    const Type& t);  // an element of the arena; pointers as std::int64_t addresses
int storage_bytes(const Type& t);
int memory_bytes(Scalar s);
std::string int_literal(std::int64_t value, Scalar s);
std::string float_literal(double value, Scalar s);

std::string_view spelling_of(const Op& op);
[[noreturn]] void refuse(const std::string& where, const Op& op, const std::string& why);

class Names {
 public:
  // One name a value, the same at every call.
  const std::string& of(const Value* v);
  // A further name for v, for its value at one index.
  std::string fresh(const Value* v) { return fresh(stem(v)); }
  // A name like `like` that nothing else has.
  std::string fresh(const std::string& like);

 private:
  static std::string stem(const Value* v) { return cat("v_", v->name); }

  std::unordered_map<const Value*, std::string> names_;
  std::unordered_set<std::string> taken_;
};

}  // namespace nereid::ttir
