#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace nereid {

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::context_length:
      return "context_length";
    case ErrorCode::overloaded:
      return "overloaded";
    case ErrorCode::draining:
      return "draining";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::device:
      return "device";
    case ErrorCode::internal:
      return "internal";
  }
  NEREID_UNREACHABLE("error code {}", int(code));
}

Error::~Error() = default;

namespace detail {

void check_failed(const char* file, int line, const char* condition, const std::string& values) {
  fmt::print(stderr, "{}:{}: check failed: {}: {}\n", file, line, condition, values);
  std::abort();
}

}  // namespace detail

}  // namespace nereid
