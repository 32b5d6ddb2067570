#include "base/installation.h"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace nereid {

namespace fs = std::filesystem;

namespace {

// PREFIX/bin/nereid, PREFIX/lib/libnereid.so, PREFIX/lib/x86_64-linux-gnu/libnereid.so.
constexpr int kMostFoldersInPrefix = 2;

}  // namespace

fs::path own_file() {
  const auto here = reinterpret_cast<std::uintptr_t>(&own_file);
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    std::uintptr_t begin = 0, end = 0;
    int path_at = 0;
    // begin-end, permissions, offset, device and inode, which stand before the path.
    if (std::sscanf(line.c_str(), "%zx-%zx %*s %*s %*s %*s %n", &begin, &end, &path_at) == 2 &&
        begin <= here && here < end)
      return line.substr(std::size_t(path_at));
  }
  return {};
}

std::optional<fs::path> installed_prefix() {
  fs::path prefix = own_file().parent_path();
  for (int n_folders = 0; n_folders < kMostFoldersInPrefix; ++n_folders) {
    prefix = prefix.parent_path();
    std::error_code ignored;
    if (fs::is_directory(prefix / "share" / "nereid", ignored)) return prefix;
  }
  return std::nullopt;
}

fs::path share_dir() {
  const auto prefix = installed_prefix();
  return prefix ? *prefix / "share" / "nereid" : fs::path(NEREID_SOURCE_ROOT);
}

}  // namespace nereid
