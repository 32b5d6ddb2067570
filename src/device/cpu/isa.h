// Goal: the level of instructions this processor runs, and whether an object compiled for some
// level runs here.
// Non-goal: single features, but for the one that decides what is planned: objects are compiled for
// levels and nothing finer.
#pragma once

#include <string>
#include <string_view>

namespace nereid::device {

// "x86-64-v4", "x86-64-v3" or "aarch64"; an Error on a processor below those. The environment's
// NEREID_ISA asks for a lower one.
std::string host_isa();

// True where an object compiled for `object_isa` runs on a processor of level `isa`.
bool isa_runs(std::string_view isa, std::string_view object_isa);

// Whether it multiplies bytes four pairs at a time (AVX512-VNNI, or AVX-VNNI below x86-64-v4).
// Objects ask for themselves (ttir/runtime/dot_int8.h), and are slower than with fp32 where it does
// not.
bool multiplies_bytes();

}  // namespace nereid::device
