// Goal: the few properties of characters and the normal forms that tokenizers and chat templates
// name.
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

bool is_alphabetic(char32_t code);  // L*
bool is_decimal(char32_t code);     // Nd
bool is_uppercase(char32_t code);   // Lu, Lt
bool is_lowercase(char32_t code);   // Ll
bool is_printable(char32_t code);   // neither a separator other than " ", nor C*

void append_lowercase(std::string& out, char32_t code);
void append_uppercase(std::string& out, char32_t code);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normal_form(std::string_view valid, NormalForm form);

}  // namespace nereid::tokenizer
