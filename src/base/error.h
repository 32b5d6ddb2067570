// Goal: the two kinds of failure. `Error` (nereid/error.h) is the user's or the machine's: it says
// what was expected, what was got and the cure. `NEREID_CHECK` is our bug: it prints the values and
// aborts.
// Non-goal: codes for what this tree does about an error. Who catches one adds to it, or does
// without what failed; wrong usage alone is told apart (usage_error.h).
// Rejected: one exception type for both, because a bug caught and reported as bad input is never
// fixed. `internal` as the code where none is given: nearly all that is thrown says what is wrong
// with a value or a file that somebody gave.
//
//   throw Error("{} is {}; expected 1 to {}", name, value, most);           // invalid_argument
//   throw Error(ErrorCode::device, "{}: {} failed", device, function);
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include "nereid/error.h"

namespace nereid {

namespace detail {

template <typename... Args>
struct FormatText {
  template <std::convertible_to<std::string_view> Text>
  consteval FormatText(const Text& text) : format(text) {}  // NOLINT: written as a text
  fmt::format_string<Args...> format;
};

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& values);

}  // namespace detail

template <typename... Args>
Error::Error(detail::FormatText<std::type_identity_t<Args>...> format, Args&&... args)
    : Error(fmt::format(format.format, std::forward<Args>(args)...), ErrorCode::invalid_argument) {}

template <typename... Args>
Error::Error(ErrorCode code, detail::FormatText<std::type_identity_t<Args>...> format,
             Args&&... args)
    : Error(fmt::format(format.format, std::forward<Args>(args)...), code) {}

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
