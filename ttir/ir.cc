#include "ir.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "forms.h"

namespace nereid::ttir {
namespace {

struct OpRow {
  std::string_view spelling;
  OpClass op_class;
};

constexpr std::array kOpRows = {
#define TTIR_OP(enumerator, spelling, op_class) OpRow{spelling, OpClass::op_class},
#include "ops.def"
#undef TTIR_OP
};

// Bits of a binary floating-point format. Without infinities, f8e4m3fn has one NaN pattern of each
// sign, and the fnuz formats, whose bias is one larger, have theirs where -0 would be.
struct FloatFormat {
  int n_exponent_bits;
  int n_mantissa_bits;
  bool has_infinity;
  int more_bias = 0;

  bool is_fnuz() const { return more_bias != 0; }
  int bias() const { return (1 << (n_exponent_bits - 1)) - 1 + more_bias; }
};

FloatFormat format_of(Scalar scalar) {
  switch (scalar) {
    case Scalar::f16:
      return {5, 10, true};
    case Scalar::bf16:
      return {8, 7, true};
    case Scalar::f32:
      return {8, 23, true};
    case Scalar::f64:
      return {11, 52, true};
    case Scalar::f8e4m3fn:
      return {4, 3, false};
    case Scalar::f8e5m2:
      return {5, 2, true};
    case Scalar::f8e4m3fnuz:
      return {4, 3, false, 1};
    case Scalar::f8e5m2fnuz:
      return {5, 2, false, 1};
    default:
      break;
  }
  NEREID_UNREACHABLE("no float format for {}", scalar_text(scalar));
}

}  // namespace

std::string_view op_spelling(OpKind kind) {
  return kOpRows[static_cast<std::size_t>(kind)].spelling;
}
OpClass op_class(OpKind kind) { return kOpRows[static_cast<std::size_t>(kind)].op_class; }

std::int64_t Type::n_elements() const {
  std::int64_t n = 1;
  for (const std::int64_t dim : shape) n *= dim;
  return n;
}

const Attr* Op::attr(std::string_view name) const {
  for (const auto& [key, value] : attrs) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::int64_t Op::int_attr(std::string_view name, std::int64_t fallback) const {
  const Attr* value = attr(name);
  const auto* integer = value ? std::get_if<std::int64_t>(value) : nullptr;
  return integer ? *integer : fallback;
}

std::string_view Op::word_attr(std::string_view name, std::string_view fallback) const {
  const Attr* value = attr(name);
  const auto* word = value ? std::get_if<std::string>(value) : nullptr;
  return word ? std::string_view(*word) : fallback;
}

Form op_form(OpKind kind) {
  switch (kind) {
    case OpKind::func:
      return Form::function;
    case OpKind::return_:
    case OpKind::reduce_return:
    case OpKind::scan_return:
    case OpKind::map_return:
    case OpKind::scf_yield:
    case OpKind::assume:
      return Form::statement;
    case OpKind::get_program_id:
    case OpKind::get_num_programs:
      return Form::program_id;
    case OpKind::make_range:
    case OpKind::poison:
      return Form::produce;
    case OpKind::splat:
    case OpKind::expand_dims:
    case OpKind::broadcast:
    case OpKind::reshape:
    case OpKind::trans:
    case OpKind::join:
    case OpKind::split:
    case OpKind::cat:
    case OpKind::fp_to_fp:
    case OpKind::bitcast_tt:
    case OpKind::int_to_ptr:
    case OpKind::ptr_to_int:
      return Form::arrow;
    case OpKind::unsplat:
      return Form::unsplat;
    case OpKind::addptr:
      return Form::addptr;
    case OpKind::load:
      return Form::load;
    case OpKind::store:
      return Form::store;
    case OpKind::atomic_rmw:
    case OpKind::atomic_cas:
      return Form::atomic;
    case OpKind::gather:
      return Form::gather;
    case OpKind::histogram:
      return Form::histogram;
    case OpKind::print:
      return Form::print;
    case OpKind::assert_:
      return Form::assertion;
    case OpKind::dot:
      return Form::dot;
    case OpKind::dot_scaled:
      return Form::dot_scaled;
    case OpKind::inline_asm:
      return Form::inline_asm;
    case OpKind::call:
      return Form::call;
    case OpKind::reduce:
    case OpKind::scan:
    case OpKind::map_elementwise:
      return Form::generic;
    case OpKind::extern_elementwise:
      return Form::functional;
    case OpKind::constant:
      return Form::constant;
    case OpKind::cmpf:
    case OpKind::cmpi:
      return Form::compare;
    case OpKind::select:
      return Form::select;
    case OpKind::extf:
    case OpKind::truncf:
    case OpKind::extsi:
    case OpKind::extui:
    case OpKind::trunci:
    case OpKind::sitofp:
    case OpKind::uitofp:
    case OpKind::fptosi:
    case OpKind::fptoui:
    case OpKind::bitcast:
    case OpKind::index_cast:
      return Form::convert;
    case OpKind::scf_for:
      return Form::for_loop;
    case OpKind::scf_if:
      return Form::if_else;
    case OpKind::scf_while:
      return Form::while_loop;
    case OpKind::scf_condition:
      return Form::condition;
    case OpKind::barrier:
    case OpKind::dependency_wait:
    case OpKind::dependency_launch:
      return Form::barrier;
    default:
      return Form::same;
  }
}

Type scalar_type(Scalar scalar) {
  Type type;
  type.scalar = scalar;
  return type;
}

bool is_float(Scalar scalar) { return scalar >= Scalar::f16; }
bool is_integer(Scalar scalar) { return scalar <= Scalar::index; }

int bit_width(Scalar scalar) {
  switch (scalar) {
    case Scalar::i1:
      return 1;
    case Scalar::i8:
    case Scalar::f8e4m3fn:
    case Scalar::f8e5m2:
    case Scalar::f8e4m3fnuz:
    case Scalar::f8e5m2fnuz:
      return 8;
    case Scalar::i16:
    case Scalar::f16:
    case Scalar::bf16:
      return 16;
    case Scalar::i32:
    case Scalar::f32:
      return 32;
    case Scalar::i64:
    case Scalar::index:
    case Scalar::f64:
      return 64;
  }
  NEREID_UNREACHABLE("scalar {}", static_cast<int>(scalar));
}

std::string_view scalar_text(Scalar scalar) {
  switch (scalar) {
    case Scalar::i1:
      return "i1";
    case Scalar::i8:
      return "i8";
    case Scalar::i16:
      return "i16";
    case Scalar::i32:
      return "i32";
    case Scalar::i64:
      return "i64";
    case Scalar::index:
      return "index";
    case Scalar::f16:
      return "f16";
    case Scalar::bf16:
      return "bf16";
    case Scalar::f32:
      return "f32";
    case Scalar::f64:
      return "f64";
    case Scalar::f8e4m3fn:
      return "f8E4M3FN";
    case Scalar::f8e5m2:
      return "f8E5M2";
    case Scalar::f8e4m3fnuz:
      return "f8E4M3FNUZ";
    case Scalar::f8e5m2fnuz:
      return "f8E5M2FNUZ";
  }
  NEREID_UNREACHABLE("scalar {}", static_cast<int>(scalar));
}

std::string type_text(const Type& type) {
  std::string element = type.is_pointer ? fmt::format("!tt.ptr<{}>", scalar_text(type.scalar))
                                        : std::string(scalar_text(type.scalar));
  if (!type.is_tensor()) return element;
  std::string text = "tensor<";
  for (const std::int64_t dim : type.shape) text += fmt::format("{}x", dim);
  return text + element + ">";
}

void add_operand(Op& op, Value* value) {
  op.operands.push_back(value);
  value->users.push_back(&op);
}

double float_from_bits(std::uint64_t bits, Scalar scalar) {
  if (scalar == Scalar::f64) return std::bit_cast<double>(bits);
  const FloatFormat format = format_of(scalar);
  const int bias = format.bias();
  if (format.is_fnuz() && bits == 0x80) return std::numeric_limits<double>::quiet_NaN();
  const auto exponent_mask = (std::uint64_t{1} << format.n_exponent_bits) - 1;
  const auto mantissa_mask = (std::uint64_t{1} << format.n_mantissa_bits) - 1;
  const std::uint64_t mantissa = bits & mantissa_mask;
  const std::uint64_t exponent = (bits >> format.n_mantissa_bits) & exponent_mask;
  const bool negative = ((bits >> (bit_width(scalar) - 1)) & 1) != 0;
  double value = 0;
  const bool has_specials = format.has_infinity || mantissa == mantissa_mask;
  if (exponent == exponent_mask && has_specials && !format.is_fnuz()) {
    const bool infinite = format.has_infinity && mantissa == 0;
    value = infinite ? std::numeric_limits<double>::infinity()
                     : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<double>(mantissa), 1 - bias - format.n_mantissa_bits);
  } else {
    value = std::ldexp(static_cast<double>(mantissa | (mantissa_mask + 1)),
                       static_cast<int>(exponent) - bias - format.n_mantissa_bits);
  }
  return std::copysign(value, negative ? -1.0 : 1.0);
}

std::uint64_t bits_of_special(double value, Scalar scalar) {
  NEREID_CHECK(!std::isfinite(value), "{}", value);
  const FloatFormat format = format_of(scalar);
  if (format.is_fnuz()) return 0x80;
  const auto exponent = ((std::uint64_t{1} << format.n_exponent_bits) - 1)
                        << format.n_mantissa_bits;
  const auto quiet_bit = std::uint64_t{1} << (format.n_mantissa_bits - 1);
  std::uint64_t bits = exponent | (std::isnan(value) ? quiet_bit : 0);
  if (!format.has_infinity) bits = exponent | ((std::uint64_t{1} << format.n_mantissa_bits) - 1);
  const auto sign = std::uint64_t{std::signbit(value)} << (bit_width(scalar) - 1);
  return bits | sign;
}

double round_to(double value, Scalar scalar) {
  if (scalar == Scalar::f64 || !std::isfinite(value) || value == 0) return value;
  const FloatFormat format = format_of(scalar);
  const int bias = format.bias();
  // The highest exponent is a number's where infinities and NaN do not take it.
  const int max_exponent = (1 << format.n_exponent_bits) - 1 - bias - (format.has_infinity ? 1 : 0);
  const int exponent = std::max(std::ilogb(value), 1 - bias);
  const int shift = format.n_mantissa_bits - exponent;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, shift)), -shift);
  double largest = std::ldexp(2.0 - std::ldexp(1.0, -format.n_mantissa_bits), max_exponent);
  if (scalar == Scalar::f8e4m3fn) largest = 448.0;
  const double infinity = std::copysign(std::numeric_limits<double>::infinity(), value);
  return std::abs(rounded) > largest ? infinity : rounded;
}

}  // namespace nereid::ttir
