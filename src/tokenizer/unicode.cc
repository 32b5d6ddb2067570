#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/error.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool in_range(char32_t code, char32_t first, char32_t last) {
  return code >= first && code <= last;
}

// Canonical order. utf8proc's own sort is quadratic in a run of combining marks, which a hostile
// prompt may make long.
void sort_marks(std::span<utf8proc_int32_t> codes) {
  const auto combining = [](utf8proc_int32_t code) {
    return utf8proc_get_property(code)->combining_class;
  };
  for (std::size_t begin = 0; begin < codes.size();) {
    if (combining(codes[begin]) == 0) {
      ++begin;
      continue;
    }
    std::size_t end = begin + 1;
    while (end < codes.size() && combining(codes[end]) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<std::ptrdiff_t>(begin),
                     codes.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](auto a, auto b) { return combining(a) < combining(b); });
    begin = end;
  }
}

}  // namespace

bool is_whitespace(char32_t code) {
  return in_range(code, 0x09, 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || in_range(code, 0x2000, 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_numeric(char32_t code) {
  if (code < 0x80) return in_range(code, '0', '9');
  const auto found = category(code);
  return found == UTF8PROC_CATEGORY_ND || found == UTF8PROC_CATEGORY_NL ||
         found == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) {
    return in_range(code, '!', '/') || in_range(code, ':', '@') || in_range(code, '[', '`') ||
           in_range(code, '{', '~');
  }
  const auto found = category(code);
  return found >= UTF8PROC_CATEGORY_PC && found <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t code) {
  const auto found = category(code);
  return found >= UTF8PROC_CATEGORY_MN && found <= UTF8PROC_CATEGORY_ME;
}

bool is_word(char32_t code) {
  const auto found = category(code);
  if (found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_NL) return true;  // L M Nd Nl
  if (found == UTF8PROC_CATEGORY_PC) return true;
  // Join_Control, then the circled and squared letters, alphabetic though their category is So.
  return in_range(code, 0x200C, 0x200D) || in_range(code, 0x24B6, 0x24E9) ||
         in_range(code, 0x1F130, 0x1F149) || in_range(code, 0x1F150, 0x1F169) ||
         in_range(code, 0x1F170, 0x1F189);
}

bool is_alphabetic(char32_t code) {
  const auto found = category(code);
  return found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }

bool is_uppercase(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LU || category(code) == UTF8PROC_CATEGORY_LT;
}

bool is_lowercase(char32_t code) { return category(code) == UTF8PROC_CATEGORY_LL; }

bool is_printable(char32_t code) {
  if (code < 0x80) return in_range(code, 0x20, 0x7E);
  const auto found = category(code);
  return found != UTF8PROC_CATEGORY_CN && found < UTF8PROC_CATEGORY_ZS;
}

void append_lowercase(std::string& out, char32_t code) {
  if (code == 0x130) {  // the only character whose lowercase is two
    out.append("i\xCC\x87");
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
}

void append_uppercase(std::string& out, char32_t code) {
  if (code == 0xDF) {  // of the few whose uppercase is two characters, the one in daily use
    out.append("SS");
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))));
}

std::string normal_form(std::string_view valid, NormalForm form) {
  if (std::all_of(valid.begin(), valid.end(), [](char c) { return c >= 0; }))
    return std::string(valid);
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(valid.size());
  std::array<utf8proc_int32_t, 64> parts{};  // the longest decomposition has 18
  for (std::size_t at = 0; at < valid.size();) {
    const Utf8Char character = utf8_at(valid, at);
    const auto n_parts = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character.code),
                                                 parts.data(), parts.size(), options, nullptr);
    NEREID_CHECK(n_parts >= 0 && n_parts <= static_cast<utf8proc_ssize_t>(parts.size()),
                 "U+{:04X} decomposes to {}", static_cast<std::uint32_t>(character.code), n_parts);
    codes.insert(codes.end(), parts.begin(), parts.begin() + n_parts);
    at += character.size_bytes;
  }
  sort_marks(codes);
  if (compose) {
    const auto n_codes = utf8proc_normalize_utf32(
        codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    NEREID_CHECK(n_codes >= 0, "composition failed: {}", n_codes);
    codes.resize(static_cast<std::size_t>(n_codes));
  }
  std::string out;
  out.reserve(valid.size() + valid.size() / 2);
  for (const auto code : codes) append_utf8(out, static_cast<char32_t>(code));
  return out;
}

}  // namespace nereid::tokenizer
