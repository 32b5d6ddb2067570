// Goal: GPT-2's alphabet: each of the 256 bytes is written as one printable character, so that a
// vocabulary of bytes is a vocabulary of strings ("Ġ" is the space).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nereid::tokenizer {

std::size_t byte_level_size_bytes(std::string_view bytes);
void append_byte_level(std::string& out, std::string_view bytes);

// The bytes that `token` stands for; a token with any character outside the alphabet stands for
// itself.
void append_from_byte_level(std::string& out, std::string_view token);

}  // namespace nereid::tokenizer
