// tt.extern_elementwise: NVIDIA's libdevice by a map of names. A kernel that calls it runs on a CPU
// as it is.
#include <array>
#include <string_view>

#include "elementwise.h"
#include "names.h"

namespace nereid::ttir {

namespace {

struct Row {
  std::string_view name;  // without __nv_ and, for fp32, the last f
  std::string_view function;
};

// Vectorised: runtime/math.h.
constexpr std::array kVectorised = {
    Row{"tanh", "tanh"},
    Row{"exp", "exp"},
    Row{"exp2", "exp2"},
    Row{"log", "log"},
    Row{"log2", "log2"},
    Row{"sin", "sin"},
    Row{"cos", "cos"},
    Row{"erf", "erf"},
    Row{"sqrt", "sqrt"},
    Row{"rsqrt", "rsqrt"},
    Row{"fabs", "abs"},
    Row{"floor", "floor"},
    Row{"ceil", "ceil"},
    Row{"fmod", "remf"},
    Row{"fma", "fma"},
    Row{"fast_exp", "exp"},
    Row{"fast_log", "log"},
    Row{"fast_log2", "log2"},
    Row{"fast_sin", "sin"},
    Row{"fast_cos", "cos"},
    Row{"fsqrt_rn", "sqrt"},
    Row{"dsqrt_rn", "sqrt"},
    Row{"frsqrt_rn", "rsqrt"},
    Row{"umulhi", "mul_high_unsigned"},
    Row{"umul64hi", "mul_high_unsigned"},
    Row{"fma_rn", "fma"},
    Row{"fmaf_rn", "fma"},
};

// Lane by lane: runtime/libdevice.h.
constexpr std::array kScalar = {
    Row{"acos", "acos"},
    Row{"acosh", "acosh"},
    Row{"asin", "asin"},
    Row{"asinh", "asinh"},
    Row{"atan", "atan"},
    Row{"atan2", "atan2"},
    Row{"atanh", "atanh"},
    Row{"cbrt", "cbrt"},
    Row{"copysign", "copysign"},
    Row{"cosh", "cosh"},
    Row{"erfc", "erfc"},
    Row{"expm1", "expm1"},
    Row{"fdim", "fdim"},
    Row{"fmax", "fmax"},
    Row{"fmin", "fmin"},
    Row{"hypot", "hypot"},
    Row{"ilogb", "ilogb"},
    Row{"ldexp", "ldexp"},
    Row{"lgamma", "lgamma"},
    Row{"log10", "log10"},
    Row{"log1p", "log1p"},
    Row{"logb", "logb"},
    Row{"nearbyint", "nearbyint"},
    Row{"nextafter", "nextafter"},
    Row{"pow", "pow"},
    Row{"remainder", "remainder"},
    Row{"rint", "rint"},
    Row{"round", "round"},
    Row{"scalbn", "scalbn"},
    Row{"sinh", "sinh"},
    Row{"tan", "tan"},
    Row{"tgamma", "tgamma"},
    Row{"trunc", "trunc"},
    Row{"exp10", "exp10"},
    Row{"sinpi", "sinpi"},
    Row{"cospi", "cospi"},
    Row{"rcbrt", "rcbrt"},
    Row{"rhypot", "rhypot"},
    Row{"norm3d", "norm"},
    Row{"norm4d", "norm"},
    Row{"rnorm3d", "rnorm"},
    Row{"rnorm4d", "rnorm"},
    Row{"normcdf", "normcdf"},
    Row{"normcdfinv", "normcdfinv"},
    Row{"erfcx", "erfcx"},
    Row{"erfinv", "erfinv"},
    Row{"erfcinv", "erfcinv"},
    Row{"cyl_bessel_i0", "bessel_i0"},
    Row{"cyl_bessel_i1", "bessel_i1"},
    Row{"j0", "j0"},
    Row{"j1", "j1"},
    Row{"jn", "jn"},
    Row{"y0", "y0"},
    Row{"y1", "y1"},
    Row{"yn", "yn"},
    Row{"saturate", "saturate"},
    Row{"powi", "pow"},
    Row{"fast_exp10", "exp10"},
    Row{"fast_log10", "log10"},
    Row{"fast_tan", "tan"},
    Row{"fast_pow", "pow"},
    Row{"fast_fdivide", "quotient"},
    Row{"fdiv_rn", "quotient"},
    Row{"ddiv_rn", "quotient"},
    Row{"fmul_rn", "product"},
    Row{"dmul_rn", "product"},
    Row{"fadd_rn", "sum"},
    Row{"dadd_rn", "sum"},
    Row{"fsub_rn", "difference"},
    Row{"dsub_rn", "difference"},
    Row{"frcp_rn", "reciprocal"},
    Row{"drcp_rn", "reciprocal"},
    Row{"isnan", "is_nan"},
    Row{"isnand", "is_nan"},
    Row{"isinf", "is_inf"},
    Row{"isinfd", "is_inf"},
    Row{"finite", "is_finite"},
    Row{"isfinited", "is_finite"},
    Row{"signbit", "sign_bit"},
    Row{"signbitd", "sign_bit"},
    Row{"clz", "clz"},
    Row{"clzll", "clz"},
    Row{"popc", "popc"},
    Row{"popcll", "popc"},
    Row{"ffs", "ffs"},
    Row{"ffsll", "ffs"},
    Row{"brev", "brev"},
    Row{"brevll", "brev"},
    Row{"abs", "absolute"},
    Row{"llabs", "absolute"},
    Row{"mulhi", "mul_high"},
    Row{"mul64hi", "mul_high"},
    Row{"hadd", "half_sum"},
};

// Conversions `float2int_rd`: the function that rounds as the suffix says.
struct Conversion {
  std::string_view from, to, result;
};
constexpr std::array kConversions = {
    Conversion{"float", "int", "std::int32_t"},  Conversion{"float", "uint", "std::uint32_t"},
    Conversion{"float", "ll", "std::int64_t"},   Conversion{"float", "ull", "std::uint64_t"},
    Conversion{"double", "int", "std::int32_t"}, Conversion{"double", "uint", "std::uint32_t"},
    Conversion{"double", "ll", "std::int64_t"},  Conversion{"double", "ull", "std::uint64_t"},
};
constexpr std::array kRoundings = {Row{"_rn", "nearbyint"}, Row{"_rz", "trunc"},
                                   Row{"_ru", "std::ceil"}, Row{"_rd", "std::floor"}};

template <std::size_t N>
std::string_view find(const std::array<Row, N>& rows, std::string_view name) {
  for (const Row& row : rows)
    if (row.name == name) return row.function;
  return {};
}

std::string listed(const std::vector<std::string>& args) {
  std::string out;
  for (const std::string& a : args) out += (out.empty() ? "" : ", ") + a;
  return out;
}

// The name as the map has it, and without the f that marks fp32.
std::vector<std::string_view> spellings(std::string_view name) {
  std::vector<std::string_view> out{name};
  if (name.ends_with('f')) out.push_back(name.substr(0, name.size() - 1));
  return out;
}

}  // namespace

std::string libdevice_text(const Op& op, const std::vector<std::string>& args,
                           const std::string& where) {
  const std::string symbol(op.word_attr("symbol", ""));
  const std::string result = value_type(op.result()->type.scalar);
  const auto lanewise = [&](const std::string& body) {
    return cat("rt::map<", result, ">([](auto... x) { return ", body, "; }, ", listed(args), ")");
  };
  if (symbol.starts_with("__nv_")) {
    const std::string_view whole = std::string_view(symbol).substr(5);
    for (std::string_view name : spellings(whole)) {
      if (const auto f = find(kVectorised, name); !f.empty())
        return cat("rt::", f, "(", listed(args), ")");
      if (const auto f = find(kScalar, name); !f.empty())
        return lanewise(cat("rt::nv::", f, "(x...)"));
    }
    for (const Conversion& row : kConversions)
      for (const Row& rounding : kRoundings)
        if (whole == cat(row.from, "2", row.to, rounding.name)) {
          const std::string function = rounding.function.starts_with("std::")
                                           ? std::string(rounding.function)
                                           : cat("rt::nv::", rounding.function);
          return lanewise(cat("rt::nv::saturated<", row.result, ">(", function, "(x...))"));
        }
    if (whole == "float_as_int" || whole == "float_as_uint" || whole == "int_as_float" ||
        whole == "uint_as_float" || whole == "double_as_longlong" || whole == "longlong_as_double")
      return cat("rt::bits_as<", result, ">(", listed(args), ")");
    if (whole == "int2float_rn" || whole == "int2double_rn" || whole == "ll2float_rn" ||
        whole == "ll2double_rn" || whole == "double2float_rn")
      return cat("rt::to<", result, ">(", listed(args), ")");
    if (whole == "uint2float_rn" || whole == "uint2double_rn" || whole == "ull2float_rn" ||
        whole == "ull2double_rn")
      return cat("rt::to_from_unsigned<", result, ">(", listed(args), ")");
    if (whole == "llrint" || whole == "llrintf")
      return lanewise("rt::nv::saturated<std::int64_t>(rt::nv::nearbyint(x...))");
    if (whole == "llround" || whole == "llroundf")
      return lanewise("rt::nv::saturated<std::int64_t>(rt::nv::round(x...))");
  }
  refuse(where, op, cat("function ", symbol, " has no counterpart on the CPU"));
}

}  // namespace nereid::ttir
