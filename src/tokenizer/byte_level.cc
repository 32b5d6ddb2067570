#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

// Printable Latin-1 stands for itself; the others take U+0100 onwards, in order.
struct Alphabet {
  std::array<char16_t, 256> code_of_byte{};
  std::array<std::int16_t, 0x144> byte_of_code{};

  constexpr Alphabet() {
    for (auto& byte : byte_of_code) byte = -1;
    char16_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      code_of_byte[byte] = printable ? static_cast<char16_t>(byte) : next++;
      byte_of_code[code_of_byte[byte]] = static_cast<std::int16_t>(byte);
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

std::size_t byte_level_size_bytes(std::string_view bytes) {
  std::size_t size_bytes = bytes.size();
  for (const char byte : bytes)
    size_bytes += kAlphabet.code_of_byte[static_cast<std::uint8_t>(byte)] >= 0x80;
  return size_bytes;
}

void append_byte_level(std::string& out, std::string_view bytes) {
  for (const char byte : bytes)
    append_utf8(out, kAlphabet.code_of_byte[static_cast<std::uint8_t>(byte)]);
}

void append_from_byte_level(std::string& out, std::string_view token) {
  const std::size_t before = out.size();
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Char character = utf8_at(token, at);
    const int byte = character.code < kAlphabet.byte_of_code.size()
                         ? kAlphabet.byte_of_code[character.code]
                         : -1;
    if (byte < 0) {
      out.resize(before);
      out.append(token);
      return;
    }
    out.push_back(static_cast<char>(byte));
    at += character.size_bytes;
  }
}

}  // namespace nereid::tokenizer
