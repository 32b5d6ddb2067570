#include "server/http/message.h"

#include "server/http/text.h"

namespace nereid::server {

std::string_view header_of(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (equal_ignoring_case(key, name)) return value;
  return {};
}

}  // namespace nereid::server
