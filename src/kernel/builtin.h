// Goal: the texts this program was built with: specs, tuning tables, and hashes of the sources of
// the cpu compiler and of the planner. Written by embed.py at build time.
#pragma once

#include <span>
#include <string_view>

namespace nereid::kernel {

struct BuiltinText {
  std::string_view name;  // "tuning/cpu/linear.json"
  std::string_view text;
};

std::string_view builtin_specs();
std::span<const BuiltinText> builtin_tuning();
// Part of the name of cached cpu bundles: another ttir/ makes other objects from the same requests.
std::string_view builtin_ttir_sha256();
// Changes whenever another program might ask for other kernels: of specs, tuning tables and the
// sources that read them.
std::string_view builtin_planner_sha256();

}  // namespace nereid::kernel
