// Goal: one kernel of Triton IR to one C++ translation unit (Highway) with the entry point of
// docs/formats.md, section 5.
// Non-goal: running the C++ compiler (aot/targets/cpu.py does), scheduling programs over threads
// (the cpu device does).
#pragma once

#include <cstddef>
#include <string>

#include "ir.h"

namespace nereid::ttir {

struct Emitted {
  std::string source;           // C++
  std::string symbol;           // entry point
  std::size_t arena_bytes = 0;  // scratch that a worker thread must bring
};

// Throws nereid::Error "<where>:<line>: <op>: ..." for an operation or form it does not support.
Emitted emit_cpp(const Module& module, const std::string& where);

}  // namespace nereid::ttir
