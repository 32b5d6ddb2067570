// Goal: what everything of the installed API throws: a text for people (what was expected, what was
// got, the cure) and a code for callers to branch on.
// Non-goal: our bugs that would make results wrong; those abort with the values.
// Rejected: an exception type for each code. A server maps codes to its protocol in one switch.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "nereid/api.h"

namespace nereid {

enum class ErrorCode : std::uint8_t {
  invalid_argument,  // what was given is not as it must be: an option, a request, a model's file
  context_length,    // prompt and answer do not fit the context
  overloaded,        // the queue is full; later it may not be
  draining,          // no further requests are taken
  not_found,         // what was named or is needed is not there: a model, a bundle, a request
  device,            // the machine failed or lacks it: a device, its driver, memory, a disk
  internal,          // the engine failed, whatever was given
};
NEREID_API std::string_view error_code_name(ErrorCode code);

namespace detail {
// A text checked against its values where it is written. The engine's own: complete in its sources
// only, because it takes a library that users need not have.
template <typename... Args>
struct FormatText;
}  // namespace detail

class NEREID_API Error : public std::runtime_error {
 public:
  template <typename... Args>
  explicit Error(detail::FormatText<std::type_identity_t<Args>...> format, Args&&... args);
  template <typename... Args>
  Error(ErrorCode code, detail::FormatText<std::type_identity_t<Args>...> format, Args&&... args);
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;
  ~Error() override;

  ErrorCode code() const noexcept { return code_; }

 private:
  Error(const std::string& text, ErrorCode code) : std::runtime_error(text), code_(code) {}

  ErrorCode code_;
};

}  // namespace nereid
