#include "server/http/text.h"

#include <algorithm>
#include <cstddef>

namespace nereid::server {

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  // volatile: a compiler that sees the end coming might leave the loop.
  volatile unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference = difference | static_cast<unsigned char>(a[i] ^ other);
  }
  return difference == 0;
}

}  // namespace nereid::server
