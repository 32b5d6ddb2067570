// Goal: the two kinds of failure. `Error` is the user's or the machine's: it says what was
// expected, what was got and the cure. `NEREID_CHECK` is our bug: it prints the values and aborts.
// Non-goal: codes for callers to branch on. Who catches an Error adds to it, or does without what
// failed; wrong usage alone is told apart (usage_error.h).
// Rejected: one exception type for both, because a bug caught and reported as bad input is never
// fixed.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace nereid {

class Error : public std::runtime_error {
 public:
  template <typename... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& values);
}  // namespace detail

}  // namespace nereid

// NEREID_CHECK(condition, "format {}", values...): always on, aborts with the values.
#define NEREID_CHECK(condition, ...)                                                              \
  do {                                                                                            \
    if (!(condition)) [[unlikely]]                                                                \
      ::nereid::detail::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

// Ends a function whose every way out is taken above; aborts as a failed check does.
#define NEREID_UNREACHABLE(...) \
  ::nereid::detail::check_failed(__FILE__, __LINE__, "reached", ::fmt::format(__VA_ARGS__))
