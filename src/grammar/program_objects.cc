// Objects and arrays of ProgramBuilder, and how deep their values must be nested.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "grammar/program_builder.h"
#include "tokenizer/utf8.h"

namespace nereid::grammar {

namespace {

// Each doubles the kinds of keys that an object tells apart.
constexpr std::size_t kMostKeyPatterns = 6;
// Where so few other keys ask for the same of their value, they become properties, so that none is
// written twice.
constexpr std::size_t kMostListedKeys = 64;

}  // namespace

bool ProgramBuilder::is_never(const Ids& ids) { return alternatives(ids).empty(); }

bool ProgramBuilder::is_name_allowed(const Ids& ids, const std::string& name) const {
  return std::all_of(ids.begin(), ids.end(), [&](SchemaId id) {
    const auto& names = schemas_[id].property_names;
    return !names || schemas_.is_valid(*names, Json(name));
  });
}

void ProgramBuilder::add_property(Program::Object& object, const std::string& name, Ids value_ids,
                                  bool is_required) {
  if (++n_properties_ > limits_.n_total_states)
    throw Error("the schema's objects have more than {} properties together",
                limits_.n_total_states);
  const std::u32string text = characters_of(name);
  const TerminalId key = terminal("key " + name, [&] {
    return Terminal(Terminal::Kind::string,
                    std::make_shared<const Automaton>(automaton_of_texts(
                        {&text, 1}, limits_.n_total_states, "a property's name")));
  });
  object.properties.push_back({key, node_of(std::move(value_ids)), is_required});
  object.n_required += is_required ? 1 : 0;
}

std::uint32_t ProgramBuilder::object_of(const Ids& ids) {
  if (const auto found = objects_.find(ids); found != objects_.end()) return found->second;
  Program::Object object;
  std::set<std::string> names;
  std::set<std::string> required;
  for (const SchemaId id : ids) {
    const Schema& schema = schemas_[id];
    for (const auto& [name, value] : schema.properties) names.insert(name);
    names.insert(schema.required.begin(), schema.required.end());
    required.insert(schema.required.begin(), schema.required.end());
    object.least = std::max(object.least, schema.least_properties);
    object.most = std::min(object.most, schema.most_properties);
  }
  const auto object_id = static_cast<std::uint32_t>(program_.objects.size());
  bool is_possible = true;
  for (const std::string& name : names) {
    const bool is_required = required.contains(name);
    if (!is_name_allowed(ids, name)) {
      is_possible = is_possible && !is_required;
      continue;
    }
    const std::u32string text = characters_of(name);
    Ids value_ids;
    for (const SchemaId id : ids) {
      const Schema& schema = schemas_[id];
      const auto named = schema.properties.find(name);
      bool is_known = named != schema.properties.end();
      if (is_known) value_ids.push_back(named->second);
      for (const auto& [pattern, value] : schema.pattern_properties) {
        if (schemas_.pattern(pattern).label_of(text) == 0) continue;
        is_known = true;
        value_ids.push_back(value);
      }
      if (!is_known && schema.additional) value_ids.push_back(*schema.additional);
    }
    add_property(object, name, std::move(value_ids), is_required);
  }
  if (is_possible)
    add_other_keys(object_id, object, ids, {names.begin(), names.end()});
  else
    object.most = 0, object.least = 1;
  program_.objects.push_back(std::move(object));
  objects_.emplace(ids, object_id);
  return object_id;
}

void ProgramBuilder::add_other_keys(std::uint32_t object_id, Program::Object& object,
                                    const Ids& ids, const std::vector<std::string>& names) {
  const std::string where = place_of(ids);
  std::vector<std::size_t> patterns;
  std::vector<Automaton> name_parts;
  for (const SchemaId id : ids) {
    const Schema& schema = schemas_[id];
    for (const auto& [pattern, value] : schema.pattern_properties) {
      if (std::find(patterns.begin(), patterns.end(), pattern) == patterns.end())
        patterns.push_back(pattern);
    }
  }
  if (patterns.size() > kMostKeyPatterns)
    throw Error("{}: {} patternProperties hold here together; expected at most {}", where,
                patterns.size(), kMostKeyPatterns);
  const std::size_t n_labels = std::size_t{1} << patterns.size();

  // What a key's value must be, by the patterns that the key matches.
  std::vector<Ids> values(n_labels);
  std::vector<bool> is_allowed(n_labels);
  for (std::size_t bits = 0; bits < n_labels; ++bits) {
    for (const SchemaId id : ids) {
      const Schema& schema = schemas_[id];
      bool is_known = false;
      for (const auto& [pattern, value] : schema.pattern_properties) {
        const auto at = std::find(patterns.begin(), patterns.end(), pattern) - patterns.begin();
        if ((bits >> at & 1) == 0) continue;
        is_known = true;
        values[bits].push_back(value);
      }
      if (!is_known && schema.additional) values[bits].push_back(*schema.additional);
    }
    is_allowed[bits] = !is_never(values[bits]);
  }
  if (std::find(is_allowed.begin(), is_allowed.end(), true) == is_allowed.end()) return;

  // Keys that propertyNames allows: for each of its schemas, any of the alternatives.
  std::vector<std::size_t> group_ends;
  for (const SchemaId id : ids) {
    const auto& property_names = schemas_[id].property_names;
    if (!property_names) continue;
    for (const Ids& alternative : alternatives({*property_names})) {
      for (const SchemaId one : alternative) check_one_of(one);
      name_parts.push_back(texts_of(merge(alternative)));
    }
    group_ends.push_back(name_parts.size());
  }

  if (names.empty() && patterns.empty() && group_ends.empty()) {
    object.other_values = {node_of(values[0])};
    others_.emplace(object_id, OtherKeys{.plain_key = string_terminal(Merged())});
    return;
  }
  std::vector<std::u32string> texts;
  for (const std::string& name : names) texts.push_back(characters_of(name));
  const std::string what = where + ": the names of other properties";
  const Automaton listed = automaton_of_texts(texts, limits_.n_total_states, what);
  std::vector<const Automaton*> parts = {&listed};
  for (const std::size_t pattern : patterns) parts.push_back(&schemas_.pattern(pattern));
  for (const Automaton& part : name_parts) parts.push_back(&part);
  const Automaton others = combine(
      parts,
      [&](std::span<const std::uint32_t> labels) -> std::uint32_t {
        if (labels[0] != 0) return 0;
        std::size_t bits = 0;
        for (std::size_t i = 0; i < patterns.size(); ++i)
          bits |= static_cast<std::size_t>(labels[1 + i] != 0) << i;
        std::size_t at = 0;
        for (const std::size_t end : group_ends) {
          bool is_any = false;
          for (; at < end; ++at) is_any = is_any || labels[1 + patterns.size() + at] != 0;
          if (!is_any) return 0;
        }
        return is_allowed[bits] ? static_cast<std::uint32_t>(bits + 1) : 0;
      },
      limits_.n_total_states, what);
  std::set<std::uint32_t> labels;
  for (std::uint32_t state = 1; state < others.n_states(); ++state)
    labels.insert(others.label(state));
  labels.erase(0);
  std::set<std::uint32_t> many;
  object.other_values.assign(n_labels, kNone);
  for (const std::uint32_t label : labels) {
    const Ids& value_ids = values[label - 1];
    const auto few = with_labels(others, {label}, what).texts(kMostListedKeys);
    if (!few) {
      many.insert(label);
      object.other_values[label - 1] = node_of(value_ids);
      continue;
    }
    for (const std::u32string& text : *few) {
      std::string name;
      for (const char32_t c : text) tokenizer::append_utf8(name, c);
      add_property(object, name, value_ids, false);
    }
  }
  if (many.empty()) return;
  OtherKeys keys{.where = what};
  keys.automaton = with_labels(others, many, what);
  count_states(keys.automaton.n_states());
  if (patterns.empty() && group_ends.empty())
    for (const std::string& name : names) keys.names += fmt::format(" {}:{}", name.size(), name);
  others_.emplace(object_id, std::move(keys));
}

Automaton ProgramBuilder::with_labels(const Automaton& from, const std::set<std::uint32_t>& kept,
                                      const std::string& what) const {
  bool keeps_all = true;
  for (std::uint32_t state = 1; state < from.n_states(); ++state)
    keeps_all = keeps_all && (from.label(state) == 0 || kept.contains(from.label(state)));
  if (keeps_all) return from;
  return combine(
      std::array{&from},
      [&](std::span<const std::uint32_t> labels) {
        return kept.contains(labels[0]) ? labels[0] : 0;
      },
      limits_.n_total_states, what);
}

void ProgramBuilder::make_other_keys() {
  for (const auto& [id, others] : others_) {
    Program::Object& object = program_.objects[id];
    std::map<std::uint32_t, std::set<std::uint32_t>> labels;  // by the height of their values
    for (std::uint32_t i = 0; i < object.other_values.size(); ++i) {
      const NodeId node = object.other_values[i];
      if (node != kNone && program_.nodes[node].height < kNever)
        labels[program_.nodes[node].height].insert(i + 1);
    }
    std::set<std::uint32_t> kept;
    for (const auto& [height, more] : labels) {
      kept.insert(more.begin(), more.end());
      const auto make = [&] {
        return Terminal(Terminal::Kind::string, std::make_shared<const Automaton>(with_labels(
                                                    others.automaton, kept, others.where)));
      };
      const TerminalId key = others.plain_key != kNone ? others.plain_key
                             : others.names.empty()    ? add_terminal(make())
                                                       : terminal("other" + others.names, make);
      object.other_keys.push_back({height, key});
    }
  }
}

std::uint32_t ProgramBuilder::array_of(const Ids& ids) {
  if (const auto found = arrays_.find(ids); found != arrays_.end()) return found->second;
  Program::Array array;
  std::size_t n_prefix = 0;
  for (const SchemaId id : ids) {
    const Schema& schema = schemas_[id];
    n_prefix = std::max(n_prefix, schema.prefix_items.size());
    array.least = std::max(array.least, schema.least_items);
    array.most = std::min(array.most, schema.most_items);
  }
  for (std::size_t i = 0; i <= n_prefix; ++i) {
    Ids values;
    for (const SchemaId id : ids) {
      const Schema& schema = schemas_[id];
      if (i < schema.prefix_items.size())
        values.push_back(schema.prefix_items[i]);
      else if (schema.items)
        values.push_back(*schema.items);
    }
    const NodeId node = node_of(std::move(values));
    if (i < n_prefix)
      array.prefix.push_back(node);
    else
      array.rest = node;
  }
  const auto id = static_cast<std::uint32_t>(program_.arrays.size());
  program_.arrays.push_back(std::move(array));
  arrays_.emplace(ids, id);
  return id;
}

std::uint32_t ProgramBuilder::object_of_value(const Json& value, const std::string& where) {
  Program::Object object;
  for (const auto& [name, inside] : value.items()) {
    add_property(object, name, {schema_of_value(inside, where)}, true);
  }
  program_.objects.push_back(std::move(object));
  return static_cast<std::uint32_t>(program_.objects.size() - 1);
}

std::uint32_t ProgramBuilder::array_of_value(const Json& value, const std::string& where) {
  Program::Array array;
  for (const Json& inside : value)
    array.prefix.push_back(node_of({schema_of_value(inside, where)}));
  array.least = array.most = array.prefix.size();
  program_.arrays.push_back(std::move(array));
  return static_cast<std::uint32_t>(program_.arrays.size() - 1);
}

std::uint32_t ProgramBuilder::height_of(const Program::Node& node) const {
  if (!node.scalars.empty()) return 0;
  std::uint32_t height = kNever;
  for (const std::uint32_t object : node.objects)
    height = std::min(height, program_.objects[object].height);
  for (const std::uint32_t array : node.arrays)
    height = std::min(height, program_.arrays[array].height);
  return height;
}

std::uint32_t ProgramBuilder::height_of(const Program::Object& object) const {
  if (object.most < std::max<std::uint64_t>(object.least, object.n_required)) return kNever;
  std::uint32_t height = 0;
  std::vector<std::uint32_t> optional;
  for (const Program::Property& property : object.properties) {
    const std::uint32_t one = program_.nodes[property.value].height;
    if (property.is_required)
      height = std::max(height, one);
    else
      optional.push_back(one);
  }
  if (object.least > object.n_required) {
    // The least nested of what may stand beside the required ones.
    const std::uint64_t n_more = object.least - object.n_required;
    std::sort(optional.begin(), optional.end());
    std::uint32_t more = n_more <= optional.size() ? optional[n_more - 1] : kNever;
    for (const NodeId node : object.other_values)
      if (node != kNone) more = std::min(more, program_.nodes[node].height);
    height = std::max(height, more);
  }
  return std::min(height + 1, kNever);
}

std::uint32_t ProgramBuilder::height_of(const Program::Array& array) const {
  if (array.most < array.least) return kNever;
  std::uint32_t height = 0;
  for (std::size_t i = 0; i < array.prefix.size() && i < array.least; ++i)
    height = std::max(height, program_.nodes[array.prefix[i]].height);
  if (array.least > array.prefix.size())
    height = std::max(height, array.rest == kNone ? kNever : program_.nodes[array.rest].height);
  return std::min(height + 1, kNever);
}

void ProgramBuilder::find_heights() {
  // Heights fall to their least value, at least one level a round.
  const std::size_t most_rounds = 4 * limits_.answer_depth;
  bool changes = true;
  for (std::size_t round = 0; changes; ++round) {
    if (round > most_rounds)
      throw Error("the schema asks for values nested deeper than {} levels", limits_.answer_depth);
    changes = false;
    const auto update = [&](auto& parts) {
      for (auto& part : parts) {
        const std::uint32_t height = height_of(part);
        changes = changes || height != part.height;
        part.height = height;
      }
    };
    update(program_.objects);
    update(program_.arrays);
    update(program_.nodes);
  }
}

}  // namespace nereid::grammar
