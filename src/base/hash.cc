#include "base/hash.h"

#include <nettle/sha2.h>

#include <array>

namespace nereid {

namespace {
constexpr char kDigits[] = "0123456789abcdef";
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  std::array<std::uint8_t, SHA256_DIGEST_SIZE> digest{};
  sha256_digest(&context, digest.size(), digest.data());
  std::string hex;
  for (const auto byte : digest) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string sha256_hex(std::string_view text) { return sha256_hex(std::as_bytes(std::span(text))); }

bool is_sha256_hex(std::string_view text) {
  return text.size() == 2 * SHA256_DIGEST_SIZE &&
         text.find_first_not_of(kDigits) == std::string_view::npos;
}

}  // namespace nereid
