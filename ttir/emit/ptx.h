// Goal: inline assembly as C++: straight lines of the PTX instructions of ptx.def.
// Non-goal: what one run of it takes and gives: inline_asm.cc.
// Rejected: a list of whole texts that are known: every project writes its own.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::ttir {

// A register: a name in C++, and how many bits it has.
struct PtxRegister {
  std::string name;
  int n_bits = 32;
};

// The statements that `text` is, on `registers` for $0, $1, ...; `fresh` names further ones. Calls
// `fail(message)`, which throws, for anything that is not in the table.
std::vector<std::string> ptx_lines(std::string_view text, const std::vector<PtxRegister>& registers,
                                   const std::function<std::string(const std::string&)>& fresh,
                                   const std::function<void(const std::string&)>& fail);

}  // namespace nereid::ttir
