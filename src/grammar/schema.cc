#include "grammar/schema.h"

#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "base/error.h"
#include "grammar/regex_parser.h"
#include "tokenizer/utf8.h"

namespace nereid::grammar {

namespace {

constexpr std::array kAnnotations = {"$comment",
                                     "$schema",
                                     "$id",
                                     "$anchor",
                                     "$dynamicAnchor",
                                     "$vocabulary",
                                     "$defs",
                                     "definitions",
                                     "title",
                                     "description",
                                     "default",
                                     "example",
                                     "examples",
                                     "deprecated",
                                     "readOnly",
                                     "writeOnly",
                                     "format",
                                     "contentEncoding",
                                     "contentMediaType",
                                     "contentSchema",
                                     "discriminator",
                                     "externalDocs",
                                     "xml"};

// A count, which may be written 2.0.
std::uint64_t read_count(const Json& value, const std::string& where) {
  const bool is_whole =
      value.is_number_unsigned() ||
      (value.is_number_float() && value.get<double>() >= 0 && value.get<double>() < 1e15 &&
       value.get<double>() == static_cast<double>(value.get<std::uint64_t>()));
  if (!is_whole)
    throw Error("{}: got {}; expected a whole number from 0", where, value.dump().substr(0, 100));
  return value.get<std::uint64_t>();
}

// One segment of a JSON pointer.
std::string escaped_segment(std::string_view name) {
  std::string out;
  for (const char c : name) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

void check_depth(std::string_view text, std::size_t most, const std::string& where) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if ((c == '[' || c == '{') && ++depth > most)
      throw Error("{}: nested deeper than {} levels", where, most);
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
}

}  // namespace

std::u32string characters_of(std::string_view valid_utf8) {
  std::u32string out;
  for (std::size_t at = 0; at < valid_utf8.size();) {
    const auto [code, size_bytes] = tokenizer::utf8_at(valid_utf8, at);
    out.push_back(code);
    at += size_bytes;
  }
  return out;
}

// Reads one document. Subschemas that nothing refers to are not looked at.
class SchemaReader {
 public:
  SchemaReader(SchemaSet& set, const Json& root, std::string where)
      : set_(set), root_(root), where_(std::move(where)) {
    if (root.is_object() && root.contains("$id") && root["$id"].is_string())
      base_ = root["$id"].get<std::string>();
    while (base_.ends_with('#')) base_.pop_back();
  }

  SchemaId read_all() {
    const SchemaId id = id_of(root_, "");
    while (!open_.empty()) {
      const auto [json, pointer, next] = open_.back();
      open_.pop_back();
      // A Schema may move while it is filled, so it is filled elsewhere.
      Schema schema = set_.schemas_[next];
      fill(schema, *json, pointer);
      set_.schemas_[next] = std::move(schema);
    }
    return id;
  }

 private:
  struct Open {
    const Json* json;
    std::string pointer;
    SchemaId id;
  };

  std::string place(const std::string& pointer) const {
    return fmt::format("{}: #{}", where_, pointer);
  }

  SchemaId id_of(const Json& json, const std::string& pointer) {
    const auto [found, is_new] = ids_.try_emplace(&json, 0);
    if (is_new) {
      if (!json.is_object() && !json.is_boolean())
        throw Error("{}: got {}; expected a schema: an object, true or false", place(pointer),
                    json.type_name());
      found->second = set_.add_schema({.where = place(pointer)});
      open_.push_back({&json, pointer, found->second});
    }
    return found->second;
  }

  void fill(Schema& schema, const Json& json, const std::string& pointer) {
    if (json.is_boolean()) {
      if (!json.get<bool>()) schema.types = 0;
      return;
    }
    for (const auto& [keyword, value] : json.items()) {
      const std::string here = pointer + "/" + escaped_segment(keyword);
      if (read_any(schema, keyword, value, here) || read_number(schema, keyword, value, here) ||
          read_text(schema, keyword, value, here) || read_array(schema, keyword, value, here) ||
          read_object(schema, keyword, value, here) ||
          read_combination(schema, keyword, value, here) || is_ignored(json, keyword, value, here))
        continue;
      throw Error(
          "{}: the keyword \"{}\" is not supported (docs/constrained.md lists those that "
          "are)",
          place(here), keyword);
    }
  }

  // What says nothing about a value, or nothing as it stands here.
  bool is_ignored(const Json& json, const std::string& keyword, const Json& value,
                  const std::string& here) const {
    if (keyword == "$id") {
      if (&json != &root_)
        throw Error("{}: an \"$id\" inside a schema is not supported; refer by #/pointers",
                    place(here));
      return true;
    }
    if (std::find(kAnnotations.begin(), kAnnotations.end(), keyword) != kAnnotations.end() ||
        keyword.starts_with("x-"))
      return true;
    if (keyword == "uniqueItems") return value == false;
    if (keyword == "unevaluatedItems" || keyword == "unevaluatedProperties") return value == true;
    if (keyword == "if") return !json.contains("then") && !json.contains("else");
    if (keyword == "then" || keyword == "else") return !json.contains("if");
    if (keyword == "minContains" || keyword == "maxContains") return !json.contains("contains");
    return false;
  }

  bool read_any(Schema& schema, const std::string& keyword, const Json& value,
                const std::string& here) {
    if (keyword == "type") {
      schema.types &= read_types(value, here);
    } else if (keyword == "const" || keyword == "enum") {
      if (keyword == "enum" && !value.is_array())
        throw Error("{}: got {}; expected an array", place(here), value.type_name());
      std::vector<Json> values =
          keyword == "const" ? std::vector<Json>{value} : value.get<std::vector<Json>>();
      if (values.size() > set_.limits_.n_enum_values)
        throw Error("{}: {} values; expected at most {}", place(here), values.size(),
                    set_.limits_.n_enum_values);
      if (schema.values)
        std::erase_if(values, [&](const Json& one) {
          return std::find(schema.values->begin(), schema.values->end(), one) ==
                 schema.values->end();
        });
      schema.values = std::move(values);
    } else {
      return false;
    }
    return true;
  }

  std::uint8_t read_types(const Json& value, const std::string& here) const {
    struct Row {
      std::string_view name;
      int types;
    };
    static constexpr Row kRows[] = {{"null", kNull},       {"boolean", kFalse | kTrue},
                                    {"integer", kInteger}, {"number", kInteger | kFraction},
                                    {"string", kString},   {"array", kArray},
                                    {"object", kObject}};
    int types = 0;
    const std::vector<Json> names =
        value.is_array() ? value.get<std::vector<Json>>() : std::vector<Json>{value};
    for (const Json& name : names) {
      const auto row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& one) {
        return name.is_string() && name.get_ref<const std::string&>() == one.name;
      });
      if (row == std::end(kRows))
        throw Error("{}: got {}; expected null, boolean, integer, number, string, array or object",
                    place(here), name.dump().substr(0, 100));
      types |= row->types;
    }
    return static_cast<std::uint8_t>(types);
  }

  bool read_number(Schema& schema, const std::string& keyword, const Json& value,
                   const std::string& here) {
    const bool is_lower = keyword == "minimum" || keyword == "exclusiveMinimum";
    const bool is_upper = keyword == "maximum" || keyword == "exclusiveMaximum";
    if (!is_lower && !is_upper && keyword != "multipleOf") return false;
    if (!value.is_number())
      throw Error("{}: got {}; expected a number", place(here), value.type_name());
    const Decimal decimal = decimal_of(value, place(here));
    if (is_lower || is_upper) {
      auto& bounds = is_lower ? schema.number.lower : schema.number.upper;
      bounds.push_back({decimal, keyword.starts_with("exclusive")});
    } else {
      if (decimal.is_negative || decimal.is_zero())
        throw Error("{}: got {}; expected a number above 0", place(here), value.dump());
      schema.number.multiple_of.push_back(decimal);
    }
    return true;
  }

  bool read_text(Schema& schema, const std::string& keyword, const Json& value,
                 const std::string& here) {
    if (keyword == "minLength") {
      schema.least_characters = read_count(value, place(here));
    } else if (keyword == "maxLength") {
      schema.most_characters = read_count(value, place(here));
    } else if (keyword == "pattern") {
      if (!value.is_string())
        throw Error("{}: got {}; expected a pattern", place(here), value.type_name());
      schema.patterns.push_back(set_.add_pattern(value.get<std::string>(), place(here)));
    } else {
      return false;
    }
    return true;
  }

  bool read_array(Schema& schema, const std::string& keyword, const Json& value,
                  const std::string& here) {
    if (keyword == "minItems") {
      schema.least_items = read_count(value, place(here));
    } else if (keyword == "maxItems") {
      schema.most_items = read_count(value, place(here));
    } else if (keyword == "items") {
      if (value.is_array())
        throw Error("{}: got an array; expected a schema (draft 2020-12 writes it prefixItems)",
                    place(here));
      schema.items = id_of(value, here);
    } else if (keyword == "prefixItems") {
      schema.prefix_items = read_list(value, here);
    } else {
      return false;
    }
    return true;
  }

  bool read_object(Schema& schema, const std::string& keyword, const Json& value,
                   const std::string& here) {
    if (keyword == "minProperties") {
      schema.least_properties = read_count(value, place(here));
    } else if (keyword == "maxProperties") {
      schema.most_properties = read_count(value, place(here));
    } else if (keyword == "additionalProperties") {
      schema.additional = id_of(value, here);
    } else if (keyword == "propertyNames") {
      schema.property_names = id_of(value, here);
    } else if (keyword == "required") {
      if (!value.is_array() || !std::all_of(value.begin(), value.end(),
                                            [](const Json& name) { return name.is_string(); }))
        throw Error("{}: expected an array of names", place(here));
      schema.required = value.get<std::vector<std::string>>();
    } else if (keyword == "properties" || keyword == "patternProperties") {
      if (!value.is_object())
        throw Error("{}: got {}; expected an object", place(here), value.type_name());
      for (const auto& [name, inside] : value.items()) {
        const std::string at = here + "/" + escaped_segment(name);
        const SchemaId id = id_of(inside, at);
        if (keyword == "properties")
          schema.properties.emplace(name, id);
        else
          schema.pattern_properties.emplace_back(set_.add_pattern(name, place(at)), id);
      }
    } else {
      return false;
    }
    return true;
  }

  bool read_combination(Schema& schema, const std::string& keyword, const Json& value,
                        const std::string& here) {
    if (keyword == "allOf") {
      const auto list = read_list(value, here);
      schema.all_of.insert(schema.all_of.end(), list.begin(), list.end());
    } else if (keyword == "anyOf" || keyword == "oneOf") {
      schema.choices.push_back({read_list(value, here), keyword == "oneOf"});
    } else if (keyword == "$ref") {
      if (!value.is_string())
        throw Error("{}: got {}; expected a reference", place(here), value.type_name());
      schema.all_of.push_back(resolve(value.get<std::string>(), here));
    } else {
      return false;
    }
    return true;
  }

  std::vector<SchemaId> read_list(const Json& value, const std::string& here) {
    if (!value.is_array() || value.empty())
      throw Error("{}: expected an array of schemas, not empty", place(here));
    std::vector<SchemaId> ids;
    for (std::size_t i = 0; i < value.size(); ++i)
      ids.push_back(id_of(value[i], fmt::format("{}/{}", here, i)));
    return ids;
  }

  SchemaId resolve(const std::string& reference, const std::string& here) {
    const std::size_t hash = reference.find('#');
    const std::string document = reference.substr(0, hash);
    if (!document.empty() && document != base_)
      throw Error("{}: \"{}\" refers to another document; expected #, #/pointer or #anchor",
                  place(here), reference);
    const std::string fragment =
        hash == std::string::npos ? "" : percent_decoded(reference.substr(hash + 1));
    if (fragment.empty()) return id_of(root_, "");
    if (!fragment.starts_with('/')) return resolve_anchor(root_, fragment, "", here);
    const Json* at = &root_;
    for (std::size_t begin = 1; begin <= fragment.size();) {
      const std::size_t end = std::min(fragment.find('/', begin), fragment.size());
      const std::string name = unescaped(fragment.substr(begin, end - begin));
      begin = end + 1;
      const Json* next = nullptr;
      if (at->is_object() && at->contains(name)) next = &(*at)[name];
      if (at->is_array() && !name.empty() && name.size() < 8 &&
          name.find_first_not_of("0123456789") == std::string::npos &&
          std::stoul(name) < at->size())
        next = &(*at)[std::stoul(name)];
      if (next == nullptr)
        throw Error("{}: \"{}\" is not there: no \"{}\"", place(here), reference, name);
      if (at != &root_ && at->is_object() && at->contains("$id") && (*at)["$id"].is_string())
        throw Error("{}: \"{}\" leads through an \"$id\" inside a schema, which is not supported",
                    place(here), reference);
      at = next;
    }
    return id_of(*at, fragment);
  }

  SchemaId resolve_anchor(const Json& json, const std::string& name, const std::string& pointer,
                          const std::string& here) {
    const auto found = find_anchor(json, name, pointer);
    if (!found) throw Error("{}: there is no \"$anchor\": \"{}\"", place(here), name);
    return id_of(*found->first, found->second);
  }

  static std::optional<std::pair<const Json*, std::string>> find_anchor(
      const Json& json, const std::string& name, const std::string& pointer) {
    if (json.is_object()) {
      for (const char* key : {"$anchor", "$dynamicAnchor"})
        if (json.contains(key) && json[key] == name) return {{&json, pointer}};
    }
    if (!json.is_structured()) return std::nullopt;
    for (const auto& [key, value] : json.items()) {
      if (key == "const" || key == "enum") continue;
      if (auto found = find_anchor(value, name, pointer + "/" + escaped_segment(key))) return found;
    }
    return std::nullopt;
  }

  static std::string unescaped(std::string_view segment) {
    std::string out;
    for (std::size_t i = 0; i < segment.size(); ++i) {
      const bool is_escape = segment[i] == '~' && i + 1 < segment.size();
      if (is_escape && (segment[i + 1] == '0' || segment[i + 1] == '1'))
        out += segment[++i] == '0' ? '~' : '/';
      else
        out += segment[i];
    }
    return out;
  }

  static std::string percent_decoded(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '%' && i + 2 < text.size() &&
          std::isxdigit(static_cast<unsigned char>(text[i + 1])) != 0 &&
          std::isxdigit(static_cast<unsigned char>(text[i + 2])) != 0) {
        out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  SchemaSet& set_;
  const Json& root_;
  std::string where_;
  std::string base_;
  std::map<const Json*, SchemaId> ids_;
  std::vector<Open> open_;
};

SchemaId SchemaSet::add_schema(Schema schema) {
  if (schemas_.size() >= limits_.n_schemas)
    throw Error("{}: more than {} subschemas", schema.where, limits_.n_schemas);
  schema.number.is_integer = false;
  schemas_.push_back(std::move(schema));
  return static_cast<SchemaId>(schemas_.size() - 1);
}

std::size_t SchemaSet::add_pattern(const std::string& pattern, const std::string& where) {
  const auto [found, is_new] = pattern_numbers_.try_emplace(pattern, patterns_.size());
  if (is_new) {
    patterns_.push_back(parse_regex(pattern, RegexUse::search, limits_, where));
    n_states_ += patterns_.back().n_states();
    if (n_states_ > limits_.n_total_states)
      throw Error("{}: the patterns need more than {} states together; make them simpler", where,
                  limits_.n_total_states);
  }
  return found->second;
}

SchemaId SchemaSet::add(std::string_view text, const std::string& where) {
  if (text.size() > limits_.text_bytes)
    throw Error("{}: {} bytes; expected at most {}", where, text.size(), limits_.text_bytes);
  check_depth(text, limits_.schema_depth, where);
  const Json root = parse_json(text, where);
  return SchemaReader(*this, root, where).read_all();
}

SchemaId SchemaSet::add_value(const Json& value, const std::string& where) {
  return add_schema({.where = where, .values = std::vector<Json>{value}});
}

SchemaId SchemaSet::add_any_object() {
  return add_schema({.where = "a JSON object", .types = kObject});
}

}  // namespace nereid::grammar
