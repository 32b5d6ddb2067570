// Goal: config.json of the fixtures, and changed copies of it, for the tests of what is read from
// one. Non-goal: files elsewhere. Rejected: a text for each test. What is not changed would hide
// what is.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/config.h"

namespace nereid::model {

inline const std::filesystem::path kSource = NEREID_SOURCE_DIR;

inline ModelConfig fixture(const std::string& name) {
  return ModelConfig::load(kSource / "tests/fixtures" / name);
}

inline Json fixture_json(const std::string& name) {
  return read_json_file(kSource / "tests/fixtures" / name / "config.json");
}

inline ModelConfig parse(const Json& json) { return ModelConfig::parse(json, "config.json"); }

// A field set (or, with a discarded value, removed) in a fixture's config.
inline Json changed(const std::string& name, const std::string& field, const Json& value) {
  Json json = fixture_json(name);
  json[field] = value;
  return json;
}

inline Json without(const std::string& name, const std::string& field) {
  Json json = fixture_json(name);
  json.erase(field);
  return json;
}

inline std::string error_of(const Json& json) {
  try {
    parse(json);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace nereid::model
