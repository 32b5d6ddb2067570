#include "device/cpu/isa.h"

#include <cstdlib>

#include "base/error.h"

namespace nereid::device {

namespace {

std::string processor_isa() {
#if defined(__aarch64__)
  return "aarch64";
#elif defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
  throw Error(
      ErrorCode::device,
      "this processor lacks AVX2, FMA or F16C; the cpu device needs x86-64-v3 (Haswell, Zen or "
      "later)");
#else
  throw Error(ErrorCode::device, "the cpu device runs on x86-64 and aarch64 only");
#endif
}

}  // namespace

std::string host_isa() {
  const auto isa = processor_isa();
  const char* asked = std::getenv("NEREID_ISA");
  if (asked == nullptr || *asked == '\0') return isa;
  if (!isa_runs(isa, asked))
    throw Error("NEREID_ISA is \"{}\"; expected a level that this processor runs, up to {}", asked,
                isa);
  return asked;
}

bool isa_runs(std::string_view isa, std::string_view object_isa) {
  return isa == object_isa || (isa == "x86-64-v4" && object_isa == "x86-64-v3");
}

bool multiplies_bytes() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return host_isa() == "x86-64-v4" ? __builtin_cpu_supports("avx512vnni") != 0
                                   : __builtin_cpu_supports("avxvnni") != 0;
#else
  return false;
#endif
}

}  // namespace nereid::device
