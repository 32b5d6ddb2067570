#include "grammar/program_builder.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "grammar/literal.h"

namespace nereid::grammar {

namespace {

// Past it, anyOf and oneOf beside one another have more combinations than any limit allows.
constexpr std::size_t kMostChoices = 64;

template <typename T>
void add_once(std::vector<T>& to, T value) {
  if (std::find(to.begin(), to.end(), value) == to.end()) to.push_back(value);
}

template <typename T>
void sort_unique(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

Automaton automaton_of_lengths(std::uint64_t least, std::uint64_t most, std::size_t most_states,
                               const std::string& what) {
  AutomatonBuilder builder(most_states, what);
  const std::uint32_t start = builder.add_state(least == 0 ? 1 : 0);
  std::uint32_t state = start;
  const std::uint64_t last = most == UINT64_MAX ? least : most;
  for (std::uint64_t n = 1; n <= last; ++n) {
    const std::uint32_t next = builder.add_state(n >= least ? 1 : 0);
    builder.add_edge(state, 0, kLastCharacter, next);
    state = next;
  }
  if (most == UINT64_MAX) builder.add_edge(state, 0, kLastCharacter, state);
  return builder.build(start);
}

}  // namespace

ProgramBuilder::ProgramBuilder(Program& program, SchemaSet& schemas, const Limits& limits)
    : program_(program), schemas_(schemas), limits_(limits) {
  program.open_object = literal("{");
  program.close_object = literal("}");
  program.open_array = literal("[");
  program.close_array = literal("]");
  program.colon = literal(":");
  program.comma = literal(",");
  WhiteSpace white_space = make_white_space(limits.answer_depth);
  program.blank = add_terminal(Terminal(
      Terminal::Kind::bytes, std::make_shared<const Automaton>(std::move(white_space.automaton))));
  program.blank_starts = std::move(white_space.starts);
  program.most_depth = static_cast<std::uint32_t>(limits.answer_depth);
  program.most_threads = limits.n_threads;
}

void ProgramBuilder::count_states(std::size_t n) {
  n_states_ += n;
  if (n_states_ > limits_.n_total_states)
    throw Error(
        "the schema's strings and numbers need more than {} states together; make it simpler",
        limits_.n_total_states);
}

TerminalId ProgramBuilder::add_terminal(Terminal terminal) {
  count_states(terminal.n_states());
  program_.terminals.push_back(std::move(terminal));
  return static_cast<TerminalId>(program_.terminals.size() - 1);
}

TerminalId ProgramBuilder::terminal(const std::string& key, const std::function<Terminal()>& make) {
  if (const auto found = terminals_.find(key); found != terminals_.end()) return found->second;
  const TerminalId id = add_terminal(make());
  terminals_.emplace(key, id);
  return id;
}

TerminalId ProgramBuilder::literal(const std::string& text) {
  if (text.empty()) return kNone;
  return terminal("literal " + text, [&] {
    return Terminal(Terminal::Kind::bytes,
                    std::make_shared<const Automaton>(automaton_of_bytes(
                        std::array{text}, limits_.n_automaton_states, "a literal")));
  });
}

NodeId ProgramBuilder::node_of(std::vector<SchemaId> ids) {
  sort_unique(ids);
  const auto [found, is_new] = nodes_.try_emplace(ids, 0);
  if (is_new) {
    if (program_.nodes.size() >= limits_.n_nodes)
      throw Error("the schema describes more than {} places of an answer; make it simpler",
                  limits_.n_nodes);
    found->second = static_cast<NodeId>(program_.nodes.size());
    program_.nodes.emplace_back();
    open_.emplace_back(found->second, std::move(ids));
  }
  return found->second;
}

SchemaId ProgramBuilder::schema_of_value(const Json& value, const std::string& where) {
  const auto [found, is_new] = value_schemas_.try_emplace(value.dump(), 0);
  if (is_new) found->second = schemas_.add_value(value, where);
  return found->second;
}

std::string ProgramBuilder::place_of(const Ids& ids) const {
  return ids.empty() ? "any JSON value" : schemas_[ids.front()].where;
}

void ProgramBuilder::finish() {
  while (!open_.empty()) {
    const auto [id, ids] = std::move(open_.back());
    open_.pop_back();
    fill(id, ids);
  }
  find_heights();
  make_other_keys();
  for (const OneOfPair& pair : one_of_pairs_)
    if (program_.nodes[pair.both].height < kNever)
      throw Error(
          "{}: oneOf is supported only where no value fits two alternatives, but {} and {} "
          "overlap; make them differ in type, in a required property's const, or use anyOf",
          pair.where, pair.first, pair.second);
}

std::vector<ProgramBuilder::Ids> ProgramBuilder::alternatives(const Ids& ids) {
  std::set<Ids> out;
  n_steps_ = 0;
  expand({}, ids, {}, 0, out);
  return {out.begin(), out.end()};
}

void ProgramBuilder::expand(Ids closed, Ids pending, std::vector<const Schema::Choice*> choices,
                            std::size_t n_chosen, std::set<Ids>& out) {
  while (!pending.empty()) {
    const SchemaId id = pending.back();
    pending.pop_back();
    const auto at = std::lower_bound(closed.begin(), closed.end(), id);
    if (at != closed.end() && *at == id) continue;
    closed.insert(at, id);
    const Schema& schema = schemas_[id];
    pending.insert(pending.end(), schema.all_of.begin(), schema.all_of.end());
    for (const Schema::Choice& choice : schema.choices) {
      if (choice.of.size() == 1)
        pending.push_back(choice.of[0]);
      else
        choices.push_back(&choice);
    }
  }
  std::uint8_t types = kAllTypes;
  for (const SchemaId id : closed) types &= schemas_[id].types;
  if (++n_steps_ > limits_.n_alternatives * 8 || n_chosen + choices.size() > kMostChoices)
    throw Error("{}: anyOf and oneOf have too many combinations here; expected at most {}",
                place_of(closed), limits_.n_alternatives);
  if (types == 0) return;
  if (choices.empty()) {
    if (out.insert(closed).second && ++n_alternatives_ > limits_.n_total_alternatives)
      throw Error("the schema has more than {} alternatives in all; make it simpler",
                  limits_.n_total_alternatives);
    if (out.size() > limits_.n_alternatives)
      throw Error("{}: more than {} alternatives, anyOf and oneOf multiplied out", place_of(closed),
                  limits_.n_alternatives);
    return;
  }
  const Schema::Choice& choice = *choices.back();
  choices.pop_back();
  for (const SchemaId option : choice.of) expand(closed, {option}, choices, n_chosen + 1, out);
}

void ProgramBuilder::check_one_of(SchemaId id) {
  if (!one_of_seen_.insert(id).second) return;
  const Schema& schema = schemas_[id];
  for (const Schema::Choice& choice : schema.choices) {
    if (!choice.is_one_of) continue;
    for (std::size_t i = 0; i < choice.of.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        one_of_pairs_.push_back({schema.where, j, i, node_of({choice.of[j], choice.of[i]})});
  }
}

ProgramBuilder::Merged ProgramBuilder::merge(const Ids& alternative) const {
  Merged out;
  out.ids = alternative;
  out.where = place_of(alternative);
  for (const SchemaId id : alternative) {
    const Schema& schema = schemas_[id];
    out.types &= schema.types;
    if (schema.values && !out.values) out.values = schema.values;
    const auto append = [](auto& to, const auto& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(out.number.lower, schema.number.lower);
    append(out.number.upper, schema.number.upper);
    append(out.number.multiple_of, schema.number.multiple_of);
    out.least_characters = std::max(out.least_characters, schema.least_characters);
    out.most_characters = std::min(out.most_characters, schema.most_characters);
    out.patterns.insert(schema.patterns.begin(), schema.patterns.end());
  }
  out.number.is_integer = (out.types & kFraction) == 0;
  if (out.values)
    std::erase_if(*out.values, [&](const Json& value) {
      return !std::all_of(alternative.begin(), alternative.end(),
                          [&](SchemaId id) { return schemas_.is_valid_by_itself(id, value); });
    });
  return out;
}

void ProgramBuilder::fill(NodeId id, const Ids& ids) {
  Program::Node node;
  for (const Ids& alternative : alternatives(ids)) {
    for (const SchemaId one : alternative) check_one_of(one);
    const Merged merged = merge(alternative);
    if (merged.values)
      add_values(node, merged);
    else
      add_types(node, merged);
  }
  sort_unique(node.scalars);
  sort_unique(node.objects);
  sort_unique(node.arrays);
  program_.nodes[id] = std::move(node);
}

void ProgramBuilder::add_values(Program::Node& node, const Merged& merged) {
  std::vector<std::u32string> texts;
  std::vector<std::string> spellings;  // of all but strings
  for (const Json& value : *merged.values) {
    if (value.is_string()) {
      texts.push_back(characters_of(value.get_ref<const std::string&>()));
    } else if (value.is_object()) {
      node.objects.push_back(object_of_value(value, merged.where));
    } else if (value.is_array()) {
      node.arrays.push_back(array_of_value(value, merged.where));
    } else {
      spellings.push_back(value.dump());
      // 1.0 is 1: both may be written.
      if (value.is_number_float()) spellings.push_back(decimal_of(value, merged.where).text());
    }
  }
  if (!texts.empty()) {
    const TerminalId id = add_terminal(Terminal(
        Terminal::Kind::string, std::make_shared<const Automaton>(automaton_of_texts(
                                    texts, limits_.n_total_states, merged.where + ": its texts"))));
    node.scalars.push_back(id);
  }
  if (!spellings.empty()) {
    const TerminalId id = add_terminal(
        Terminal(Terminal::Kind::bytes,
                 std::make_shared<const Automaton>(automaton_of_bytes(
                     spellings, limits_.n_total_states, merged.where + ": its values"))));
    node.scalars.push_back(id);
  }
}

void ProgramBuilder::add_types(Program::Node& node, const Merged& merged) {
  if ((merged.types & kNull) != 0) node.scalars.push_back(literal("null"));
  if ((merged.types & kTrue) != 0) node.scalars.push_back(literal("true"));
  if ((merged.types & kFalse) != 0) node.scalars.push_back(literal("false"));
  const auto add = [&](TerminalId id) {
    if (!program_.terminals[id].is_empty()) node.scalars.push_back(id);
  };
  if ((merged.types & (kInteger | kFraction)) != 0) add(number_terminal(merged));
  if ((merged.types & kString) != 0) add(string_terminal(merged));
  if ((merged.types & kObject) != 0) node.objects.push_back(object_of(merged.ids));
  if ((merged.types & kArray) != 0) node.arrays.push_back(array_of(merged.ids));
}

TerminalId ProgramBuilder::number_terminal(const Merged& merged) {
  NumberRange range = merged.number;
  range.tighten();
  std::string key = range.is_integer ? "integer" : "number";
  for (const Bound& bound : range.lower)
    key += (bound.is_exclusive ? " >" : " >=") + bound.value.text();
  for (const Bound& bound : range.upper)
    key += (bound.is_exclusive ? " <" : " <=") + bound.value.text();
  for (const Decimal& value : range.multiple_of) key += " %" + value.text();
  return terminal(key, [&] {
    return Terminal(Terminal::Kind::bytes, std::make_shared<const Automaton>(
                                               automaton_of_numbers(range, limits_, merged.where)));
  });
}

TerminalId ProgramBuilder::string_terminal(const Merged& merged) {
  std::string key = fmt::format("string {} {}", merged.least_characters, merged.most_characters);
  for (const std::size_t pattern : merged.patterns) key += fmt::format(" {}", pattern);
  return terminal(key, [&] {
    if (!merged.patterns.empty())
      return Terminal(Terminal::Kind::string, std::make_shared<const Automaton>(texts_of(merged)));
    constexpr std::uint64_t kMost = 1U << 30;  // longer than any answer
    if (merged.least_characters > kMost)
      throw Error("{}: minLength {} is longer than any answer", merged.where,
                  merged.least_characters);
    return Terminal::string_of_length(static_cast<std::uint32_t>(merged.least_characters),
                                      merged.most_characters > kMost
                                          ? Terminal::kNoLimit
                                          : static_cast<std::uint32_t>(merged.most_characters));
  });
}

Automaton ProgramBuilder::texts_of(const Merged& merged) {
  if ((merged.types & kString) == 0) return {};
  if (merged.values) {
    std::vector<std::u32string> texts;
    for (const Json& value : *merged.values)
      if (value.is_string()) texts.push_back(characters_of(value.get_ref<const std::string&>()));
    return automaton_of_texts(texts, limits_.n_automaton_states, merged.where + ": its texts");
  }
  const std::string what = merged.where + ": pattern, minLength and maxLength together";
  const Automaton lengths = automaton_of_lengths(merged.least_characters, merged.most_characters,
                                                 limits_.n_automaton_states, what);
  std::vector<const Automaton*> parts = {&lengths};
  for (const std::size_t pattern : merged.patterns) parts.push_back(&schemas_.pattern(pattern));
  return combine(
      parts,
      [](std::span<const std::uint32_t> labels) {
        return static_cast<std::uint32_t>(std::all_of(
            labels.begin(), labels.end(), [](std::uint32_t label) { return label != 0; }));
      },
      limits_.n_automaton_states, what);
}

}  // namespace nereid::grammar
