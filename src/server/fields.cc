#include "server/fields.h"

#include <fmt/format.h>

#include <cmath>

namespace nereid::server {

namespace {

constexpr std::size_t kExcerptBytes = 80;

std::string excerpt(const OrderedJson& json) {
  std::string text = json.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
  if (text.size() > kExcerptBytes) text = text.substr(0, kExcerptBytes) + "...";
  return text;
}

}  // namespace

OrderedJson parse_body(std::string_view body) {
  bool is_too_deep = false;
  const auto watch = [&](int depth, OrderedJson::parse_event_t event, const OrderedJson&) {
    const bool opens = event == OrderedJson::parse_event_t::object_start ||
                       event == OrderedJson::parse_event_t::array_start;
    if (opens && depth >= kMaxJsonDepth) is_too_deep = true;
    return !is_too_deep;
  };
  OrderedJson json;
  try {
    json = OrderedJson::parse(body, watch);
  } catch (const OrderedJson::exception& error) {
    throw ApiError(400, fmt::format("the body is no JSON: {}", error.what()), {}, "invalid_json");
  }
  if (is_too_deep)
    throw ApiError(400, fmt::format("the body is nested deeper than {} levels", kMaxJsonDepth), {},
                   "invalid_json");
  if (!json.is_object())
    throw ApiError(400, fmt::format("expected a JSON object as the body, got {}", excerpt(json)),
                   {}, "invalid_json");
  return json;
}

Fields::Fields(const OrderedJson& object, std::string where)
    : object_(object), where_(std::move(where)) {}

const OrderedJson* Fields::find(std::string_view name) {
  seen_.emplace(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

const OrderedJson& Fields::need(std::string_view name, std::string_view expected) {
  const auto* field = find(name);
  if (field == nullptr)
    throw ApiError(400, fmt::format("\"{}{}\" is missing: expected {}", where_, name, expected),
                   where_ + std::string(name), "missing_required_parameter");
  return *field;
}

void Fields::fail(std::string_view name, std::string_view expected) const {
  const auto it = object_.find(name);
  throw ApiError(400,
                 fmt::format("\"{}{}\": expected {}, got {}", where_, name, expected,
                             it == object_.end() ? "nothing" : excerpt(*it)),
                 where_ + std::string(name), "invalid_value");
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t low,
                                            std::int64_t high) {
  const auto* field = find(name);
  if (field == nullptr) return {};
  const auto expected = [&] {
    if (low == std::numeric_limits<std::int64_t>::min()) return std::string("a whole number");
    if (high == std::numeric_limits<std::int64_t>::max())
      return fmt::format("a whole number of at least {}", low);
    return fmt::format("a whole number, {} to {}", low, high);
  };
  std::int64_t value = 0;
  if (field->is_number_unsigned()) {
    const auto large = field->get<std::uint64_t>();
    if (large > std::uint64_t(std::numeric_limits<std::int64_t>::max())) fail(name, expected());
    value = std::int64_t(large);
  } else if (field->is_number_integer()) {
    value = field->get<std::int64_t>();
  } else if (field->is_number_float() && std::trunc(field->get<double>()) == field->get<double>() &&
             std::abs(field->get<double>()) < 1e15) {
    value = std::int64_t(field->get<double>());
  } else {
    fail(name, expected());
  }
  if (value < low || value > high) fail(name, expected());
  return value;
}

std::optional<double> Fields::number(std::string_view name, double low, double high) {
  const auto* field = find(name);
  if (field == nullptr) return {};
  const double value = field->is_number() ? field->get<double>() : std::nan("");
  if (!(value >= low && value <= high)) fail(name, fmt::format("a number, {} to {}", low, high));
  return value;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const auto* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_boolean()) fail(name, "true or false");
  return field->get<bool>();
}

std::optional<std::string> Fields::text(std::string_view name) {
  const auto* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_string()) fail(name, "a string");
  return field->get<std::string>();
}

std::vector<std::string> Fields::texts(std::string_view name, std::size_t n_most) {
  const auto* field = find(name);
  if (field == nullptr) return {};
  if (field->is_string()) return {field->get<std::string>()};
  const auto expected = [&] { return fmt::format("a string, or a list of at most {}", n_most); };
  if (!field->is_array() || field->size() > n_most) fail(name, expected());
  std::vector<std::string> texts;
  for (const auto& element : *field) {
    if (!element.is_string()) fail(name, expected());
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

void Fields::ignore(std::initializer_list<std::string_view> names) {
  for (const auto name : names) seen_.emplace(name);
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items())
    if (!seen_.contains(name)) names.push_back(where_ + name);
  return names;
}

}  // namespace nereid::server
