#include "model/config_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace nereid::model {

namespace {

bool is_off(const Json& value) {
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
  // An unsigned value above 2^63 would read as a negative one.
  const bool is_wide =
      value->is_number_unsigned() &&
      value->get<std::uint64_t>() > std::uint64_t(std::numeric_limits<std::int64_t>::max());
  if (!value->is_number_integer() || is_wide || value->get<std::int64_t>() < low ||
      value->get<std::int64_t>() > high)
    fail(name, *value, fmt::format("an integer from {} to {}", low, high));
  return value->get<std::int64_t>();
}

std::optional<double> ConfigFields::number_if(const std::string& name) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0.0)
    fail(name, *value, "a number above 0");
  return value->get<double>();
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

void ConfigFields::refuse_others(std::span<const std::string_view> harmless) const {
  for (const auto& [name, value] : object_.items()) {
    if (read_.contains(name) || is_off(value) || std::ranges::count(harmless, name) != 0) continue;
    throw Error("{}: field {} = {} is not supported", where_, json_excerpt(prefix_ + name),
                json_excerpt(value));
  }
}

}  // namespace nereid::model
