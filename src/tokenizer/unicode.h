// Goal: the few properties of characters and the normal forms that tokenizers name.
// Non-goal: a Unicode library; the tables are utf8proc's.
#pragma once

#include <string>
#include <string_view>

namespace nereid::tokenizer {

bool is_whitespace(char32_t code);   // White_Space
bool is_numeric(char32_t code);      // Nd, Nl, No
bool is_punctuation(char32_t code);  // P*, and ASCII's symbols such as $ + <
bool is_mark(char32_t code);         // Mn, Mc, Me
bool is_word(char32_t code);         // \w: alphabetic, marks, decimal digits, connectors, joiners

void append_lowercase(std::string& out, char32_t code);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normal_form(std::string_view valid, NormalForm form);

}  // namespace nereid::tokenizer
