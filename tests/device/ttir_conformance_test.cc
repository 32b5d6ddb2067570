// The CPU compiler against plain C++: small programs of Triton IR are emitted, compiled by the
// system's compiler in one translation unit, and compared with what the same operations give here.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "emit.h"
#include "ir.h"

namespace nereid::ttir {
namespace {

namespace fs = std::filesystem;

using Entry = void (*)(const void* const*, void*, std::uint32_t, std::uint32_t, std::uint32_t,
                       std::uint32_t, std::uint32_t, std::uint32_t);

std::string isa_flags() {
#if defined(__x86_64__)
  const bool v4 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const char* wanted = std::getenv("NEREID_TEST_ISA");
  return std::string("-march=") + (wanted != nullptr ? wanted : v4 ? "x86-64-v4" : "x86-64-v3");
#else
  return "-march=armv8.2-a+fp16+crypto";
#endif
}

class TtirConformance : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const fs::path folder = fs::temp_directory_path() / ("nereid-ttir-" + std::to_string(getpid()));
    fs::create_directories(folder);
    std::ofstream source(folder / "all.cc");
    for (const auto& file :
         fs::directory_iterator(fs::path(NEREID_SOURCE_DIR) / "tests/device/ttir")) {
      std::ifstream in(file.path());
      std::ostringstream text;
      text << in.rdbuf();
      const Emitted e =
          emit_cpp(*parse_module(text.str(), file.path().filename()), file.path().filename());
      source << e.source;
      arena_bytes_[e.symbol] = e.arena_bytes;
    }
    source.close();
    const char* cxx = std::getenv("CXX");
    // -O1: half the compile time; lane counts and masks are the same.
    const std::string command =
        std::string(cxx != nullptr ? cxx : "c++") + " -std=c++20 -O1 " + isa_flags() +
        " -DHWY_COMPILE_ONLY_STATIC -DHWY_DISABLE_PCLMUL_AES -ffp-contract=fast -fno-math-errno"
        " -fwrapv -fno-strict-aliasing -fno-exceptions -fno-rtti -fPIC -shared -I" NEREID_SOURCE_DIR
        "/ttir " +
        (folder / "all.cc").string() + " -o " + (folder / "all.so").string();
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    library_ = dlopen((folder / "all.so").c_str(), RTLD_NOW);
    ASSERT_NE(library_, nullptr) << dlerror();
    fs::remove_all(folder);
  }

  // Runs one program of a grid; arguments are addresses of pointers and scalars.
  template <typename... Args>
  void run(const std::string& symbol, Args... args) {
    const auto entry = reinterpret_cast<Entry>(dlsym(library_, symbol.c_str()));
    ASSERT_NE(entry, nullptr) << symbol;
    const std::size_t bytes = (arena_bytes_.at(symbol) + 127) / 64 * 64;
    const std::unique_ptr<void, decltype(&std::free)> arena(std::aligned_alloc(64, bytes),
                                                            &std::free);
    // NaN where nothing was written: what reads scratch before writing it is seen.
    std::memset(arena.get(), 0xff, bytes);
    const void* const list[] = {static_cast<const void*>(&args)...};
    for (std::uint32_t x = 0; x < grid_; ++x) entry(list, arena.get(), x, 0, 0, grid_, 1, 1);
  }

  std::uint32_t grid_ = 1;

 private:
  static inline void* library_ = nullptr;
  static inline std::map<std::string, std::size_t> arena_bytes_;
};

// Distance in units in the last place of the true value.
double ulps(float got, double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e9;
  const float nearest = static_cast<float>(want);
  if (got == nearest) return 0;
  if (!std::isfinite(got) || !std::isfinite(nearest)) return 1e9;
  const double unit =
      std::ldexp(1.0, std::max(std::ilogb(nearest == 0 ? 1e-45f : nearest), -126) - 23);
  return std::abs(static_cast<double>(got) - want) / unit;
}

TEST_F(TtirConformance, elementary_functions_are_accurate) {
  std::vector<float> x{0.0f,
                       -0.0f,
                       1.0f,
                       -1.0f,
                       88.8f,
                       -88.0f,
                       104.0f,
                       -104.0f,
                       127.9f,
                       128.0f,
                       -149.0f,
                       -126.5f,
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN(),
                       1e-40f,
                       3.4e38f,
                       0.5f,
                       1e5f,
                       131071.0f,
                       -99999.0f};
  std::mt19937 g(1);
  for (int i = 0; i < 2000; ++i) x.push_back(std::uniform_real_distribution<float>(-20, 20)(g));
  for (int i = 0; i < 2000; ++i) x.push_back(std::uniform_real_distribution<float>(-1e5f, 1e5f)(g));
  for (int i = 0; i < 500; ++i) x.push_back(std::uniform_real_distribution<float>(-1, 1)(g));
  const auto n = static_cast<std::int32_t>(x.size());
  std::vector<float> out(8 * x.size() + 1, 7.0f);
  grid_ = static_cast<std::uint32_t>((n + 63) / 64);
  run("elementary", out.data(), x.data(), n);
  EXPECT_EQ(out.back(), 7.0f);
  const struct {
    const char* name;
    double (*function)(double);
    double ulps;
    double absolute;  // where the true value is near zero: sine and cosine in fp32 lose relative
                      // accuracy there
  } rows[] = {
      {"exp", [](double v) { return std::exp(v); }, 2, 0},
      {"exp2", [](double v) { return std::exp2(v); }, 2, 0},
      {"log", [](double v) { return std::log(v); }, 3, 0},
      {"log2", [](double v) { return std::log2(v); }, 4, 0},
      {"sin", [](double v) { return std::sin(v); }, 2, 2e-7},
      {"cos", [](double v) { return std::cos(v); }, 2, 2e-7},
      {"erf", [](double v) { return std::erf(v); }, 8, 3e-7},
      {"rsqrt", [](double v) { return 1 / std::sqrt(v); }, 2, 0},
  };
  for (std::size_t row = 0; row < std::size(rows); ++row)
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float got = out[row * x.size() + i];
      const double want = rows[row].function(x[i]);
      if (std::abs(got - want) <= rows[row].absolute) continue;
      ASSERT_LE(ulps(got, want), rows[row].ulps)
          << rows[row].name << "(" << x[i] << ") = " << got << ", want " << want;
    }
}

TEST_F(TtirConformance, integers_wrap_and_keep_their_sign) {
  std::vector<std::int32_t> a{0, 1, -1, INT32_MAX, INT32_MIN, 7, -7, 100, 12345, -8};
  std::vector<std::int32_t> b{3, -1, -1, 2, 3, -2, 2, 31, -77, 5};
  std::mt19937 g(2);
  for (int i = 0; i < 291; ++i) {
    a.push_back(static_cast<std::int32_t>(g()));
    const auto y = static_cast<std::int32_t>(g() >> (g() % 32));
    b.push_back(y == 0 ? 1 : y);
  }
  const auto n = static_cast<std::int32_t>(a.size());
  std::vector<std::int32_t> out(10 * a.size() + 1, 77);
  grid_ = static_cast<std::uint32_t>((n + 127) / 128);
  run("integers", out.data(), a.data(), b.data(), n);
  EXPECT_EQ(out.back(), 77);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::int64_t x = a[i], y = b[i];
    const auto ux = static_cast<std::uint32_t>(a[i]), uy = static_cast<std::uint32_t>(b[i]);
    const std::int64_t want[] = {
        x * y,           x / y,
        x % y,           static_cast<std::int64_t>(static_cast<std::uint64_t>(ux) * uy >> 32),
        ux >> (uy & 31), x >> (uy & 31),
        ux / uy,         (ux < uy ? 1 : 0) + (x < y ? 2 : 0),
        (x * y) >> 16,   static_cast<std::int64_t>(static_cast<std::uint64_t>(ux) << (uy & 31))};
    for (std::size_t k = 0; k < std::size(want); ++k)
      ASSERT_EQ(out[k * a.size() + i],
                static_cast<std::int32_t>(static_cast<std::uint32_t>(want[k])))
          << "row " << k << " of " << a[i] << ", " << b[i];
  }
}

float f16_to_float(std::uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double sign = (h & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31)
    return mantissa != 0 ? std::numeric_limits<float>::quiet_NaN()
                         : static_cast<float>(sign * INFINITY);
  if (exponent == 0) return static_cast<float>(sign * std::ldexp(mantissa, -24));
  return static_cast<float>(sign * std::ldexp(1024 + mantissa, exponent - 25));
}

// The nearest of all finite halves, ties to the even one; beyond the largest's last half unit,
// infinity.
std::uint16_t float_to_f16(float x) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const double v = std::abs(static_cast<double>(x));
  if (v >= 65520.0) return sign | 0x7c00;
  const int exponent = std::max(v == 0 ? -15 : std::ilogb(v), -14);
  const double scaled = std::nearbyint(std::ldexp(v, 10 - exponent));
  const auto units = static_cast<int>(scaled);
  return static_cast<std::uint16_t>(sign | (((exponent + 14) << 10) + units));
}

std::uint16_t float_to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return static_cast<std::uint16_t>((std::uint64_t{bits} + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TEST_F(TtirConformance, halves_convert_exactly_and_round_to_even) {
  std::vector<std::uint16_t> h, b;
  std::vector<float> f;
  std::mt19937 g(3);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    h.push_back(static_cast<std::uint16_t>(i));
    b.push_back(static_cast<std::uint16_t>(i));
    // Between neighbours, on them, and beyond the range.
    float x = f16_to_float(static_cast<std::uint16_t>(i & 0xfbff));
    const float next = f16_to_float(static_cast<std::uint16_t>((i & 0xfbff) + 1));
    if (i % 3 == 0 && std::isfinite(next)) x = (x + next) / 2;
    if (i % 7 == 0)
      x = std::ldexp(static_cast<float>(g()) / 4294967296.0f - 0.5f,
                     static_cast<int>(g() % 60) - 30);
    f.push_back(std::isfinite(x) ? x : 65519.0f);
  }
  f[1] = 65520.0f, f[2] = -1e9f, f[3] = 1e-9f, f[4] = std::numeric_limits<float>::infinity();
  const auto n = static_cast<std::int32_t>(f.size());
  std::vector<std::uint16_t> out16(f.size()), outb(f.size());
  std::vector<float> out32(4 * f.size());
  grid_ = static_cast<std::uint32_t>((n + 255) / 256);
  run("halves", out16.data(), outb.data(), out32.data(), h.data(), b.data(), f.data(), n);
  const std::size_t count = f.size();
  for (std::size_t i = 0; i < count; ++i) {
    const float wide = f16_to_float(h[i]);
    const float from_b = std::bit_cast<float>(std::uint32_t{b[i]} << 16);
    ASSERT_TRUE(out32[i] == wide || (std::isnan(out32[i]) && std::isnan(wide))) << i;
    ASSERT_TRUE(out32[count + i] == from_b || (std::isnan(out32[count + i]) && std::isnan(from_b)))
        << i;
    ASSERT_EQ(out16[i], float_to_f16(f[i])) << f[i];
    ASSERT_EQ(outb[i], float_to_bf16(f[i])) << f[i];
    ASSERT_EQ(out32[2 * count + i], f16_to_float(float_to_f16(f[i]))) << f[i];
    ASSERT_EQ(out32[3 * count + i], std::bit_cast<float>(std::uint32_t{float_to_bf16(f[i])} << 16))
        << f[i];
  }
}

TEST_F(TtirConformance, masked_lanes_are_neither_read_nor_written) {
  for (const auto& [lo, hi, stride] :
       {std::tuple{0, 64, 1}, {3, 61, 1}, {17, 18, 1}, {40, 20, 1}, {5, 50, 3}, {0, 1, 0}}) {
    // x ends where the last lane in use does: the address sanitizer sees any read beyond.
    const int last = hi > lo ? (hi - 1) * stride : 0;
    std::vector<float> x(static_cast<std::size_t>(last) + 1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) + 0.5f;
    std::vector<float> out(64, 9.0f);
    run("window", out.data(), x.data(), std::int32_t{lo}, std::int32_t{hi}, std::int32_t{stride});
    for (int i = 0; i < 64; ++i)
      ASSERT_EQ(out[i], i >= lo && i < hi ? x[i * stride] : 9.0f)
          << lo << " " << hi << " " << stride << " lane " << i;
  }
}

TEST_F(TtirConformance, a_load_comes_before_a_later_store_to_the_same_memory) {
  for (const std::int32_t n : {128, 100, 1}) {
    std::vector<float> x(n + 2);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    run("shift_in_place", x.data(), n);
    for (std::int32_t i = 0; i < n; ++i) ASSERT_EQ(x[i + 1], static_cast<float>(i)) << "of " << n;
    EXPECT_EQ(x[0], 0.0f);
    EXPECT_EQ(x[n + 1], static_cast<float>(n + 1));
  }
}

TEST_F(TtirConformance, dot_of_odd_sizes) {
  for (const auto& [m, n, k] :
       {std::tuple{32, 64, 64}, {1, 1, 1}, {7, 33, 19}, {31, 50, 16}, {13, 17, 40}}) {
    std::mt19937 g(4);
    std::vector<std::uint16_t> a(m * k), b(n * k);
    for (auto& v : a) v = float_to_f16(std::normal_distribution<float>()(g));
    for (auto& v : b) v = float_to_f16(std::normal_distribution<float>()(g));
    std::vector<float> out(m * n + 1, 3.0f);
    run("dot_odd", out.data(), a.data(), b.data(), std::int32_t{m}, std::int32_t{n},
        std::int32_t{k});
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        double want = 0;
        for (int t = 0; t < k; ++t)
          want += double{f16_to_float(a[i * k + t])} * double{f16_to_float(b[j * k + t])};
        ASSERT_NEAR(out[i * n + j], want, 1e-4)
            << m << "x" << n << "x" << k << " at " << i << ", " << j;
      }
    EXPECT_EQ(out.back(), 3.0f);
  }
}

TEST_F(TtirConformance, reductions_over_both_axes) {
  constexpr int kRows = 4;
  for (const std::int32_t n : {64, 37, 16, 5, 1}) {
    std::mt19937 g(5);
    std::vector<float> x(kRows * n);
    for (auto& v : x)
      v = static_cast<float>(static_cast<int>(g() % 15) - 7);  // exact sums, many ties
    std::vector<float> out(2 * kRows + 2 * n);
    std::vector<std::int32_t> best(kRows);
    run("reductions", out.data(), best.data(), x.data(), n);
    for (int r = 0; r < kRows; ++r) {
      const auto row = x.begin() + r * n;
      const auto largest = std::max_element(row, row + n);
      EXPECT_EQ(out[r], *largest);
      EXPECT_EQ(best[r], largest - row) << "the first of equals";
      float sum = 0;
      for (int c = 0; c < n; ++c) sum += row[c];
      EXPECT_EQ(out[kRows + r], sum);
    }
    for (int c = 0; c < n; ++c) {
      float sum = 0, least = x[c];
      for (int r = 0; r < kRows; ++r) sum += x[r * n + c], least = std::min(least, x[r * n + c]);
      ASSERT_EQ(out[2 * kRows + c], sum) << "column " << c << " of " << n;
      ASSERT_EQ(out[2 * kRows + n + c], least) << "column " << c << " of " << n;
    }
  }
}

TEST_F(TtirConformance, elements_move_as_the_shapes_say) {
  constexpr int kN = 64;
  std::vector<float> x(kN), out(3 * kN);
  for (int i = 0; i < kN; ++i) x[i] = static_cast<float>(i * i % 37);
  run("shapes", out.data(), x.data());
  float running = 0;
  for (int i = 0; i < kN; ++i) {
    EXPECT_EQ(out[i], x[i ^ 1]) << "pairs swapped";
    EXPECT_EQ(out[kN + i], running += x[i]);
    EXPECT_EQ(out[2 * kN + i], 2 * x[i % 4 * (kN / 4) + i / 4]) << "transposed";
  }
}

TEST_F(TtirConformance, loops_and_branches_carry_tensors) {
  constexpr int kBlock = 32;
  for (const std::int32_t n : {100, 32, 1, 0}) {
    std::vector<float> x(n), out(2 * kBlock + 1);
    for (std::int32_t i = 0; i < n; ++i) x[i] = static_cast<float>(i + 1);
    run("control", out.data(), x.data(), n);
    for (int lane = 0; lane < kBlock; ++lane) {
      float want = 0;
      for (int i = 0; i * kBlock < n; ++i) {
        const float v = i * kBlock + lane < n ? x[i * kBlock + lane] : 0.0f;
        want = i % 2 == 0 ? want + v : want - 2 * v;
      }
      ASSERT_EQ(out[lane], want) << "lane " << lane << " of " << n;
      EXPECT_EQ(out[kBlock + 1 + lane], 144.0f) << "the twelfth Fibonacci number";
    }
    EXPECT_EQ(out[kBlock], static_cast<float>((n + kBlock - 1) / kBlock));
  }
}

TEST_F(TtirConformance, atomics_add_up) {
  std::vector<float> out(8, 0.0f);
  std::vector<std::int32_t> counter{0, -5};
  std::vector<std::int32_t> ids(32);
  for (int i = 0; i < 32; ++i) ids[i] = i * i % 5;
  const std::int32_t n = 27;
  grid_ = 3;
  run("atomics", out.data(), counter.data(), ids.data(), n);
  std::vector<float> want(8, 0.0f);
  for (int i = 0; i < n; ++i) want[ids[i]] += 3 * 1.5f;
  EXPECT_EQ(out, want);
  EXPECT_EQ(counter[0], 3);
  EXPECT_EQ(counter[1], n);
}

}  // namespace
}  // namespace nereid::ttir
