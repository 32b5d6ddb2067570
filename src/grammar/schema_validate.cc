#include <algorithm>

#include "grammar/schema.h"

namespace nereid::grammar {

namespace {

std::uint8_t type_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNull;
    case Json::value_t::boolean:
      return value.get<bool>() ? kTrue : kFalse;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return kInteger;
    case Json::value_t::number_float:
      return decimal_of(value, "").is_integer() ? kInteger : kFraction;
    case Json::value_t::string:
      return kString;
    case Json::value_t::array:
      return kArray;
    case Json::value_t::object:
      return kObject;
    default:
      return 0;
  }
}

bool is_valid_array(const SchemaSet& set, const Schema& schema, const Json& value) {
  if (value.size() < schema.least_items || value.size() > schema.most_items) return false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (i < schema.prefix_items.size() ? !set.is_valid(schema.prefix_items[i], value[i])
                                       : schema.items && !set.is_valid(*schema.items, value[i]))
      return false;
  }
  return true;
}

bool is_valid_object(const SchemaSet& set, const Schema& schema, const Json& value) {
  if (value.size() < schema.least_properties || value.size() > schema.most_properties) return false;
  for (const std::string& name : schema.required)
    if (!value.contains(name)) return false;
  for (const auto& [name, inside] : value.items()) {
    if (schema.property_names && !set.is_valid(*schema.property_names, Json(name))) return false;
    const auto named = schema.properties.find(name);
    bool is_known = named != schema.properties.end();
    if (is_known && !set.is_valid(named->second, inside)) return false;
    for (const auto& [pattern, id] : schema.pattern_properties) {
      if (set.pattern(pattern).label_of(characters_of(name)) == 0) continue;
      is_known = true;
      if (!set.is_valid(id, inside)) return false;
    }
    if (!is_known && schema.additional && !set.is_valid(*schema.additional, inside)) return false;
  }
  return true;
}

}  // namespace

bool SchemaSet::is_valid_by_itself(SchemaId id, const Json& value) const {
  const Schema& schema = schemas_[id];
  if ((schema.types & type_of(value)) == 0) return false;
  if (schema.values &&
      std::find(schema.values->begin(), schema.values->end(), value) == schema.values->end())
    return false;
  if (value.is_number()) return is_within(decimal_of(value, schema.where), schema.number);
  if (value.is_array()) return is_valid_array(*this, schema, value);
  if (value.is_object()) return is_valid_object(*this, schema, value);
  if (!value.is_string()) return true;
  const std::u32string text = characters_of(value.get_ref<const std::string&>());
  return text.size() >= schema.least_characters && text.size() <= schema.most_characters &&
         std::all_of(schema.patterns.begin(), schema.patterns.end(),
                     [&](std::size_t pattern) { return patterns_[pattern].label_of(text) != 0; });
}

bool SchemaSet::is_valid(SchemaId id, const Json& value) const {
  // References that lead round through anyOf would go on for ever, and many anyOf nearly so.
  constexpr std::size_t kMostWork = 1'000'000;
  constexpr std::size_t kMostDepth = 500;
  if (++work_ > kMostWork || depth_ >= kMostDepth)
    throw Error(
        "{}: the values of enum and const take more work to check than allowed; make "
        "anyOf, oneOf and $ref beside them simpler",
        schemas_[id].where);
  ++depth_;
  const bool is_good = is_valid_deeper(id, value);
  --depth_;
  return is_good;
}

bool SchemaSet::is_valid_deeper(SchemaId id, const Json& value) const {
  // Each schema once: a $ref may lead back to where it stands.
  std::vector<SchemaId> open = {id};
  std::vector<SchemaId> seen;
  while (!open.empty()) {
    const SchemaId now = open.back();
    open.pop_back();
    if (std::find(seen.begin(), seen.end(), now) != seen.end()) continue;
    seen.push_back(now);
    if (!is_valid_by_itself(now, value)) return false;
    const Schema& schema = schemas_[now];
    open.insert(open.end(), schema.all_of.begin(), schema.all_of.end());
    for (const Schema::Choice& choice : schema.choices) {
      const auto n = std::count_if(choice.of.begin(), choice.of.end(),
                                   [&](SchemaId one) { return is_valid(one, value); });
      if (n == 0 || (choice.is_one_of && n != 1)) return false;
    }
  }
  return true;
}

}  // namespace nereid::grammar
