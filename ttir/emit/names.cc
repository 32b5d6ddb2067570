#include "names.h"

#include <cctype>
#include <cmath>
#include <limits>

#include "forms.h"

namespace nereid::ttir {

bool is_float_type(Scalar s) { return is_float(s); }

bool is_narrow(Scalar s) { return is_float(s) && bit_width(s) < 32; }

std::string vector_type(Scalar s) {
  return s == Scalar::i1 ? "rt::Mask" : cat("rt::Vec<", value_type(s), ">");
}

std::string value_type(Scalar s) {
  switch (s) {
    case Scalar::i1:
      return "bool";
    case Scalar::i8:
      return "std::int8_t";
    case Scalar::i16:
      return "std::int16_t";
    case Scalar::i32:
      return "std::int32_t";
    case Scalar::i64:
    case Scalar::index:
      return "std::int64_t";
    case Scalar::f64:
      return "double";
    default:
      break;
  }
  return "float";
}

std::string memory_type(Scalar s) {
  switch (s) {
    case Scalar::i1:
      return "std::int8_t";
    case Scalar::f16:
      return "rt::f16";
    case Scalar::bf16:
      return "rt::bf16";
    case Scalar::f8e4m3fn:
      return "rt::f8e4m3fn";
    case Scalar::f8e5m2:
      return "rt::f8e5m2";
    case Scalar::f8e4m3fnuz:
      return "rt::f8e4m3fnuz";
    case Scalar::f8e5m2fnuz:
      return "rt::f8e5m2fnuz";
    default:
      return value_type(s);
  }
}

std::string storage_type(const Type& t) {
  if (t.is_pointer) return "std::int64_t";
  if (t.scalar == Scalar::i1) return "std::int8_t";
  return value_type(t.scalar);
}

int memory_bytes(Scalar s) { return (bit_width(s) + 7) / 8; }

int storage_bytes(const Type& t) {
  if (t.is_pointer) return 8;
  return is_narrow(t.scalar) ? 4 : memory_bytes(t.scalar);
}

std::string int_literal(std::int64_t value, Scalar s) {
  if (s == Scalar::i1) return value != 0 ? "true" : "false";
  if (s == Scalar::i32) {
    if (value == std::numeric_limits<std::int32_t>::min()) return "INT32_MIN";
    return std::to_string(static_cast<std::int32_t>(value));
  }
  if (value == std::numeric_limits<std::int64_t>::min()) return "INT64_MIN";
  return cat(value_type(s), "{", std::to_string(value), "}");
}

std::string float_literal(double value, Scalar s) {
  const std::string type = s == Scalar::f64 ? "double" : "float";
  if (std::isnan(value)) return cat("std::numeric_limits<", type, ">::quiet_NaN()");
  if (std::isinf(value))
    return cat(value < 0 ? "-" : "", "std::numeric_limits<", type, ">::infinity()");
  std::string text = fmt::format("{:.17g}", value);
  if (type == "float") text = fmt::format("{:.9g}", static_cast<float>(value));
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return type == "float" ? text + "f" : text;
}

std::string_view spelling_of(const Op& op) { return op_spelling(op.kind); }

void refuse(const std::string& where, const Op& op, const std::string& why) {
  throw Error("{}:{}: {}: {}", where, op.line, op_spelling(op.kind), why);
}

const std::string& Names::of(const Value* v) {
  auto it = names_.find(v);
  if (it != names_.end()) return it->second;
  return names_.emplace(v, fresh(stem(v))).first->second;
}

std::string Names::fresh(const std::string& like) {
  std::string base;
  for (char c : like)
    base += (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '_' ? c : '_';
  if (base.rfind("v_", 0) == 0 && base.size() > 2 &&
      std::isdigit(static_cast<unsigned char>(base[2])) != 0)
    base.erase(1, 1);
  std::string name = base;
  for (int i = 2; !taken_.insert(name).second; ++i) name = cat(base, "_", std::to_string(i));
  return name;
}

}  // namespace nereid::ttir
