// Goal: typed, range-checked reads from a JSON object which remember what was read, so that fields
// that nobody read can be told.
// Non-goal: knowing any field (config.cc does).
// Rejected: nlohmann's own conversions. They turn 1.5 into 1 and true into 1 without a word.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace nereid::model {

std::string json_excerpt(const Json& value);  // for messages: at most 100 bytes of it

// The number 64 or 64.0 as an integer; none where it is another kind of value or does not fit.
std::optional<std::int64_t> whole_number(const Json& value);

class ConfigFields {
 public:
  // `prefix` is how messages spell a nested object: "rope_scaling.". Both outlive this object.
  ConfigFields(const Json& object, std::string where, std::string prefix = "");

  bool has(const std::string& name) const { return object_.contains(name); }
  // Whether it is there with another value than null, false, 0 or empty.
  bool says_something(const std::string& name) const;
  // The field, now read; null where it is absent or null.
  const Json* find(const std::string& name);

  // A whole number may be written 64 or 64.0.
  std::optional<std::int64_t> integer_if(const std::string& name, std::int64_t low,
                                         std::int64_t high);
  std::optional<double> number_if(const std::string& name);        // above 0
  std::optional<double> non_negative_if(const std::string& name);  // 0 or above
  std::optional<std::string> text_if(const std::string& name);
  bool flag(const std::string& name, bool fallback);

  std::int64_t integer(const std::string& name, std::int64_t low, std::int64_t high);
  double number(const std::string& name);

  // Names, with the prefix, of fields that were not read, are not in `harmless`, and say something.
  std::vector<std::string> unread(std::span<const std::string_view> harmless) const;

  [[noreturn]] void fail_missing(const std::string& name) const;
  [[noreturn]] void fail(const std::string& name, const Json& got,
                         const std::string& expected) const;

 private:
  std::optional<double> finite_if(const std::string& name, bool may_be_zero);

  const Json& object_;
  std::string where_;
  std::string prefix_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace nereid::model
