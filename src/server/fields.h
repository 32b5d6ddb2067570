// Goal: the fields of a request's JSON object, typed and in range; what is wrong is an ApiError
// that names the field. Fields that nobody looked at are known afterwards. Non-goal: what the
// fields mean. Rejected: an error for an unknown field. Clients send whatever some other server
// knows; it is counted and logged instead, so that it is seen.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "server/error_body.h"

namespace nereid::server {

// Keeps the order of an object's keys, which templates print.
using OrderedJson = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 64;

// A body. An ApiError says why it is no JSON object, or is nested deeper than kMaxJsonDepth.
OrderedJson parse_body(std::string_view body);

class Fields {
 public:
  // `where` stands before the names of fields in errors: "stream_options.". `object` must outlive
  // this and be an object.
  explicit Fields(const OrderedJson& object, std::string where = {});

  // Null where there is none, or it is null.
  const OrderedJson* find(std::string_view name);
  const OrderedJson& need(std::string_view name, std::string_view expected);

  std::optional<std::int64_t> integer(std::string_view name,
                                      std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                                      std::int64_t high = std::numeric_limits<std::int64_t>::max());
  std::optional<double> number(std::string_view name, double low, double high);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name);
  std::vector<std::string> texts(std::string_view name, std::size_t n_most);  // one, or a list

  // Looked at, and nothing comes of it.
  void ignore(std::initializer_list<std::string_view> names);
  // Neither looked at nor ignored.
  std::vector<std::string> unknown() const;

  [[noreturn]] void fail(std::string_view name, std::string_view expected) const;

 private:
  const OrderedJson& object_;
  std::string where_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace nereid::server
