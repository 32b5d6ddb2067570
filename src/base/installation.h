// Goal: where what comes with the engine lies that is no code of it: the kernels' sources and their
// compiler, the bundled model, well-known configurations.
// Non-goal: the places that the environment names; who looks asks it first.
// Rejected: a folder fixed when building. An installation may be moved, and the program that uses
// the library lies anywhere; what was loaded from PREFIX/bin or PREFIX/lib knows its PREFIX.
#pragma once

#include <filesystem>
#include <optional>

namespace nereid {

// The file that this code was loaded from: a program, or the library that a program loaded.
std::filesystem::path own_file();

// PREFIX of the bin/, lib/ and share/nereid/ that own_file() belongs to; none in a build tree.
std::optional<std::filesystem::path> installed_prefix();

// PREFIX/share/nereid, or the sources that a build tree was made from.
std::filesystem::path share_dir();

}  // namespace nereid
