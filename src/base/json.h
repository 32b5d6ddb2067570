// Goal: JSON with errors that name the file and the field.
// Non-goal: a JSON library; that is nlohmann's.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json_fwd.h"

namespace nereid {

// `where` is what the message calls the text: usually a path.
Json parse_json(std::string_view text, const std::string& where);
Json read_json_file(const std::filesystem::path& path);

// Why `text`, at which a parser stumbled with `error`, is no JSON: what it is instead, that it was
// cut off, or the parser's own words.
std::string not_json_reason(std::string_view text, const Json::exception& error);

// The field `key` of the object `object`, of whatever type; an Error where there is none.
const Json& json_member(const Json& object, const std::string& key, const std::string& where);

// The field `key` of the object `object` as a T; an Error names `where`, the field, and what was
// got instead.
template <typename T>
T json_field(const Json& object, const std::string& key, const std::string& where) {
  const Json& field = json_member(object, key, where);
  try {
    return field.get<T>();
  } catch (const Json::exception&) {
    throw Error("{}: field \"{}\" has the wrong type: got {}", where, key,
                field.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200));
  }
}

// Likewise, but an absent or null field is `fallback`.
template <typename T>
T json_field_or(const Json& object, const std::string& key, T fallback, const std::string& where) {
  if (!object.is_object() || !object.contains(key) || object.at(key).is_null()) return fallback;
  return json_field<T>(object, key, where);
}

}  // namespace nereid
