// Goal: the elementwise functions of Triton's math and arith dialects, on vectors and on scalars
// alike: within 2 ulp for exp, exp2, log, log2; sin and cos within 2 ulp for |x| up to 1e6 (rotary
// positions), by a reduction in double.
// Non-goal: fp64 transcendentals faster than libm.
// Rejected: hwy/contrib/math: its sine loses all digits beyond 39000, and it costs half a second to
// parse.
#pragma once

#include <cmath>
#include <limits>

#include "convert.h"

namespace nereid::rt {

using VF = hn::Vec<Tag<float>>;
using VI = hn::Vec<Tag<std::int32_t>>;

namespace detail {

RT_INLINE VF k(float x) { return hn::Set(Tag<float>(), x); }

// 2^n for |n| up to 300, in two factors: the halves stay normal, the product over- and underflows
// as it should.
RT_INLINE VF scale_by_power_of_two(VF y, VF n) {
  const Tag<std::int32_t> di;
  const VI whole = hn::ConvertTo(di, n);
  const VI half = hn::ShiftRight<1>(whole);
  const VI bias = hn::Set(di, 127);
  const VF a = hn::BitCast(Tag<float>(), hn::ShiftLeft<23>(hn::Add(half, bias)));
  const VF b = hn::BitCast(Tag<float>(), hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::Mul(hn::Mul(y, a), b);
}

// exp(r) for |r| <= ln(2)/2.
RT_INLINE VF exp_poly(VF r) {
  VF p = k(1.9875691500e-4f);
  p = hn::MulAdd(p, r, k(1.3981999507e-3f));
  p = hn::MulAdd(p, r, k(8.3334519073e-3f));
  p = hn::MulAdd(p, r, k(4.1665795894e-2f));
  p = hn::MulAdd(p, r, k(1.6666665459e-1f));
  p = hn::MulAdd(p, r, k(5.0000001201e-1f));
  return hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), k(1.0f));
}

// NaN goes through: Min and Max may drop it, so it is put back.
RT_INLINE VF clamp(VF x, float low, float high) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Min(hn::Max(x, k(low)), k(high)));
}

RT_INLINE VF exp(VF x0) {
  const VF x = clamp(x0, -105.0f, 89.5f);
  const VF n = hn::Round(hn::Mul(x, k(1.44269504088896341f)));
  VF r = hn::NegMulAdd(n, k(0.693359375f), x);
  r = hn::NegMulAdd(n, k(-2.12194440e-4f), r);
  return scale_by_power_of_two(exp_poly(r), n);
}

RT_INLINE VF exp2(VF x0) {
  const VF x = clamp(x0, -152.0f, 129.0f);
  const VF n = hn::Round(x);
  const VF f = hn::Sub(x, n);
  const VF r_hi = hn::Mul(f, k(0.693147182464599609375f));
  return scale_by_power_of_two(exp_poly(hn::MulAdd(f, k(-1.904654323148236e-9f), r_hi)), n);
}

// x = m * 2^e with m in [sqrt(1/2), sqrt(2)): log(m) as f + tail, e as a float.
struct LogParts {
  VF f, tail, e;
};
RT_INLINE LogParts log_parts(VF x) {
  const Tag<float> d;
  const Tag<std::int32_t> di;
  const auto tiny = hn::Lt(x, k(1.17549435e-38f));
  const VF scaled = hn::IfThenElse(tiny, hn::Mul(x, k(16777216.0f)), x);
  const VI bits = hn::BitCast(di, scaled);
  const VI shifted = hn::Sub(bits, hn::Set(di, 0x3f3504f3));
  const VI e = hn::ShiftRight<23>(shifted);
  const VF m = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(e)));
  const VF f = hn::Sub(m, k(1.0f));
  VF p = k(7.0376836292e-2f);
  p = hn::MulAdd(p, f, k(-1.1514610310e-1f));
  p = hn::MulAdd(p, f, k(1.1676998740e-1f));
  p = hn::MulAdd(p, f, k(-1.2420140846e-1f));
  p = hn::MulAdd(p, f, k(1.4249322787e-1f));
  p = hn::MulAdd(p, f, k(-1.6668057665e-1f));
  p = hn::MulAdd(p, f, k(2.0000714765e-1f));
  p = hn::MulAdd(p, f, k(-2.4999993993e-1f));
  p = hn::MulAdd(p, f, k(3.3333331174e-1f));
  const VF f2 = hn::Mul(f, f);
  const VF tail = hn::MulAdd(hn::Mul(f2, f), p, hn::Mul(k(-0.5f), f2));
  return {f, tail, hn::Sub(hn::ConvertTo(d, e), hn::IfThenElseZero(tiny, k(24.0f)))};
}
RT_INLINE VF log_special(VF x, VF y) {
  const float inf = std::numeric_limits<float>::infinity();
  y = hn::IfThenElse(hn::Eq(x, k(inf)), x, y);
  y = hn::IfThenElse(hn::Eq(x, k(0.0f)), k(-inf), y);
  return hn::IfThenElse(hn::Or(hn::Lt(x, k(0.0f)), hn::IsNaN(x)),
                        k(std::numeric_limits<float>::quiet_NaN()), y);
}
RT_INLINE VF log(VF x) {
  const LogParts p = log_parts(x);
  const VF low = hn::MulAdd(p.e, k(-2.12194440e-4f), p.tail);
  return log_special(x, hn::MulAdd(p.e, k(0.693359375f), hn::Add(p.f, low)));
}
RT_INLINE VF log2(VF x) {
  const LogParts p = log_parts(x);
  // log2(e) = 1 + 0.4427: the whole part is added last and loses nothing.
  VF y = hn::Mul(p.tail, k(0.44269504088896341f));
  y = hn::MulAdd(p.f, k(0.44269504088896341f), y);
  return log_special(x, hn::Add(hn::Add(hn::Add(y, p.tail), p.f), p.e));
}

// erf by a rational in x^2 on [-4, 4], beyond which fp32 knows only +-1.
RT_INLINE VF erf(VF x0) {
  const VF x = clamp(x0, -4.0f, 4.0f);
  const VF s = hn::Mul(x, x);
  VF p = k(-2.72614225801306e-10f);
  p = hn::MulAdd(p, s, k(2.77068142495902e-08f));
  p = hn::MulAdd(p, s, k(-2.10102402082508e-06f));
  p = hn::MulAdd(p, s, k(-5.69250639462346e-05f));
  p = hn::MulAdd(p, s, k(-7.34990630326855e-04f));
  p = hn::MulAdd(p, s, k(-2.95459980854025e-03f));
  p = hn::MulAdd(p, s, k(-1.60960333262415e-02f));
  VF q = k(-1.45660718464996e-05f);
  q = hn::MulAdd(q, s, k(-2.13374055278905e-04f));
  q = hn::MulAdd(q, s, k(-1.68282697438203e-03f));
  q = hn::MulAdd(q, s, k(-7.37332916720468e-03f));
  q = hn::MulAdd(q, s, k(-1.42647390514189e-02f));
  return hn::Div(hn::Mul(x, p), q);
}

// tanh(x) = 1 - 2 / (exp(2x) + 1); near zero by its odd series, where the difference would cancel.
RT_INLINE VF tanh(VF x) {
  const VF e = exp(hn::Add(x, x));
  const VF far = hn::Sub(k(1.0f), hn::Div(k(2.0f), hn::Add(e, k(1.0f))));
  const VF s = hn::Mul(x, x);
  VF p = k(-8.863235529e-3f);
  p = hn::MulAdd(p, s, k(2.186948854e-2f));
  p = hn::MulAdd(p, s, k(-5.396825397e-2f));
  p = hn::MulAdd(p, s, k(1.333333333e-1f));
  p = hn::MulAdd(p, s, k(-3.333333333e-1f));
  const VF near = hn::MulAdd(hn::Mul(x, s), p, x);
  return hn::IfThenElse(hn::Lt(hn::Abs(x), k(0.4f)), near, far);
}

}  // namespace detail

#define RT_MATH(name)                                                               \
  RT_INLINE Vec<float> name(const Vec<float>& a) {                                  \
    Vec<float> v;                                                                   \
    RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) v.r[i] = detail::name(a.r[i]); \
    return v;                                                                       \
  }                                                                                 \
  RT_INLINE float name(float a) { return hn::GetLane(detail::name(detail::k(a))); } \
  RT_INLINE Vec<double> name(const Vec<double>& a) {                                \
    return lanewise<double>([](double x) { return std::name(x); }, a);              \
  }                                                                                 \
  RT_INLINE double name(double a) { return std::name(a); }
RT_MATH(exp)
RT_MATH(exp2)
RT_MATH(log)
RT_MATH(log2)
RT_MATH(erf)
RT_MATH(tanh)
#undef RT_MATH

#define RT_UNARY(name, function, scalar)                                        \
  template <class T>                                                            \
  RT_INLINE Vec<T> name(const Vec<T>& a) {                                      \
    Vec<T> v;                                                                   \
    RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::function(a.r[i]); \
    return v;                                                                   \
  }                                                                             \
  template <class T>                                                            \
  requires std::is_arithmetic_v<T> RT_INLINE T name(T a) { return scalar; }
RT_UNARY(sqrt, Sqrt, std::sqrt(a))
RT_UNARY(floor, Floor, std::floor(a))
RT_UNARY(ceil, Ceil, std::ceil(a))
RT_UNARY(abs, Abs, T(a < 0 ? -a : a + T(0)))
#undef RT_UNARY

// sin (quarter_turns 0) or cos (1) of sixteen lanes: x - n pi/2 in double, then the two short
// polynomials. Beyond 2^26 quarter turns the product is no longer exact: libm.
RT_INLINE Vec<float> sin_turned(const Vec<float>& x, int quarter_turns) {
  if (any(abs(x) > set<float>(1e8f))) [[unlikely]]
    return lanewise<float>(
        [=](float v) {
          return float(quarter_turns == 0 ? std::sin(double(v)) : std::cos(double(v)));
        },
        x);
  const Vec<double> wide = to<double>(x);
  Vec<double> n;
  Vec<double> rest;
  RT_UNROLL for (int i = 0; i < kRegs<double>; ++i) {
    const Tag<double> d;
    n.r[i] = hn::Round(hn::Mul(wide.r[i], hn::Set(d, 0.63661977236758134308)));
    rest.r[i] = hn::NegMulAdd(n.r[i], hn::Set(d, 1.57079632679489661923), wide.r[i]);
    // The quadrant modulo 4, small enough for fp32 and int32 whatever x is.
    n.r[i] = hn::NegMulAdd(hn::Floor(hn::Mul(n.r[i], hn::Set(d, 0.25))), hn::Set(d, 4.0), n.r[i]);
  }
  const Vec<float> quadrant = to<float>(n);
  const Vec<float> r = to<float>(rest);
  Vec<float> v;
  const Tag<float> d;
  const Tag<std::int32_t> di;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) {
    const VF s = hn::Mul(r.r[i], r.r[i]);
    VF a = detail::k(-1.9515295891e-4f);
    a = hn::MulAdd(a, s, detail::k(8.3321608736e-3f));
    a = hn::MulAdd(a, s, detail::k(-1.6666654611e-1f));
    const VF sine = hn::MulAdd(hn::Mul(a, s), r.r[i], r.r[i]);
    VF b = detail::k(2.443315711809948e-5f);
    b = hn::MulAdd(b, s, detail::k(-1.388731625493765e-3f));
    b = hn::MulAdd(b, s, detail::k(4.166664568298827e-2f));
    const VF cosine =
        hn::Add(hn::MulAdd(hn::Mul(b, s), s, hn::Mul(detail::k(-0.5f), s)), detail::k(1.0f));
    const VI q = hn::Add(hn::ConvertTo(di, quadrant.r[i]), hn::Set(di, quarter_turns));
    const auto odd = hn::RebindMask(d, hn::Ne(hn::And(q, hn::Set(di, 1)), hn::Zero(di)));
    const VF sign = hn::BitCast(d, hn::ShiftLeft<30>(hn::And(q, hn::Set(di, 2))));
    v.r[i] = hn::Xor(hn::IfThenElse(odd, cosine, sine), sign);
  }
  return v;
}
RT_INLINE Vec<float> sin(const Vec<float>& x) { return sin_turned(x, 0); }
RT_INLINE Vec<float> cos(const Vec<float>& x) { return sin_turned(x, 1); }
RT_INLINE float sin(float x) { return hn::GetLane(sin(set<float>(x)).r[0]); }
RT_INLINE float cos(float x) { return hn::GetLane(cos(set<float>(x)).r[0]); }
RT_INLINE Vec<double> sin(const Vec<double>& a) {
  return lanewise<double>([](double x) { return std::sin(x); }, a);
}
RT_INLINE Vec<double> cos(const Vec<double>& a) {
  return lanewise<double>([](double x) { return std::cos(x); }, a);
}
RT_INLINE double sin(double x) { return std::sin(x); }
RT_INLINE double cos(double x) { return std::cos(x); }

template <class T>
RT_INLINE Vec<T> rsqrt(const Vec<T>& a) {
  return set<T>(1) / sqrt(a);
}
template <class T>
requires std::is_floating_point_v<T> RT_INLINE T rsqrt(T a) { return T(1) / std::sqrt(a); }

template <class T>
RT_INLINE Vec<T> fma(const Vec<T>& a, const Vec<T>& b, const Vec<T>& c) {
  Vec<T> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::MulAdd(a.r[i], b.r[i], c.r[i]);
  return v;
}
template <class T>
requires std::is_floating_point_v<T> RT_INLINE T fma(T a, T b, T c) {
  return __builtin_fma(a, b, c);
}
RT_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

template <class T>
RT_INLINE Mask is_nan(const Vec<T>& a) {
  return join_masks<T>([&](int i) RT_BODY { return hn::IsNaN(a.r[i]); });
}
template <class T>
requires std::is_floating_point_v<T> RT_INLINE bool is_nan(T a) { return a != a; }

template <class T>
requires std::is_floating_point_v<T> RT_INLINE T remf(T a, T b) { return std::fmod(a, b); }
template <class T>
RT_INLINE Vec<T> remf(const Vec<T>& a, const Vec<T>& b) {
  return lanewise<T>([](T x, T y) { return std::fmod(x, y); }, a, b);
}

// maxnum and minnum ignore a NaN, maximum and minimum give it back.
template <class V>
RT_INLINE V maxnum(const V& a, const V& b) {
  return select(is_nan(b) | (a > b), a, b);
}
template <class V>
RT_INLINE V minnum(const V& a, const V& b) {
  return select(is_nan(b) | (a < b), a, b);
}
template <class V>
RT_INLINE V maximum(const V& a, const V& b) {
  return select(is_nan(a) | (a > b), a, b);
}
template <class V>
RT_INLINE V minimum(const V& a, const V& b) {
  return select(is_nan(a) | (a < b), a, b);
}

// Integers, scalars and vectors.
template <class V>
RT_INLINE V max_signed(const V& a, const V& b) {
  return select(a > b, a, b);
}
template <class V>
RT_INLINE V min_signed(const V& a, const V& b) {
  return select(a < b, a, b);
}

#define RT_UNSIGNED(name, expression)                            \
  template <class T>                                             \
  requires std::is_integral_v<T> RT_INLINE auto name(T a, T b) { \
    using U = std::make_unsigned_t<T>;                           \
    const U x = static_cast<U>(a), y = static_cast<U>(b);        \
    return expression;                                           \
  }
RT_UNSIGNED(div_unsigned, T(y == 0 ? U(0) : U(x / y)))
RT_UNSIGNED(rem_unsigned, T(y == 0 ? x : U(x % y)))
RT_UNSIGNED(shift_right_unsigned, T(y < 8 * sizeof(T) ? U(x >> y) : U(0)))
RT_UNSIGNED(max_unsigned, T(x > y ? x : y))
RT_UNSIGNED(min_unsigned, T(x < y ? x : y))
RT_UNSIGNED(less_unsigned, bool(x < y))
RT_UNSIGNED(less_equal_unsigned, bool(x <= y))
#undef RT_UNSIGNED
template <class T>
requires std::is_integral_v<T> RT_INLINE T shift_left(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return T(U(b) < 8 * sizeof(T) ? U(a) << U(b) : U(0));
}
template <class T>
requires std::is_integral_v<T> RT_INLINE T shift_right(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return T(a >> (U(b) < 8 * sizeof(T) ? U(b) : U(8 * sizeof(T) - 1)));
}
template <class T>
requires std::is_integral_v<T> RT_INLINE T remainder(T a, T b) { return T(a - quotient(a, b) * b); }
template <class T>
requires std::is_integral_v<T> RT_INLINE T ceil_div(T a, T b) {
  const T q = quotient(a, b);
  return T(q + (q * b != a && ((a < 0) == (b < 0)) ? 1 : 0));
}
RT_INLINE std::int32_t mul_high_unsigned(std::int32_t a, std::int32_t b) {
  return std::int32_t(std::uint64_t(std::uint32_t(a)) * std::uint32_t(b) >> 32);
}
RT_INLINE std::int64_t mul_high_unsigned(std::int64_t a, std::int64_t b) {
  return std::int64_t(static_cast<unsigned __int128>(std::uint64_t(a)) * std::uint64_t(b) >> 64);
}

#define RT_LANEWISE(name)                                                  \
  template <class T>                                                       \
  RT_INLINE Vec<T> name(const Vec<T>& a, const Vec<T>& b) {                \
    return lanewise<T>([](T x, T y) RT_BODY { return name(x, y); }, a, b); \
  }
RT_LANEWISE(div_unsigned)
RT_LANEWISE(rem_unsigned)
RT_LANEWISE(shift_right_unsigned)
RT_LANEWISE(shift_left)
RT_LANEWISE(shift_right)
RT_LANEWISE(max_unsigned)
RT_LANEWISE(min_unsigned)
RT_LANEWISE(ceil_div)
#undef RT_LANEWISE
template <class T>
RT_INLINE Vec<T> quotient(const Vec<T>& a, const Vec<T>& b) {
  return a / b;
}
template <class T>
RT_INLINE Vec<T> remainder(const Vec<T>& a, const Vec<T>& b) {
  return a - (a / b) * b;
}
RT_INLINE Vec<std::int64_t> mul_high_unsigned(const Vec<std::int64_t>& a,
                                              const Vec<std::int64_t>& b) {
  return lanewise<std::int64_t>(
      [](std::int64_t x, std::int64_t y) { return mul_high_unsigned(x, y); }, a, b);
}
RT_INLINE Vec<std::int32_t> mul_high_unsigned(const Vec<std::int32_t>& a,
                                              const Vec<std::int32_t>& b) {
  const Tag<std::uint32_t> d;
  const Tag<std::uint64_t> wide;
  Vec<std::int32_t> v;
  RT_UNROLL for (int i = 0; i < kRegs<std::int32_t>; ++i) {
    const auto x = hn::BitCast(d, a.r[i]);
    const auto y = hn::BitCast(d, b.r[i]);
    const auto even = hn::BitCast(d, hn::ShiftRight<32>(hn::MulEven(x, y)));
    const auto odd =
        hn::BitCast(d, hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, x))),
                                   hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, y)))));
    v.r[i] = hn::BitCast(Tag<std::int32_t>(), hn::OddEven(odd, even));
  }
  return v;
}
template <class T>
RT_INLINE Mask less_unsigned(const Vec<T>& a, const Vec<T>& b) {
  const Vec<T> flip = set<T>(std::numeric_limits<T>::min());
  return (a ^ flip) < (b ^ flip);
}
template <class T>
RT_INLINE Mask less_equal_unsigned(const Vec<T>& a, const Vec<T>& b) {
  return !less_unsigned(b, a);
}

}  // namespace nereid::rt
