// Goal: a JSON Schema (draft 2020-12) as it is written: one Schema for each subschema that is
// referred to, $refs resolved to their numbers.
// Non-goal: what it means together with others (program.h).
// Rejected: to pass over an assertion that is not known. The answer would break a rule that the
// caller believes in.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "grammar/limits.h"
#include "grammar/number.h"

namespace nereid::grammar {

using SchemaId = std::uint32_t;

// Types of JSON values as bits. A number is an integer or a fraction.
enum Type : std::uint8_t {
  kNull = 1,
  kFalse = 2,
  kTrue = 4,
  kInteger = 8,
  kFraction = 16,
  kString = 32,
  kArray = 64,
  kObject = 128,
};
inline constexpr std::uint8_t kAllTypes = 255;

struct Schema {
  std::string where;  // what an Error calls it: its JSON pointer
  std::uint8_t types = kAllTypes;
  std::optional<std::vector<Json>> values = {};  // enum, const

  NumberRange number = {};

  std::uint64_t least_characters = 0;
  std::uint64_t most_characters = UINT64_MAX;
  std::vector<std::size_t> patterns = {};  // of SchemaSet

  std::vector<SchemaId> prefix_items = {};
  std::optional<SchemaId> items = {};
  std::uint64_t least_items = 0;
  std::uint64_t most_items = UINT64_MAX;

  std::map<std::string, SchemaId> properties = {};
  std::vector<std::pair<std::size_t, SchemaId>> pattern_properties = {};  // pattern, schema
  std::optional<SchemaId> additional = {};
  std::optional<SchemaId> property_names = {};
  std::vector<std::string> required = {};
  std::uint64_t least_properties = 0;
  std::uint64_t most_properties = UINT64_MAX;

  std::vector<SchemaId> all_of = {};  // $ref too
  struct Choice {
    std::vector<SchemaId> of;
    bool is_one_of;
  };
  std::vector<Choice> choices = {};
};

class SchemaSet {
 public:
  SchemaSet(const Limits& limits) : limits_(limits) {}

  // Parses `text`, a whole schema; `where` is what an Error calls it.
  SchemaId add(std::string_view text, const std::string& where);
  // The schema of exactly this value.
  SchemaId add_value(const Json& value, const std::string& where);
  // The schema of an object of any content.
  SchemaId add_any_object();

  const Schema& operator[](SchemaId id) const { return schemas_[id]; }
  std::size_t size() const { return schemas_.size(); }
  const Automaton& pattern(std::size_t i) const { return patterns_[i]; }

  // Whether `value` is valid, read as a whole: independent of how an answer is read byte by byte.
  bool is_valid(SchemaId id, const Json& value) const;
  // The same without allOf, anyOf, oneOf and $ref.
  bool is_valid_by_itself(SchemaId id, const Json& value) const;

 private:
  friend class SchemaReader;
  bool is_valid_deeper(SchemaId id, const Json& value) const;
  SchemaId add_schema(Schema schema);
  std::size_t add_pattern(const std::string& pattern, const std::string& where);

  const Limits& limits_;
  std::vector<Schema> schemas_;
  std::vector<Automaton> patterns_;
  std::map<std::string, std::size_t> pattern_numbers_;
  std::size_t n_states_ = 0;      // of all patterns
  mutable std::size_t work_ = 0;  // of is_valid, as far as a limit counts it
  mutable std::size_t depth_ = 0;
};

std::u32string characters_of(std::string_view valid_utf8);

}  // namespace nereid::grammar
