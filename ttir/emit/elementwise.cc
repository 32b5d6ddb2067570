#include "elementwise.h"

#include "names.h"

namespace nereid::ttir {

namespace {

std::string call(const char* function, const std::vector<std::string>& args) {
  std::string out = cat("rt::", function, "(");
  for (std::size_t i = 0; i < args.size(); ++i) out += (i == 0 ? "" : ", ") + args[i];
  return out + ")";
}

std::string infix(const std::string& a, const char* op, const std::string& b) {
  return cat(a, " ", op, " ", b);
}

const char* infix_symbol(OpKind k) {
  switch (k) {
    case OpKind::addf:
    case OpKind::addi:
      return "+";
    case OpKind::subf:
    case OpKind::subi:
      return "-";
    case OpKind::mulf:
    case OpKind::muli:
      return "*";
    case OpKind::divf:
    case OpKind::precise_divf:
      return "/";
    case OpKind::andi:
      return "&";
    case OpKind::ori:
      return "|";
    case OpKind::xori:
      return "^";
    default:
      return nullptr;
  }
}

const char* function_name(OpKind k) {
  switch (k) {
    case OpKind::remf:
      return "remf";
    case OpKind::maximumf:
      return "maximum";
    case OpKind::minimumf:
      return "minimum";
    case OpKind::maxnumf:
      return "maxnum";
    case OpKind::minnumf:
      return "minnum";
    case OpKind::divsi:
      return "quotient";
    case OpKind::divui:
      return "div_unsigned";
    case OpKind::remsi:
      return "remainder";
    case OpKind::remui:
      return "rem_unsigned";
    case OpKind::ceildivsi:
      return "ceil_div";
    case OpKind::shli:
      return "shift_left";
    case OpKind::shrsi:
      return "shift_right";
    case OpKind::shrui:
      return "shift_right_unsigned";
    case OpKind::maxsi:
      return "max_signed";
    case OpKind::minsi:
      return "min_signed";
    case OpKind::maxui:
      return "max_unsigned";
    case OpKind::minui:
      return "min_unsigned";
    case OpKind::mulhiui:
      return "mul_high_unsigned";
    case OpKind::exp:
      return "exp";
    case OpKind::exp2:
      return "exp2";
    case OpKind::log:
      return "log";
    case OpKind::log2:
      return "log2";
    case OpKind::sin:
      return "sin";
    case OpKind::cos:
      return "cos";
    case OpKind::erf:
      return "erf";
    case OpKind::sqrt:
    case OpKind::precise_sqrt:
      return "sqrt";
    case OpKind::rsqrt:
      return "rsqrt";
    case OpKind::absf:
    case OpKind::absi:
      return "abs";
    case OpKind::floor:
      return "floor";
    case OpKind::ceil:
      return "ceil";
    case OpKind::fma:
      return "fma";
    default:
      return nullptr;
  }
}

std::string compare_ints(const Op& op, const std::vector<std::string>& a,
                         const std::string& where) {
  const std::string p(op.word_attr("predicate", ""));
  if (op.operands[0]->type.scalar == Scalar::i1) {
    if (p == "eq") return cat("!(", a[0], " ^ ", a[1], ")");
    if (p == "ne") return infix(a[0], "^", a[1]);
    refuse(where, op, "booleans have no order");
  }
  if (p == "eq") return infix(a[0], "==", a[1]);
  if (p == "ne") return infix(a[0], "!=", a[1]);
  if (p == "slt") return infix(a[0], "<", a[1]);
  if (p == "sle") return infix(a[0], "<=", a[1]);
  if (p == "sgt") return infix(a[0], ">", a[1]);
  if (p == "sge") return infix(a[0], ">=", a[1]);
  if (p == "ult") return call("less_unsigned", {a[0], a[1]});
  if (p == "ule") return call("less_equal_unsigned", {a[0], a[1]});
  if (p == "ugt") return call("less_unsigned", {a[1], a[0]});
  if (p == "uge") return call("less_equal_unsigned", {a[1], a[0]});
  refuse(where, op, cat("predicate ", p, " is not supported"));
}

std::string compare_floats(const Op& op, const std::vector<std::string>& a,
                           const std::string& where) {
  const std::string p(op.word_attr("predicate", ""));
  const std::string nan = cat("(rt::is_nan(", a[0], ") | rt::is_nan(", a[1], "))");
  if (p == "oeq") return infix(a[0], "==", a[1]);
  if (p == "olt") return infix(a[0], "<", a[1]);
  if (p == "ole") return infix(a[0], "<=", a[1]);
  if (p == "ogt") return infix(a[0], ">", a[1]);
  if (p == "oge") return infix(a[0], ">=", a[1]);
  if (p == "one") return cat("(", infix(a[0], "<", a[1]), ") | (", infix(a[0], ">", a[1]), ")");
  if (p == "une") return infix(a[0], "!=", a[1]);
  if (p == "ueq") return cat("!((", infix(a[0], "<", a[1]), ") | (", infix(a[0], ">", a[1]), "))");
  if (p == "ult") return cat("!(", infix(a[0], ">=", a[1]), ")");
  if (p == "ule") return cat("!(", infix(a[0], ">", a[1]), ")");
  if (p == "ugt") return cat("!(", infix(a[0], "<=", a[1]), ")");
  if (p == "uge") return cat("!(", infix(a[0], "<", a[1]), ")");
  if (p == "uno") return nan;
  if (p == "ord") return cat("!", nan);
  refuse(where, op, cat("predicate ", p, " is not supported"));
}

// The function that takes a narrow float to its bits, or back.
std::string narrow_function(Scalar s, const char* direction) {
  if (s == Scalar::f16) return cat("rt::f16_", direction);
  if (s == Scalar::bf16) return cat("rt::bf16_", direction);
  return cat("rt::f8_", direction, "<", memory_type(s), ">");
}

std::string bitcast(const Op& op, const std::string& a, const std::string& where) {
  const Type& from = op.operands[0]->type;
  const Type& to = op.result()->type;
  if (from.scalar == to.scalar || (from.is_pointer && to.is_pointer)) return a;
  if (from.is_pointer || to.is_pointer || from.scalar == Scalar::i1 || to.scalar == Scalar::i1)
    refuse(where, op, "this bitcast is not supported");
  const std::string bits =
      is_narrow(from.scalar) ? cat(narrow_function(from.scalar, "bits"), "(", a, ")") : a;
  if (is_narrow(to.scalar)) return cat(narrow_function(to.scalar, "value"), "(", bits, ")");
  if (is_narrow(from.scalar)) return bits;
  return cat("rt::bits_as<", value_type(to.scalar), ">(", a, ")");
}

}  // namespace

std::string rounded_text(const std::string& text, Scalar s, bool toward_zero) {
  const char* const how = toward_zero ? "_toward_zero(" : "(";
  if (s == Scalar::f16) return cat("rt::round_f16", how, text, ")");
  if (s == Scalar::bf16) return cat("rt::round_bf16", how, text, ")");
  if (is_narrow(s))
    return cat("rt::round_f8<", memory_type(s), toward_zero ? ", true>(" : ">(", text, ")");
  return text;
}

std::string bits_text(const std::string& text, Scalar s) {
  if (is_narrow(s)) return cat(narrow_function(s, "bits"), "(", text, ")");
  if (!is_float_type(s)) return text;
  return cat("rt::bits_as<", s == Scalar::f64 ? "std::int64_t" : "std::int32_t", ">(", text, ")");
}

std::string value_of_bits_text(const std::string& text, Scalar s) {
  if (is_narrow(s)) return cat(narrow_function(s, "value"), "(", text, ")");
  return is_float_type(s) ? cat("rt::bits_as<", value_type(s), ">(", text, ")") : text;
}

std::string broadcast_text(const std::string& scalar, const Type& type) {
  if (type.is_pointer) return cat("rt::set<std::int64_t>(", scalar, ")");
  if (type.scalar == Scalar::i1) return cat("rt::set_mask(", scalar, ")");
  return cat("rt::set<", value_type(type.scalar), ">(", scalar, ")");
}

std::string elementwise_text(const Op& op, const std::vector<std::string>& args, bool is_vector,
                             const std::string& where, Rounds rounds) {
  const Scalar to = op.result()->type.scalar;
  const auto rounded = [&](const std::string& text) {
    return rounds == Rounds::always ? rounded_text(text, to) : text;
  };
  const Scalar from = op.operands[0]->type.scalar;
  const std::string& a = args[0];
  const std::string to_type = value_type(to);
  if (to == Scalar::i1 && from == Scalar::i1) {
    // Arithmetic modulo 2.
    if (op.kind == OpKind::addi || op.kind == OpKind::subi) return infix(a, "^", args[1]);
    if (op.kind == OpKind::muli || op.kind == OpKind::minui || op.kind == OpKind::maxsi)
      return infix(a, "&", args[1]);
    if (op.kind == OpKind::maxui || op.kind == OpKind::minsi) return infix(a, "|", args[1]);
  }
  if (const char* symbol = infix_symbol(op.kind)) return rounded(infix(a, symbol, args[1]));
  if (op.kind == OpKind::remsi && !is_vector) return call("remainder", args);
  if (const char* function = function_name(op.kind)) return rounded(call(function, args));
  switch (op.kind) {
    case OpKind::negf:
      return cat("-", a);
    case OpKind::cmpi:
      return compare_ints(op, args, where);
    case OpKind::cmpf:
      return compare_floats(op, args, where);
    case OpKind::select:
      return is_vector ? call("select", args) : cat(a, " ? ", args[1], " : ", args[2]);
    case OpKind::extf:
      return to == Scalar::f64 ? cat("rt::to<double>(", a, ")") : a;
    case OpKind::fp_to_fp:
    case OpKind::truncf: {
      const bool toward_zero = op.word_attr("rounding", "rtne") == "rtz";
      if (toward_zero && from == Scalar::f64)
        refuse(where, op, "rounding fp64 toward zero is not supported");
      std::string text = a;
      if (from == Scalar::f64 && to != Scalar::f64) text = cat("rt::to<float>(", a, ")");
      if (from != Scalar::f64 && to == Scalar::f64) text = cat("rt::to<double>(", a, ")");
      return rounded_text(text, to, toward_zero);
    }
    case OpKind::extsi:
      if (from == Scalar::i1) return cat("rt::mask_to<", to_type, ">(", a, ", -1)");
      return cat("rt::to<", to_type, ">(", a, ")");
    case OpKind::extui:
      if (from == Scalar::i1) return cat("rt::mask_to<", to_type, ">(", a, ", 1)");
      return cat("rt::to_from_unsigned<", to_type, ">(", a, ")");
    case OpKind::trunci:
      if (to == Scalar::i1) return call("to_mask", {a});
      return cat("rt::to<", to_type, ">(", a, ")");
    case OpKind::index_cast:
      return cat("rt::to<", to_type, ">(", a, ")");
    case OpKind::sitofp:
      if (from == Scalar::i1) return cat("rt::mask_to<", to_type, ">(", a, ", -1)");
      return rounded_text(cat("rt::to<", to_type, ">(", a, ")"), to);
    case OpKind::uitofp:
      if (from == Scalar::i1) return cat("rt::mask_to<", to_type, ">(", a, ", 1)");
      return rounded_text(cat("rt::to_from_unsigned<", to_type, ">(", a, ")"), to);
    case OpKind::fptosi:
      return cat("rt::to<", to_type, ">(", a, ")");
    case OpKind::fptoui:
      return cat("rt::to_unsigned<", to_type, ">(", a, ")");
    case OpKind::bitcast:
    case OpKind::bitcast_tt:
      return bitcast(op, a, where);
    case OpKind::clampf: {
      const bool nan = op.word_attr("propagateNan", "none") == "all";
      const std::string low = cat("rt::", nan ? "maximum" : "maxnum", "(", a, ", ", args[1], ")");
      return cat("rt::", nan ? "minimum" : "minnum", "(", low, ", ", args[2], ")");
    }
    case OpKind::int_to_ptr:
    case OpKind::ptr_to_int:
      return a;
    case OpKind::extern_elementwise:
      return rounded(libdevice_text(op, args, where));
    default:
      break;
  }
  refuse(where, op, "the CPU target does not support this operation");
}

}  // namespace nereid::ttir
