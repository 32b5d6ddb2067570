#include "device/cpu/parallel_copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace nereid::device {

namespace {

struct Copy {
  std::byte* target;
  std::span<const std::byte> source;
};

void copy_slices(void* opaque, int, std::uint64_t begin, std::uint64_t end) {
  const auto& copy = *static_cast<const Copy*>(opaque);
  const auto first = begin * kCopySliceBytes;
  const auto n_bytes = std::min(end * kCopySliceBytes, copy.source.size()) - first;
  std::memcpy(copy.target + first, copy.source.data() + first, n_bytes);
}

}  // namespace

void parallel_copy(ThreadPool& pool, std::byte* target, std::span<const std::byte> source) {
  Copy copy{target, source};
  pool.run((source.size() + kCopySliceBytes - 1) / kCopySliceBytes, copy_slices, &copy);
}

}  // namespace nereid::device
