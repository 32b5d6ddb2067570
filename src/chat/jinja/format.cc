#include "chat/jinja/format.h"

#include <cmath>

#include "chat/jinja/print.h"
#include "chat/jinja/strings.h"

namespace nereid::chat::jinja {

namespace {

struct Directive {
  bool is_left = false;
  bool is_zero = false;
  bool has_sign = false;
  bool has_space = false;
  std::int64_t width = 0;
  int precision = -1;
  char letter = 's';
};

constexpr int kMaxPrecision = 100;

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Text& format, const Value& values)
      : runtime_(runtime), format_(format), bytes_(format.view()), values_(values) {}

  Text run() {
    const List* tuple = values_.as_list(ListKind::kTuple);
    while (true) {
      const std::size_t sign = bytes_.find('%', at_);
      const std::size_t end = std::min(sign, bytes_.size());
      write(format_.part(at_, end));
      if (sign == std::string_view::npos) break;
      at_ = sign + 1;
      one(tuple);
    }
    const std::size_t n_given = tuple != nullptr ? tuple->items.size() : 1;
    // What has items, and is no tuple, may hold more than is asked for.
    const bool may_be_left = values_.as_dict() != nullptr || values_.is_undefined() ||
                             values_.as_list(ListKind::kList) != nullptr ||
                             values_.as_list(ListKind::kRange) != nullptr;
    if (n_used_ < n_given && !may_be_left) throw Error("%: not all values are used by the format");
    return std::move(out_);
  }

 private:
  char next() {
    if (at_ >= bytes_.size()) throw Error("%: the format ends within a directive");
    return bytes_[at_++];
  }

  void write(const Text& part) {
    runtime_.budget.spend_text(out_.size() + part.size());
    out_.append(part);
  }

  Value take(const List* tuple) {
    if (tuple == nullptr) {
      if (n_used_++ > 0) throw Error("%: the format asks for more values than were given");
      return values_;
    }
    if (n_used_ >= tuple->items.size())
      throw Error("%: the format asks for more values than were given");
    return tuple->items[n_used_++];
  }

  void one(const List* tuple) {
    std::optional<Value> named;
    char c = next();
    if (c == '(') {
      const std::size_t end = bytes_.find(')', at_);
      const Dict* dict = values_.as_dict();
      if (end == std::string_view::npos || dict == nullptr)
        throw Error("%: a directive with a name takes a dict");
      const Value* found = dict->find(bytes_.substr(at_, end - at_));
      if (found == nullptr) throw Error("%: the dict lacks a key of the format");
      named = *found;
      at_ = end + 1;
      c = next();
    }
    Directive directive;
    for (;; c = next()) {
      if (c == '-')
        directive.is_left = true;
      else if (c == '0')
        directive.is_zero = true;
      else if (c == '+')
        directive.has_sign = true;
      else if (c == ' ')
        directive.has_space = true;
      else
        break;
    }
    const auto number = [&] {
      std::int64_t n = 0;
      for (; c >= '0' && c <= '9'; c = next()) {
        n = n * 10 + (c - '0');
        if (n > 1'000'000'000) throw Error("%: a width is too large");
      }
      return n;
    };
    directive.width = number();
    if (c == '.') {
      c = next();
      directive.precision = static_cast<int>(number());
    }
    directive.letter = c;
    if (c == '%') return write(Text("%"));
    finish(directive, convert(directive, named ? *named : take(tuple)));
  }

  Text convert(const Directive& directive, const Value& value) {
    switch (directive.letter) {
      case 's':
      case 'r': {
        Text text = directive.letter == 's' ? to_text(value, runtime_.budget)
                                            : to_repr(value, runtime_.budget);
        if (directive.precision < 0) return text;
        return slice_text(runtime_.budget, text, {std::nullopt, directive.precision});
      }
      case 'd':
      case 'i':
      case 'x': {
        auto number = value.as_int();
        if (!number && value.as_float() != nullptr && directive.letter != 'x' &&
            std::abs(*value.as_float()) < 9e18)
          number = static_cast<std::int64_t>(*value.as_float());
        if (!number || directive.precision >= 0) throw_type("% with a number", value);
        return signed_text(directive, *number < 0,
                           directive.letter == 'x' ? fmt::format("{:x}", magnitude(*number))
                                                   : fmt::format("{}", magnitude(*number)));
      }
      case 'f': {
        const auto number = value.as_number();
        if (!number || directive.precision > kMaxPrecision) throw_type("%f", value);
        return signed_text(directive, std::signbit(*number),
                           fmt::format("{:.{}f}", std::abs(*number),
                                       directive.precision < 0 ? 6 : directive.precision));
      }
      default:
        throw Error("%: the directive '{}' is not supported", directive.letter);
    }
  }

  static std::uint64_t magnitude(std::int64_t number) {
    const auto bits = static_cast<std::uint64_t>(number);
    return number < 0 ? ~bits + 1 : bits;
  }

  static Text signed_text(const Directive& directive, bool is_negative, const std::string& digits) {
    const char* sign = is_negative           ? "-"
                       : directive.has_sign  ? "+"
                       : directive.has_space ? " "
                                             : "";
    return Text(sign + digits);
  }

  void finish(const Directive& directive, const Text& text) {
    const bool is_number = directive.letter != 's' && directive.letter != 'r';
    if (directive.is_left)
      return write(pad(runtime_.budget, text, directive.width, Align::kLeft, Text(" ")));
    if (!directive.is_zero || !is_number)
      return write(pad(runtime_.budget, text, directive.width, Align::kRight, Text(" ")));
    const bool has_sign =
        !text.empty() && std::string_view("+- ").find(text.view()[0]) != std::string_view::npos;
    write(text.part(0, has_sign ? 1 : 0));
    write(pad(runtime_.budget, text.part(has_sign ? 1 : 0, text.size()),
              directive.width - (has_sign ? 1 : 0), Align::kRight, Text("0")));
  }

  Runtime& runtime_;
  const Text& format_;
  std::string_view bytes_;
  const Value& values_;
  std::size_t at_ = 0;
  std::size_t n_used_ = 0;
  Text out_;
};

}  // namespace

Text format_percent(Runtime& runtime, const Text& format, const Value& values) {
  return PercentFormatter(runtime, format, values).run();
}

Text format_braces(Runtime& runtime, const Text& format, const CallArgs& values) {
  const std::string_view bytes = format.view();
  Text out;
  std::size_t n_used = 0;
  bool has_numbers = false;
  const auto write = [&](const Text& part) {
    runtime.budget.spend_text(out.size() + part.size());
    out.append(part);
  };
  const auto value_of = [&](std::string_view name) -> const Value& {
    const bool is_number =
        name.find_first_not_of("0123456789") == std::string_view::npos && name.size() < 6;
    if (is_number) {
      if (name.empty() ? has_numbers : n_used > 0)
        throw Error("format: {{}} and {{0}} do not go together; expected one of the two ways");
      has_numbers = !name.empty();
      const std::size_t i = name.empty() ? n_used++ : std::stoul(std::string(name));
      if (i >= values.positional.size())
        throw Error("format: the text asks for more values than were given");
      return values.positional[i];
    }
    for (const auto& [other, value] : values.named)
      if (other == name) return value;
    throw Error("format: the field '{{{}}}' is not supported or not given", name.substr(0, 80));
  };
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
    write(format.part(at, brace));
    if (brace == bytes.size()) break;
    if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
      write(format.part(brace, brace + 1));
      at = brace + 2;
      continue;
    }
    const std::size_t end = bytes.find('}', brace);
    if (bytes[brace] == '}' || end == std::string_view::npos)
      throw Error("format: a single brace '{}'", bytes[brace]);
    write(to_text(value_of(bytes.substr(brace + 1, end - brace - 1)), runtime.budget));
    at = end + 1;
  }
  return out;
}

}  // namespace nereid::chat::jinja
