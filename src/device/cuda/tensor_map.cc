#include "device/cuda/tensor_map.h"

#include "base/error.h"

namespace nereid::device::cuda {

namespace {

// The driver's own numbers.
int element_code(DType dtype) {
  switch (dtype) {
    case DType::i8:
    case DType::u8:
    case DType::fp8e4nv:
    case DType::fp8e5:
      return 0;  // bytes, which are copied as they are
    case DType::i32:
      return 3;
    case DType::i64:
      return 5;
    case DType::fp16:
      return 6;
    case DType::fp32:
      return 7;
    case DType::bf16:
      return 9;
    default:
      throw Error("no tensor map of {}", dtype_name(dtype));
  }
}

int swizzle_code(int swizzle_bytes) {
  switch (swizzle_bytes) {
    case 0:
      return 0;
    case 32:
      return 1;
    case 64:
      return 2;
    case 128:
      return 3;
    default:
      throw Error("no tensor map with a swizzle of {} bytes", swizzle_bytes);
  }
}

constexpr int kNoInterleave = 0;
constexpr int kPromote128Bytes = 2;  // what one miss brings into the L2 cache
constexpr int kFillZero = 0;

}  // namespace

TensorMap encode_tensor_map(const Session& session, const TiledMatrix& matrix) {
  NEREID_CHECK(matrix.rank >= 1 && matrix.rank <= kMaxTensorMapRank, "rank {}", matrix.rank);
  const auto size_bytes = static_cast<std::uint64_t>(dtype_size_bytes(matrix.element));
  std::array<std::uint64_t, kMaxTensorMapRank> sizes{};
  std::array<std::uint64_t, kMaxTensorMapRank> strides_bytes{};
  std::array<std::uint32_t, kMaxTensorMapRank> box{};
  std::array<std::uint32_t, kMaxTensorMapRank> element_strides{};
  // The driver counts dimensions from the innermost; that one's stride is not asked for.
  for (std::size_t i = 0; i < matrix.rank; ++i) {
    const std::size_t from = matrix.rank - 1 - i;
    sizes[i] = static_cast<std::uint64_t>(matrix.shape[from]);
    box[i] = matrix.box[from];
    element_strides[i] = 1;
    if (i > 0) strides_bytes[i - 1] = static_cast<std::uint64_t>(matrix.strides[from]) * size_bytes;
  }
  // Not right into what is returned: a temporary of the caller's may lie less aligned than its type
  // says (GCC 12), which the driver refuses.
  alignas(TensorMap) decltype(TensorMap::bytes) encoded{};
  session.make_current();
  session.call(session.api().tensor_map_encode, static_cast<void*>(encoded.data()),
               element_code(matrix.element), static_cast<unsigned>(matrix.rank),
               reinterpret_cast<void*>(matrix.address), sizes.data(), strides_bytes.data(),
               box.data(), element_strides.data(), kNoInterleave,
               swizzle_code(matrix.swizzle_bytes), kPromote128Bytes, kFillZero);
  return {encoded};
}

}  // namespace nereid::device::cuda
