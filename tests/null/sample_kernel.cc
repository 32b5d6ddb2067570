// A cpu object written by hand to the convention of docs/formats.md, section 5: what device_test.cc
// loads.
#include <cstdint>

// out[program] = in[program] * factor + the program's own coordinates, through the arena.
extern "C" __attribute__((visibility("default"))) void sample(const void* const* args, void* arena,
                                                              std::uint32_t x, std::uint32_t y,
                                                              std::uint32_t z, std::uint32_t nx,
                                                              std::uint32_t ny, std::uint32_t) {
  auto* out = *static_cast<std::int64_t* const*>(args[0]);
  const auto* in = *static_cast<const std::int64_t* const*>(args[1]);
  const auto factor = *static_cast<const std::int32_t*>(args[2]);
  const std::uint64_t index = (std::uint64_t{z} * ny + y) * nx + x;
  // Two programs on one arena at the same time would see each other's values here.
  auto* scratch = static_cast<volatile std::uint64_t*>(arena);
  constexpr int kScratch = 64;
  for (int i = 0; i < kScratch; ++i) scratch[i] = index;
  std::uint64_t sum = 0;
  for (int i = 0; i < kScratch; ++i) sum += scratch[i];
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(arena) % 64 == 0;
  out[index] = is_aligned && sum == index * kScratch
                   ? in[index] * factor + x + 1000 * y + 1000000 * std::int64_t{z}
                   : -1;
}
