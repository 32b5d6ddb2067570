#include "chat/jinja/print.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::chat::jinja {

namespace {

void append_repr_character(std::string& out, char32_t code, char quote) {
  const auto number = static_cast<std::uint32_t>(code);
  if (code == static_cast<char32_t>(quote) || code == '\\') {
    out += '\\';
    out += static_cast<char>(code);
  } else if (code == '\n') {
    out += "\\n";
  } else if (code == '\r') {
    out += "\\r";
  } else if (code == '\t') {
    out += "\\t";
  } else if (tokenizer::is_printable(code)) {
    tokenizer::append_utf8(out, code);
  } else if (code < 0x100) {
    out += fmt::format("\\x{:02x}", number);
  } else if (code < 0x10000) {
    out += fmt::format("\\u{:04x}", number);
  } else {
    out += fmt::format("\\U{:08x}", number);
  }
}

class Printer {
 public:
  explicit Printer(Budget& budget) : budget_(budget) {}

  void repr(const Value& value) {
    const Nesting nesting(depth_, budget_.limits().depth, "values");
    budget_.spend();
    if (const Text* text = value.as_text()) {
      quoted(*text);
    } else if (const List* list = value.as_list()) {
      repr_list(*list);
    } else if (const Dict* dict = value.as_dict()) {
      write("{");
      bool is_first = true;
      for (const auto& [key, item] : dict->entries()) {
        if (!is_first) write(", ");
        is_first = false;
        repr(key);
        write(": ");
        repr(item);
      }
      write("}");
    } else if (value.is_undefined()) {
      write("Undefined");
    } else {
      write(scalar(value));
    }
  }

  static std::string scalar(const Value& value) {
    if (value.is_undefined()) return "";
    if (value.is_none()) return "None";
    if (const bool* b = value.as_bool()) return *b ? "True" : "False";
    if (const auto i = value.as_int()) return std::to_string(*i);
    if (const double* d = value.as_float()) return float_repr(*d);
    throw Error("a value of type '{}' cannot be printed", value.type_name());
  }

  Text take() { return std::move(out_); }

 private:
  void write(std::string_view bytes, bool is_input = false) {
    room(bytes.size());
    out_.append(bytes, is_input);
  }
  void room(std::size_t n_bytes) {
    budget_.spend_text(n_bytes);
    if (out_.size() + n_bytes > budget_.limits().text_bytes)
      budget_.spend_text(out_.size() + n_bytes);
  }

  void quoted(const Text& text) {
    const bool has_single = text.view().find('\'') != std::string_view::npos;
    const bool has_double = text.view().find('"') != std::string_view::npos;
    const char quote = has_single && !has_double ? '"' : '\'';
    room(text.size() + 2);
    out_.append(std::string_view(&quote, 1));
    out_.append(text.map_characters(
        [quote](std::string& made, char32_t code) { append_repr_character(made, code, quote); }));
    out_.append(std::string_view(&quote, 1));
  }

  void repr_list(const List& list) {
    if (list.kind == ListKind::kGenerator)
      throw Error("a generator cannot be printed; expected |list before it");
    if (list.kind == ListKind::kRange) return repr_range(list.bounds);
    const bool is_tuple = list.kind == ListKind::kTuple;
    if (list.kind == ListKind::kView) {
      constexpr std::array<std::string_view, 3> kOpenings = {"dict_keys(", "dict_values(",
                                                             "dict_items("};
      write(kOpenings[static_cast<std::size_t>(list.part)]);
    }
    write(is_tuple ? "(" : "[");
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) write(", ");
      repr(list.items[i]);
    }
    if (is_tuple && list.items.size() == 1) write(",");
    write(is_tuple ? ")" : "]");
    if (list.kind == ListKind::kView) write(")");
  }

  void repr_range(const RangeBounds& range) {
    write(range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                          : fmt::format("range({}, {}, {})", range.start, range.stop, range.step));
  }

  Budget& budget_;
  Text out_;
  int depth_ = 0;
};

void append_json_character(std::string& out, char32_t code, bool ensure_ascii) {
  switch (code) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\b':
      out += "\\b";
      return;
    default:
      break;
  }
  const auto number = static_cast<std::uint32_t>(code);
  if (code < 0x20 || (ensure_ascii && code >= 0x7F && code < 0x10000)) {
    if (code == 0x7F)
      out += '\x7F';
    else
      out += fmt::format("\\u{:04x}", number);
  } else if (ensure_ascii && code >= 0x10000) {
    const std::uint32_t rest = number - 0x10000;
    out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
  } else {
    tokenizer::append_utf8(out, code);
  }
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  void value(const Value& value) {
    const Nesting nesting(depth_, budget_.limits().depth, "values");
    budget_.spend();
    if (const Text* text = value.as_text()) return string(*text);
    if (const Dict* dict = value.as_dict()) return object(*dict);
    const List* list = value.as_list();
    if (list != nullptr && (list->kind == ListKind::kList || list->kind == ListKind::kTuple))
      return array(*list);
    write(Text(scalar(value)));
  }

  Text take() { return std::move(out_); }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* b = value.as_bool()) return *b ? "true" : "false";
    if (value.is_int()) return std::to_string(*value.as_int());
    if (const double* d = value.as_float()) {
      if (std::isnan(*d)) return "NaN";
      if (std::isinf(*d)) return *d < 0 ? "-Infinity" : "Infinity";
      return float_repr(*d);
    }
    throw Error("tojson: a value of type '{}' is not JSON", value.type_name());
  }

  void write(const Text& text) {
    room(text.size());
    out_.append(text);
  }
  void room(std::size_t n_bytes) {
    budget_.spend_text(n_bytes);
    if (out_.size() + n_bytes > budget_.limits().text_bytes)
      budget_.spend_text(out_.size() + n_bytes);
  }

  void string(const Text& text) {
    room(text.size() + 2);
    out_.append("\"");
    out_.append(text.map_characters([this](std::string& made, char32_t code) {
      append_json_character(made, code, style_.ensure_ascii);
    }));
    out_.append("\"");
  }

  void new_line() {
    if (!style_.indent) return;
    room(1 + style_.indent->size() * static_cast<std::size_t>(level_));
    out_.append("\n");
    for (int i = 0; i < level_; ++i) out_.append(*style_.indent);
  }

  void array(const List& list) {
    if (list.items.empty()) return write(Text("[]"));
    write(Text("["));
    ++level_;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) write(style_.item_separator);
      new_line();
      value(list.items[i]);
    }
    --level_;
    new_line();
    write(Text("]"));
  }

  void object(const Dict& dict) {
    if (dict.size() == 0) return write(Text("{}"));
    std::vector<const Dict::Entry*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return less(a->first, b->first, budget_);
      });
    write(Text("{"));
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) write(style_.item_separator);
      new_line();
      const Value& key = entries[i]->first;
      string(key.as_text() != nullptr ? *key.as_text() : Text(scalar(key)));
      write(style_.key_separator);
      value(entries[i]->second);
    }
    --level_;
    new_line();
    write(Text("}"));
  }

  const JsonStyle& style_;
  Budget& budget_;
  Text out_;
  int depth_ = 0;
  int level_ = 0;
};

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> shortest{};
  const auto end = std::to_chars(shortest.data(), shortest.data() + shortest.size(), value,
                                 std::chars_format::scientific)
                       .ptr;
  std::string_view text(shortest.data(), static_cast<std::size_t>(end - shortest.data()));
  const std::size_t at_e = text.find('e');
  int exponent = 0;
  std::string_view exponent_text = text.substr(at_e + 1);
  if (exponent_text.starts_with('+')) exponent_text.remove_prefix(1);
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  std::string digits;
  const bool is_negative = text.starts_with('-');
  for (const char c : text.substr(0, at_e))
    if (c >= '0' && c <= '9') digits += c;
  std::string out = is_negative ? "-" : "";
  const auto n_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {  // Python's bounds
    out += digits[0];
    if (n_digits > 1) out += '.' + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (n_digits <= exponent + 1)
    return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - n_digits), '0') +
           ".0";
  return out + digits.substr(0, static_cast<std::size_t>(exponent + 1)) + '.' +
         digits.substr(static_cast<std::size_t>(exponent + 1));
}

Text to_text(const Value& value, Budget& budget) {
  if (const Text* text = value.as_text()) return *text;
  if (value.as_list() == nullptr && value.as_dict() == nullptr) return Text(Printer::scalar(value));
  return to_repr(value, budget);
}

Text to_repr(const Value& value, Budget& budget) {
  Printer printer(budget);
  printer.repr(value);
  return printer.take();
}

Text to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter writer(style, budget);
  writer.value(value);
  return writer.take();
}

}  // namespace nereid::chat::jinja
