// Goal: NVIDIA's libdevice functions beyond those of math.h, on scalars; `map` applies one to the
// lanes of vectors.
// Non-goal: speed: the host's libm computes them, one lane after the other. Directed rounding.
// Rejected: NVIDIA's own bitcode: it needs LLVM to become code for a CPU.
#pragma once

#include <cmath>

#include "math.h"

namespace nereid::rt {

template <class R, class F, class... T>
RT_INLINE Vec<R> map(F f, const Vec<T>&... v) {
  return lanewise<R>(f, v...);
}
template <class R, class F, class... T>
requires(std::is_arithmetic_v<T>&&...) RT_INLINE R map(F f, T... x) {
  return static_cast<R>(f(x...));
}

namespace nv {

using std::acos, std::acosh, std::asin, std::asinh, std::atan, std::atan2, std::atanh, std::cbrt,
    std::copysign, std::cosh, std::erfc, std::expm1, std::fdim, std::fmax, std::fmin, std::hypot,
    std::ilogb, std::ldexp, std::lgamma, std::log10, std::log1p, std::logb, std::nearbyint,
    std::nextafter, std::pow, std::remainder, std::rint, std::round, std::scalbn, std::sinh,
    std::tan, std::tgamma, std::trunc;

template <class T>
inline constexpr T kPi = T(3.14159265358979323846);
template <class T>
inline constexpr T kSqrt2 = T(1.41421356237309504880);

template <class T>
T exp10(T x) {
  return T(std::pow(10.0, double(x)));
}
// Exact at multiples of one half, as the argument is reduced before it is scaled.
template <class T>
T sinpi(T x) {
  const T r = std::remainder(x, T(2));
  return std::fabs(r) == T(1) ? std::copysign(T(0), x) : T(std::sin(double(r) * kPi<double>));
}
template <class T>
T cospi(T x) {
  const T r = std::fabs(std::remainder(x, T(2)));
  return r == T(0.5) ? T(0) : T(std::cos(double(r) * kPi<double>));
}
template <class T>
T rcbrt(T x) {
  return T(1 / std::cbrt(double(x)));
}
template <class T>
T rhypot(T x, T y) {
  return T(1 / std::hypot(double(x), double(y)));
}
template <class... T>
auto norm(T... x) {
  return std::common_type_t<T...>(std::sqrt(((double(x) * double(x)) + ...)));
}
template <class... T>
auto rnorm(T... x) {
  return std::common_type_t<T...>(1 / std::sqrt(((double(x) * double(x)) + ...)));
}
template <class T>
T normcdf(T x) {
  return T(0.5 * std::erfc(-double(x) / kSqrt2<double>));
}
template <class T>
T erfcx(T x) {
  const double v = x;
  if (v < 25) return T(std::exp(v * v) * std::erfc(v));
  // Beyond, the asymptotic series: the product above is 0 times infinity.
  const double s = 1 / (2 * v * v);
  return T(1 / (v * std::sqrt(kPi<double>)) * (1 - s * (1 - 3 * s * (1 - 5 * s))));
}
// A first guess, then Newton's steps on erfc or erf, whichever is small there.
template <class T>
T erfinv(T y) {
  const double v = y;
  if (!(v > -1 && v < 1))
    return std::fabs(v) == 1 ? std::copysign(std::numeric_limits<T>::infinity(), y)
                             : std::numeric_limits<T>::quiet_NaN();
  const double l = std::log1p(-v * v);
  const double b = 2 / (kPi<double> * 0.147) + l / 2;
  double x = std::copysign(std::sqrt(std::sqrt(b * b - l / 0.147) - b), v);
  for (int i = 0; i < 4; ++i) {
    const double error = std::fabs(v) < 0.5 ? std::erf(x) - v
                         : v > 0            ? (1 - v) - std::erfc(x)
                                            : std::erfc(-x) - (1 + v);
    x -= error / (2 / std::sqrt(kPi<double>) * std::exp(-x * x));
  }
  return T(x);
}
template <class T>
T erfcinv(T y) {
  const double v = y;
  if (v >= 0.5) return T(erfinv(1 - v));
  if (!(v > 0))
    return v == 0 ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
  double x = std::sqrt(-std::log(v * std::sqrt(kPi<double>) * std::sqrt(-std::log(v) + 0.5)));
  if (!(x > 0)) x = 0.5;
  for (int i = 0; i < 8; ++i) {
    const double error = std::erfc(x) / v - 1;
    x += error * v / (2 / std::sqrt(kPi<double>) * std::exp(-x * x));
  }
  return T(x);
}
template <class T>
T normcdfinv(T y) {
  return T(-kSqrt2<double> * erfcinv(2 * double(y)));
}
template <class T>
T bessel_i0(T x) {
  return T(std::cyl_bessel_i(0.0, std::fabs(double(x))));
}
template <class T>
T bessel_i1(T x) {
  return T(std::copysign(std::cyl_bessel_i(1.0, std::fabs(double(x))), double(x)));
}
template <class T>
T j0(T x) {
  return T(::j0(double(x)));
}
template <class T>
T j1(T x) {
  return T(::j1(double(x)));
}
template <class T>
T jn(int n, T x) {
  return T(::jn(n, double(x)));
}
template <class T>
T y0(T x) {
  return T(::y0(double(x)));
}
template <class T>
T y1(T x) {
  return T(::y1(double(x)));
}
template <class T>
T yn(int n, T x) {
  return T(::yn(n, double(x)));
}
template <class T>
T saturate(T x) {
  return x != x ? T(0) : x < 0 ? T(0) : x > 1 ? T(1) : x;
}
template <class T>
T quotient(T x, T y) {
  return x / y;
}
template <class T>
T product(T x, T y) {
  return x * y;
}
template <class T>
T sum(T x, T y) {
  return x + y;
}
template <class T>
T difference(T x, T y) {
  return x - y;
}
template <class T>
T reciprocal(T x) {
  return T(1) / x;
}

template <class T>
int is_nan(T x) {
  return std::isnan(x) ? 1 : 0;
}
template <class T>
int is_inf(T x) {
  return std::isinf(x) ? 1 : 0;
}
template <class T>
int is_finite(T x) {
  return std::isfinite(x) ? 1 : 0;
}
template <class T>
int sign_bit(T x) {
  return std::signbit(x) ? 1 : 0;
}

// Floats to integers: what does not fit becomes the nearest that does, NaN becomes 0.
template <class To, class T>
To saturated(T x) {
  if (x != x) return 0;
  const double low = double(std::numeric_limits<To>::min());
  const double high = double(std::numeric_limits<To>::max());
  if (double(x) <= low) return std::numeric_limits<To>::min();
  if (double(x) >= high) return std::numeric_limits<To>::max();
  return static_cast<To>(x);
}

template <class T>
int clz(T x) {
  return std::countl_zero(std::make_unsigned_t<T>(x));
}
template <class T>
int popc(T x) {
  return std::popcount(std::make_unsigned_t<T>(x));
}
template <class T>
int ffs(T x) {
  return x == 0 ? 0 : std::countr_zero(std::make_unsigned_t<T>(x)) + 1;
}
template <class T>
T brev(T x) {
  auto in = std::make_unsigned_t<T>(x);
  decltype(in) out = 0;
  for (std::size_t i = 0; i < 8 * sizeof(T); ++i, in >>= 1) out = (out << 1) | (in & 1);
  return T(out);
}
template <class T>
T absolute(T x) {
  return x < 0 ? T(0 - std::make_unsigned_t<T>(x)) : x;
}
template <class T>
T mul_high(T x, T y) {
  if constexpr (sizeof(T) == 8) {
    return T(static_cast<__int128>(x) * y >> 64);
  } else {
    return T(std::int64_t{x} * y >> 32);
  }
}
// Half sums: with the carry that the type has no room for.
template <class T>
T half_sum(T x, T y) {
  return T((std::int64_t{x} + y) >> 1);
}

}  // namespace nv
}  // namespace nereid::rt
