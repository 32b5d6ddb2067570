#include "chat/jinja/string_methods.h"

#include <array>

#include "chat/jinja/arguments.h"
#include "chat/jinja/format.h"
#include "chat/jinja/lexer.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/strings.h"
#include "tokenizer/unicode.h"

namespace nereid::chat::jinja {

namespace {

const Text& text_of(const Value& self) { return *self.as_text(); }

template <Ends kEnds>
Value strip_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "strip", {"chars"});
  runtime.budget.spend_text(text_of(self).size());
  if (!args.is_set(0)) return Value(strip(text_of(self), std::nullopt, kEnds));
  return Value(strip(text_of(self), args.text(0).view(), kEnds));
}

template <bool kFromRight>
Value split_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "split", {"sep", "maxsplit"});
  std::optional<std::string_view> separator;
  if (args.is_set(0)) separator = args.text(0).view();
  std::vector<Value> items;
  for (Text& part :
       split(runtime.budget, text_of(self), separator, args.integer(1, -1), kFromRight))
    items.emplace_back(std::move(part));
  return Value::list(std::move(items));
}

Value split_lines_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "splitlines", {"keepends"});
  std::vector<Value> items;
  for (Text& line : split_lines(runtime.budget, text_of(self), args.boolean(0, false)))
    items.emplace_back(std::move(line));
  return Value::list(std::move(items));
}

template <bool kFromRight>
Value partition(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "partition", {"sep"}, 1);
  const Text& text = text_of(self);
  const Text& separator = args.text(0);
  if (separator.empty()) throw Error("partition: the separator is empty");
  runtime.budget.spend_text(text.size());
  const std::size_t at =
      kFromRight ? text.view().rfind(separator.view()) : text.view().find(separator.view());
  if (at == std::string_view::npos) {
    Value none{Text()};
    return kFromRight ? Value::list({none, none, self}, ListKind::kTuple)
                      : Value::list({self, none, none}, ListKind::kTuple);
  }
  return Value::list(
      {Value(text.part(0, at)), args[0], Value(text.part(at + separator.size(), text.size()))},
      ListKind::kTuple);
}

template <bool kAtEnd>
Value starts_or_ends(Runtime&, const Value& self, const CallArgs& call) {
  const Arguments args(call, kAtEnd ? "endswith" : "startswith", {"affix"}, 1);
  const std::string_view text = text_of(self).view();
  const auto has = [&](const Value& affix) {
    const Text* part = affix.as_text();
    if (part == nullptr) throw_type(kAtEnd ? "endswith" : "startswith", affix);
    return kAtEnd ? text.ends_with(part->view()) : text.starts_with(part->view());
  };
  const List* many = args[0].as_list(ListKind::kTuple);
  if (many == nullptr) return Value(has(args[0]));
  for (const Value& affix : many->items)
    if (has(affix)) return Value(true);
  return Value(false);
}

template <bool kAtEnd>
Value remove_affix(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, kAtEnd ? "removesuffix" : "removeprefix", {"affix"}, 1);
  const Text& text = text_of(self);
  const Text& affix = args.text(0);
  runtime.budget.spend_text(text.size());
  if (kAtEnd)
    return Value(text.view().ends_with(affix.view()) ? text.part(0, text.size() - affix.size())
                                                     : text);
  return Value(text.view().starts_with(affix.view()) ? text.part(affix.size(), text.size()) : text);
}

Value replace_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "replace", {"old", "new", "count"}, 2);
  return Value(replace(runtime.budget, text_of(self), args.text(0).view(), args.text(1),
                       args.integer(2, -1)));
}

Value join_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "join", {"iterable"}, 1);
  std::vector<Text> parts;
  if (args[0].is_undefined()) throw_undefined(args[0]);
  for (const Value& item : items_of(runtime, args[0])) {
    if (item.as_text() == nullptr) throw_type("join", item);
    parts.push_back(*item.as_text());
  }
  return Value(join(runtime.budget, text_of(self), parts));
}

// find, rfind, index, rindex: `kRaises` where the text is not there.
template <bool kFromRight, bool kRaises>
Value find_method_of(Runtime&, const Value& self, const CallArgs& call) {
  const Arguments args(call, "find", {"sub"}, 1);
  const std::string_view text = text_of(self).view();
  const std::string_view part = args.text(0).view();
  const std::size_t at = kFromRight ? text.rfind(part) : text.find(part);
  if (at != std::string_view::npos) return Value(n_characters(text.substr(0, at)));
  if (kRaises) throw Error("index: the text is not there");
  return Value(std::int64_t{-1});
}

Value count_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "count", {"sub"}, 1);
  const std::string_view text = text_of(self).view();
  const std::string_view part = args.text(0).view();
  runtime.budget.spend(text.size() / 64);
  if (part.empty()) return Value(n_characters(text) + 1);
  std::int64_t n = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++n;
  return Value(n);
}

template <Text (*kChange)(const Text&)>
Value change(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "the method", {});
  runtime.budget.spend_text(text_of(self).size());
  return Value(kChange(text_of(self)));
}

template <Align kAlign>
Value pad_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "padding", {"width", "fillchar"}, 1);
  return Value(pad(runtime.budget, text_of(self), args.integer(0, 0), kAlign,
                   args.has(1) ? args.text(1) : Text(" ")));
}

Value zero_fill(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "zfill", {"width"}, 1);
  const Text& text = text_of(self);
  const bool has_sign = text.view().starts_with('-') || text.view().starts_with('+');
  Text out = text.part(0, has_sign ? 1 : 0);
  out.append(pad(runtime.budget, text.part(has_sign ? 1 : 0, text.size()),
                 args.integer(0, 0) - (has_sign ? 1 : 0), Align::kRight, Text("0")));
  return Value(std::move(out));
}

// Whether all characters are so, and there is one.
template <bool (*kIs)(char32_t)>
Value all_are(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "the method", {});
  const std::string_view text = text_of(self).view();
  runtime.budget.spend(text.size() / 64);
  for (std::size_t at = 0; at < text.size();) {
    const auto character = tokenizer::utf8_at(text, at);
    if (!kIs(character.code)) return Value(false);
    at += character.size_bytes;
  }
  return Value(!text.empty());
}

// Whether no character is so, but one is of the other case.
template <bool (*kIs)(char32_t), bool (*kIsNot)(char32_t)>
Value has_case(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "the method", {});
  const std::string_view text = text_of(self).view();
  runtime.budget.spend(text.size() / 64);
  bool has_one = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = tokenizer::utf8_at(text, at);
    if (kIsNot(character.code)) return Value(false);
    has_one |= kIs(character.code);
    at += character.size_bytes;
  }
  return Value(has_one);
}

bool is_digit_character(char32_t code) {
  return tokenizer::is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 ||
         code == 0x2070 || (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089);
}
bool is_alphanumeric(char32_t code) {
  return tokenizer::is_alphabetic(code) || tokenizer::is_numeric(code);
}
bool is_ascii_character(char32_t code) { return code < 0x80; }

Value is_ascii(Runtime& runtime, const Value& self, const CallArgs& call) {
  if (text_of(self).empty()) return Value(true);
  return all_are<is_ascii_character>(runtime, self, call);
}

Value format_method(Runtime& runtime, const Value& self, const CallArgs& call) {
  return Value(format_braces(runtime, text_of(self), call));
}

constexpr std::array kMethods = {
    Method{"capitalize", change<capitalize>},
    Method{"casefold", change<lower>},
    Method{"center", pad_method<Align::kCenter>},
    Method{"count", count_method},
    Method{"endswith", starts_or_ends<true>},
    Method{"find", find_method_of<false, false>},
    Method{"format", format_method},
    Method{"index", find_method_of<false, true>},
    Method{"isalnum", all_are<is_alphanumeric>},
    Method{"isalpha", all_are<tokenizer::is_alphabetic>},
    Method{"isascii", is_ascii},
    Method{"isdecimal", all_are<tokenizer::is_decimal>},
    Method{"isdigit", all_are<is_digit_character>},
    Method{"islower", has_case<tokenizer::is_lowercase, tokenizer::is_uppercase>},
    Method{"isnumeric", all_are<tokenizer::is_numeric>},
    Method{"isspace", all_are<is_python_space>},
    Method{"isupper", has_case<tokenizer::is_uppercase, tokenizer::is_lowercase>},
    Method{"join", join_method},
    Method{"ljust", pad_method<Align::kLeft>},
    Method{"lower", change<lower>},
    Method{"lstrip", strip_method<Ends::kLeft>},
    Method{"partition", partition<false>},
    Method{"removeprefix", remove_affix<false>},
    Method{"removesuffix", remove_affix<true>},
    Method{"replace", replace_method},
    Method{"rfind", find_method_of<true, false>},
    Method{"rindex", find_method_of<true, true>},
    Method{"rjust", pad_method<Align::kRight>},
    Method{"rpartition", partition<true>},
    Method{"rsplit", split_method<true>},
    Method{"rstrip", strip_method<Ends::kRight>},
    Method{"split", split_method<false>},
    Method{"splitlines", split_lines_method},
    Method{"startswith", starts_or_ends<false>},
    Method{"strip", strip_method<Ends::kBoth>},
    Method{"swapcase", change<swap_case>},
    Method{"title", change<title>},
    Method{"upper", change<upper>},
    Method{"zfill", zero_fill},
};

}  // namespace

std::span<const Method> string_methods() { return kMethods; }

}  // namespace nereid::chat::jinja
