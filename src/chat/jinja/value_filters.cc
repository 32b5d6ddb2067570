#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "chat/jinja/arguments.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/format.h"
#include "chat/jinja/from_json.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/print.h"
#include "chat/jinja/strings.h"

namespace nereid::chat::jinja {

namespace {

Value json_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = args.boolean(0, false);
  style.sort_keys = args.boolean(3, false);
  if (args.is_set(1)) {
    style.indent = args[1].as_text() != nullptr
                       ? args.text(1)
                       : repeat(runtime.budget, Text(" "), args.integer(1, 0));
    style.item_separator = Text(",");
  }
  if (args.is_set(2)) {
    const std::vector<Value> pair = items_of(runtime, args[2]);
    if (pair.size() != 2 || pair[0].as_text() == nullptr || pair[1].as_text() == nullptr)
      throw Error("tojson: separators are two strings");
    style.item_separator = *pair[0].as_text();
    style.key_separator = *pair[1].as_text();
  }
  return Value(to_json(value, style, runtime.budget));
}

Value from_json_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "from_json", {});
  if (value.as_text() == nullptr) throw_type("from_json", value);
  return parse_json_text(*value.as_text(), runtime.budget);
}

Value string_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "string", {});
  return Value(to_text(value, runtime.budget));
}

template <Text (*kChange)(const Text&)>
Value changed(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "the filter", {});
  const Text text = to_text(value, runtime.budget);
  runtime.budget.spend_text(text.size());
  return Value(kChange(text));
}

Value trim(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "trim", {"chars"});
  const Text text = to_text(value, runtime.budget);
  runtime.budget.spend_text(text.size());
  if (!args.is_set(0)) return Value(strip(text, std::nullopt, Ends::kBoth));
  return Value(strip(text, args.text(0).view(), Ends::kBoth));
}

Value replace_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "replace", {"old", "new", "count"}, 2);
  const Text from = to_text(args[0], runtime.budget);
  return Value(replace(runtime.budget, to_text(value, runtime.budget), from.view(),
                       to_text(args[1], runtime.budget),
                       args.is_set(2) ? args.integer(2, -1) : -1));
}

Value indent(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "indent", {"width", "first", "blank"});
  Text by("    ");
  if (args.has(0))
    by = args[0].as_text() != nullptr ? args.text(0)
                                      : repeat(runtime.budget, Text(" "), args.integer(0, 4));
  if (value.as_text() == nullptr) throw_type("indent", value);
  Text text = *value.as_text();
  text.append("\n");  // as Jinja does, so that a line end at the end stays
  const std::vector<Text> lines = split_lines(runtime.budget, text, /*keep_ends=*/false);
  std::size_t size = by.size();
  for (const Text& line : lines) size += line.size() + by.size() + 1;
  runtime.budget.spend_text(size);
  Text out;
  if (args.boolean(1, false)) out.append(by);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n");
    if (i > 0 && (!lines[i].empty() || args.boolean(2, false))) out.append(by);
    out.append(lines[i]);
  }
  return Value(std::move(out));
}

Value center(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "center", {"width"});
  return Value(pad(runtime.budget, to_text(value, runtime.budget), args.integer(0, 80),
                   Align::kCenter, Text(" ")));
}

Value format_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  if (!call.positional.empty() && !call.named.empty())
    throw Error("format: positional and named values cannot be mixed");
  const Text format = to_text(value, runtime.budget);
  if (call.named.empty())
    return Value(format_percent(runtime, format, Value::list(call.positional, ListKind::kTuple)));
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, item] : call.named) dict->set(Value(name), item);
  return Value(format_percent(runtime, format, Value(std::shared_ptr<const Dict>(dict))));
}

Value default_filter(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "default", {"default_value", "boolean"});
  const bool is_absent = value.is_undefined() || (args.boolean(1, false) && !value.is_true());
  if (!is_absent) return value;
  return args.has(0) ? args[0] : Value(Text());
}

// A number as Python's int() and float() read it, with spaces around and _ between digits.
std::optional<std::string> number_text(const Text& text) {
  std::string out;
  const Text stripped = strip(text, std::nullopt, Ends::kBoth);
  const std::string_view bytes = stripped.view();
  const auto is_digit = [&](std::size_t at) {
    return at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9';
  };
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == '_') {
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    out += bytes[i];
  }
  if (out.starts_with('+') && out.size() > 1 && out[1] != '-' && out[1] != '+') out.erase(0, 1);
  return out;
}

std::optional<double> parse_float(const Text& text) {
  const auto number = number_text(text);
  if (!number || number->empty()) return std::nullopt;
  std::string lower = *number;
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  double value = 0;
  const auto result = std::from_chars(lower.data(), lower.data() + lower.size(), value);
  if (result.ptr != lower.data() + lower.size()) return std::nullopt;
  // Too large or too small a number is Python's infinity or zero.
  if (result.ec == std::errc::result_out_of_range) return std::strtod(lower.c_str(), nullptr);
  if (result.ec != std::errc()) return std::nullopt;
  if (lower.find('(') != std::string::npos) return std::nullopt;  // nan(...)
  return value;
}

std::optional<std::int64_t> to_integer(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) >= 9.2e18) throw Error("an integer has more than 64 bits");
  return static_cast<std::int64_t>(value);
}

Value int_filter(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "int", {"default", "base"});
  const std::int64_t base = args.integer(1, 10);
  const Value fallback = args.has(0) ? args[0] : Value(std::int64_t{0});
  if (value.is_undefined()) throw_undefined(value);
  if (const auto number = value.as_int()) return Value(*number);
  if (value.as_float() != nullptr) {
    const auto number = to_integer(*value.as_float());
    return number ? Value(*number) : fallback;
  }
  if (value.as_text() == nullptr) return fallback;
  if (base < 2 || base > 36) throw Error("int: the base {} is not supported", base);
  if (const auto text = number_text(*value.as_text())) {
    std::int64_t number = 0;
    const char* end = text->data() + text->size();
    const auto result = std::from_chars(text->data(), end, number, static_cast<int>(base));
    if (result.ec == std::errc::result_out_of_range)
      throw Error("an integer has more than 64 bits");
    if (result.ec == std::errc() && result.ptr == end) return Value(number);
  }
  const auto real = parse_float(*value.as_text());
  const auto number = real ? to_integer(*real) : std::nullopt;
  return number ? Value(*number) : fallback;
}

Value float_filter(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "float", {"default"});
  if (value.is_undefined()) throw_undefined(value);
  if (const auto number = value.as_number()) return Value(*number);
  if (value.as_text() != nullptr)
    if (const auto number = parse_float(*value.as_text())) return Value(*number);
  return args.has(0) ? args[0] : Value(0.0);
}

Value absolute(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "abs", {});
  if (const double* d = value.as_float()) return Value(std::abs(*d));
  const auto number = value.as_int();
  if (!number) throw_type("abs", value);
  return *number < 0 ? negative(value) : Value(*number);
}

Value round_filter(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "round", {"precision", "method"});
  const std::int64_t precision = args.integer(0, 0);
  const std::string_view method = args.has(1) ? args.text(1).view() : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    throw Error("round: the method is common, ceil or floor");
  if (precision < 0 || precision > 15)
    throw Error("round: the precision {} is not supported; expected 0 to 15", precision);
  const auto number = value.as_number();
  if (!number) throw_type("round", value);
  if (method == "common") {
    if (value.as_float() == nullptr) return Value(*value.as_int());
    // Correctly rounded, halves to even, as Python's round.
    return Value(std::strtod(fmt::format("{:.{}f}", *number, precision).c_str(), nullptr));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = *number * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value safe(Runtime& runtime, const Value& value, const CallArgs& call) {
  // Text is never escaped here, so that there is nothing to mark it safe from.
  return string_filter(runtime, value, call);
}

constexpr std::array kValueFilters = {
    FilterRow{"abs", absolute},           FilterRow{"capitalize", changed<capitalize>},
    FilterRow{"center", center},          FilterRow{"d", default_filter},
    FilterRow{"default", default_filter}, FilterRow{"float", float_filter},
    FilterRow{"format", format_filter},   FilterRow{"from_json", from_json_filter},
    FilterRow{"indent", indent},          FilterRow{"int", int_filter},
    FilterRow{"lower", changed<lower>},   FilterRow{"replace", replace_filter},
    FilterRow{"round", round_filter},     FilterRow{"safe", safe},
    FilterRow{"string", string_filter},   FilterRow{"title", changed<title_of_words>},
    FilterRow{"tojson", json_filter},     FilterRow{"trim", trim},
    FilterRow{"upper", changed<upper>},
};

}  // namespace

std::span<const FilterRow> value_filters() { return kValueFilters; }

}  // namespace nereid::chat::jinja
