#include "model/config_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace nereid::model {

namespace {

bool says_nothing(const Json& value) {
  if (value.is_null()) return true;
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0.0;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.empty();
}

}  // namespace

std::string json_excerpt(const Json& value) {
  constexpr std::size_t kMaxBytes = 100;
  // Wide values are named, not printed: a hostile file must not cost memory in the message about
  // it.
  if (value.is_structured() && value.size() > 16)
    return fmt::format("{} of {} elements", value.type_name(), value.size());
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kMaxBytes) text = text.substr(0, kMaxBytes) + "...";
  return text;
}

std::optional<std::int64_t> whole_number(const Json& value) {
  constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
  constexpr double kExact = 9007199254740992.0;  // 2^53: every whole number up to it is a double
  if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (!(std::abs(number) <= kExact) || number != std::trunc(number)) return std::nullopt;
    return std::int64_t(number);
  }
  // An unsigned value above 2^63 would read as a negative one.
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t(kLargest)))
    return std::nullopt;
  return value.get<std::int64_t>();
}

ConfigFields::ConfigFields(const Json& object, std::string where, std::string prefix)
    : object_(object), where_(std::move(where)), prefix_(std::move(prefix)) {
  if (!object.is_object())
    throw Error("{}: expected a JSON object{}, got {}", where_,
                prefix_.empty() ? "" : " as \"" + prefix_.substr(0, prefix_.size() - 1) + "\"",
                json_excerpt(object));
}

void ConfigFields::fail_missing(const std::string& name) const {
  throw Error("{}: field \"{}{}\" is missing", where_, prefix_, name);
}

void ConfigFields::fail(const std::string& name, const Json& got,
                        const std::string& expected) const {
  throw Error("{}: field \"{}{}\" = {}: expected {}", where_, prefix_, name, json_excerpt(got),
              expected);
}

const Json* ConfigFields::find(const std::string& name) {
  read_.insert(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<std::int64_t> ConfigFields::integer_if(const std::string& name, std::int64_t low,
                                                     std::int64_t high) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto integer = whole_number(*value);
  if (!integer || *integer < low || *integer > high)
    fail(name, *value, fmt::format("an integer from {} to {}", low, high));
  return integer;
}

std::optional<double> ConfigFields::finite_if(const std::string& name, bool may_be_zero) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : -1.0;
  if (!std::isfinite(number) || number < 0.0 || (number == 0.0 && !may_be_zero))
    fail(name, *value, may_be_zero ? "a number, 0 or more" : "a number above 0");
  return number;
}

std::optional<double> ConfigFields::number_if(const std::string& name) {
  return finite_if(name, false);
}

std::optional<double> ConfigFields::non_negative_if(const std::string& name) {
  return finite_if(name, true);
}

std::optional<std::string> ConfigFields::text_if(const std::string& name) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(name, *value, "a string");
  return value->get<std::string>();
}

bool ConfigFields::flag(const std::string& name, bool fallback) {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(name, *value, "true or false");
  return value->get<bool>();
}

std::int64_t ConfigFields::integer(const std::string& name, std::int64_t low, std::int64_t high) {
  const auto value = integer_if(name, low, high);
  if (!value) fail_missing(name);
  return *value;
}

double ConfigFields::number(const std::string& name) {
  const auto value = number_if(name);
  if (!value) fail_missing(name);
  return *value;
}

bool ConfigFields::says_something(const std::string& name) const {
  return has(name) && !says_nothing(object_.at(name));
}

std::vector<std::string> ConfigFields::unread(std::span<const std::string_view> harmless) const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items())
    if (!read_.contains(name) && !says_nothing(value) && std::ranges::count(harmless, name) == 0)
      names.push_back(prefix_ + name);
  return names;
}

}  // namespace nereid::model
