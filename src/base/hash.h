// Goal: SHA-256 as hex, the name by which bundles find and verify objects.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace nereid {

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
// Whether the text is such a name.
bool is_sha256_hex(std::string_view text);

}  // namespace nereid
