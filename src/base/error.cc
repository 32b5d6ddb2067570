#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace nereid::detail {

void check_failed(const char* file, int line, const char* condition, const std::string& values) {
  fmt::print(stderr, "{}:{}: check failed: {}: {}\n", file, line, condition, values);
  std::abort();
}

}  // namespace nereid::detail
