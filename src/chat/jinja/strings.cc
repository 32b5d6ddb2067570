#include "chat/jinja/strings.h"

#include <limits>

#include "chat/jinja/lexer.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::chat::jinja {

namespace {

using tokenizer::utf8_at;
using tokenizer::Utf8Char;

bool is_continuation(char c) { return (c & 0xC0) == 0x80; }

// Where the characters begin, and the end.
std::vector<std::size_t> offsets_of(std::string_view text) {
  std::vector<std::size_t> offsets;
  for (std::size_t at = 0; at < text.size(); ++at)
    if (!is_continuation(text[at])) offsets.push_back(at);
  offsets.push_back(text.size());
  return offsets;
}

std::size_t before(std::string_view text, std::size_t at) {
  --at;
  while (at > 0 && is_continuation(text[at])) --at;
  return at;
}

bool is_line_end(char32_t code) {
  return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
         code == 0x2028 || code == 0x2029;
}

bool is_cased(char32_t code) {
  return tokenizer::is_uppercase(code) || tokenizer::is_lowercase(code);
}

std::vector<Text> split_at_space(const Text& text, std::int64_t most, bool from_right) {
  const std::string_view bytes = text.view();
  std::vector<Text> parts;
  if (from_right) {
    std::size_t end = bytes.size();
    const auto space_before = [&](std::size_t at) {
      return is_python_space(utf8_at(bytes, before(bytes, at)).code);
    };
    while (true) {
      while (end > 0 && space_before(end)) end = before(bytes, end);
      if (end == 0) break;
      std::size_t begin = end;
      if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most)
        begin = 0;
      else
        while (begin > 0 && !space_before(begin)) begin = before(bytes, begin);
      parts.push_back(begin == 0 && most >= 0 && static_cast<std::int64_t>(parts.size()) == most
                          ? text.part(0, end)
                          : text.part(begin, end));
      end = begin;
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  std::size_t at = 0;
  const auto skip = [&](bool space) {
    while (at < bytes.size()) {
      const Utf8Char next = utf8_at(bytes, at);
      if (is_python_space(next.code) != space) break;
      at += next.size_bytes;
    }
  };
  while (true) {
    skip(true);
    if (at == bytes.size()) return parts;
    const std::size_t begin = at;
    if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most)
      at = bytes.size();
    else
      skip(false);
    parts.push_back(text.part(begin, at));
  }
}

}  // namespace

std::int64_t n_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); });
}

std::optional<Text> character_at(Budget& budget, const Text& text, std::int64_t index) {
  budget.spend(text.size() / 64);
  const std::int64_t n = n_characters(text.view());
  if (index < 0) index += n;
  if (index < 0 || index >= n) return std::nullopt;
  std::size_t at = 0;
  if (n == static_cast<std::int64_t>(text.size()))
    at = static_cast<std::size_t>(index);
  else
    for (; index > 0; --index) at += utf8_at(text.view(), at).size_bytes;
  return text.part(at, at + utf8_at(text.view(), at).size_bytes);
}

Text slice_text(Budget& budget, const Text& text, const Slice& slice) {
  budget.spend_text(text.size());
  const auto offsets = offsets_of(text.view());
  Text out;
  if (slice.step == 1) {
    std::size_t begin = 0;
    std::size_t n = 0;
    // The indices follow one another: the first and their number say all.
    for_each_index(slice, offsets.size() - 1, [&](std::size_t at) {
      if (n++ == 0) begin = at;
    });
    if (n > 0) out.append(text, offsets[begin], offsets[begin + n]);
    return out;
  }
  budget.spend(text.size() / 16);
  for_each_index(slice, offsets.size() - 1,
                 [&](std::size_t at) { out.append(text, offsets[at], offsets[at + 1]); });
  return out;
}

Text strip(const Text& text, std::optional<std::string_view> characters, Ends ends) {
  const std::string_view bytes = text.view();
  const auto goes = [&](std::size_t at) {
    const Utf8Char character = utf8_at(bytes, at);
    return characters
               ? characters->find(bytes.substr(at, character.size_bytes)) != std::string_view::npos
               : is_python_space(character.code);
  };
  std::size_t begin = 0;
  std::size_t end = bytes.size();
  if (ends != Ends::kRight)
    while (begin < end && goes(begin)) begin += utf8_at(bytes, begin).size_bytes;
  if (ends != Ends::kLeft)
    while (end > begin && goes(before(bytes, end))) end = before(bytes, end);
  return text.part(begin, end);
}

std::vector<Text> split(Budget& budget, const Text& text, std::optional<std::string_view> separator,
                        std::int64_t most, bool from_right) {
  budget.spend_text(text.size());
  std::vector<Text> parts;
  if (!separator) {
    parts = split_at_space(text, most, from_right);
    budget.spend(parts.size());
    return parts;
  }
  if (separator->empty()) throw Error("split: the separator is empty");
  const std::string_view bytes = text.view();
  const auto may_split = [&] { return most < 0 || static_cast<std::int64_t>(parts.size()) < most; };
  if (from_right) {
    std::size_t end = bytes.size();
    while (may_split()) {
      if (end < separator->size()) break;
      const std::size_t at = bytes.rfind(*separator, end - separator->size());
      if (at == std::string_view::npos) break;
      budget.spend();
      parts.push_back(text.part(at + separator->size(), end));
      end = at;
    }
    parts.push_back(text.part(0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  std::size_t begin = 0;
  while (may_split()) {
    const std::size_t at = bytes.find(*separator, begin);
    if (at == std::string_view::npos) break;
    budget.spend();
    parts.push_back(text.part(begin, at));
    begin = at + separator->size();
  }
  parts.push_back(text.part(begin, bytes.size()));
  return parts;
}

std::vector<Text> split_lines(Budget& budget, const Text& text, bool keep_ends) {
  budget.spend_text(text.size());
  const std::string_view bytes = text.view();
  std::vector<Text> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const Utf8Char character = utf8_at(bytes, at);
    std::size_t next = at + character.size_bytes;
    if (is_line_end(character.code)) {
      if (character.code == '\r' && next < bytes.size() && bytes[next] == '\n') ++next;
      budget.spend();
      lines.push_back(text.part(begin, keep_ends ? next : at));
      begin = next;
    }
    at = next;
  }
  if (begin < bytes.size()) lines.push_back(text.part(begin, bytes.size()));
  return lines;
}

Text replace(Budget& budget, const Text& text, std::string_view from, const Text& to,
             std::int64_t most) {
  const std::string_view bytes = text.view();
  std::vector<std::size_t> found;
  const auto may = [&] { return most < 0 || static_cast<std::int64_t>(found.size()) < most; };
  if (from.empty()) {
    for (std::size_t at = 0; at <= bytes.size() && may(); ++at)
      if (at == bytes.size() || !is_continuation(bytes[at])) found.push_back(at);
  } else {
    for (std::size_t at = bytes.find(from); at != std::string_view::npos && may();
         at = bytes.find(from, at + from.size()))
      found.push_back(at);
  }
  budget.spend(found.size());
  budget.spend_text(text.size() + found.size() * to.size());
  Text out;
  std::size_t done = 0;
  for (const std::size_t at : found) {
    out.append(text, done, at);
    out.append(to);
    done = at + from.size();
  }
  out.append(text, done, bytes.size());
  return out;
}

Text repeat(Budget& budget, const Text& text, std::int64_t n) {
  if (n <= 0 || text.empty()) return {};
  std::int64_t size = 0;
  if (__builtin_mul_overflow(n, static_cast<std::int64_t>(text.size()), &size))
    size = std::numeric_limits<std::int64_t>::max();
  budget.spend_text(static_cast<std::size_t>(size));
  Text out;
  for (; n > 0; --n) out.append(text);
  return out;
}

Text join(Budget& budget, const Text& separator, const std::vector<Text>& parts) {
  std::size_t size = 0;
  for (const Text& part : parts) size += part.size() + separator.size();
  budget.spend_text(size);
  Text out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out.append(separator);
    out.append(parts[i]);
  }
  return out;
}

Text concat(Budget& budget, const Text& a, const Text& b) {
  budget.spend_text(a.size() + b.size());
  Text out = a;
  out.append(b);
  return out;
}

Text upper(const Text& text) { return text.map_characters(tokenizer::append_uppercase); }
Text lower(const Text& text) { return text.map_characters(tokenizer::append_lowercase); }

Text capitalize(const Text& text) {
  bool is_first = true;
  return text.map_characters([&](std::string& out, char32_t code) {
    is_first ? tokenizer::append_uppercase(out, code) : tokenizer::append_lowercase(out, code);
    is_first = false;
  });
}

Text title(const Text& text) {
  bool in_word = false;
  return text.map_characters([&](std::string& out, char32_t code) {
    in_word ? tokenizer::append_lowercase(out, code) : tokenizer::append_uppercase(out, code);
    in_word = is_cased(code);
  });
}

Text title_of_words(const Text& text) {
  bool is_first = true;
  return text.map_characters([&](std::string& out, char32_t code) {
    is_first ? tokenizer::append_uppercase(out, code) : tokenizer::append_lowercase(out, code);
    is_first = is_python_space(code) || code == '-' || code == '(' || code == '{' || code == '[' ||
               code == '<';
  });
}

Text swap_case(const Text& text) {
  return text.map_characters([](std::string& out, char32_t code) {
    tokenizer::is_uppercase(code) ? tokenizer::append_lowercase(out, code)
                                  : tokenizer::append_uppercase(out, code);
  });
}

Text pad(Budget& budget, const Text& text, std::int64_t width, Align align, const Text& fill) {
  if (n_characters(fill.view()) != 1) throw Error("padding takes one character to fill with");
  const std::int64_t n = width - n_characters(text.view());
  if (n <= 0) return text;
  // Of an odd rest, the one more stands where Python puts it.
  const std::int64_t left = align == Align::kLeft    ? 0
                            : align == Align::kRight ? n
                                                     : n / 2 + (n & width & 1);
  Text out = repeat(budget, fill, left);
  budget.spend_text(out.size() + text.size());
  out.append(text);
  out.append(repeat(budget, fill, n - left));
  return out;
}

}  // namespace nereid::chat::jinja
