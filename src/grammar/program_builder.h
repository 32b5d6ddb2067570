// Goal: schemas that hold together at one place become a node: anyOf, allOf and $ref multiplied out
// into alternatives, each a conjunction of keywords that is merged type by type.
// Non-goal: not, if, and what else is no conjunction of what a place's bytes show as they come.
// Rejected: a grammar for each subschema and their intersection at run time. A conjunction that
// cannot hold would be found when the answer has already run into it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "grammar/program.h"
#include "grammar/schema.h"

namespace nereid::grammar {

class ProgramBuilder {
 public:
  ProgramBuilder(Program& program, SchemaSet& schemas, const Limits& limits);

  // The node of values that are valid for all of `ids`; its content comes with finish().
  NodeId node_of(std::vector<SchemaId> ids);
  TerminalId literal(const std::string& text);  // kNone for an empty one
  TerminalId add_terminal(Terminal terminal);
  // Makes all nodes; an Error where a oneOf's alternatives overlap.
  void finish();

 private:
  using Ids = std::vector<SchemaId>;  // sorted, none twice

  // The keywords of one alternative, those of single values merged.
  struct Merged {
    Ids ids;
    std::uint8_t types = kAllTypes;
    std::optional<std::vector<Json>> values = {};
    NumberRange number = {};
    std::uint64_t least_characters = 0;
    std::uint64_t most_characters = UINT64_MAX;
    std::set<std::size_t> patterns = {};
    std::string where = {};
  };

  std::vector<Ids> alternatives(const Ids& ids);
  void expand(Ids closed, Ids pending, std::vector<const Schema::Choice*> choices,
              std::size_t n_chosen, std::set<Ids>& out);
  void check_one_of(SchemaId id);
  Merged merge(const Ids& alternative) const;

  void fill(NodeId id, const Ids& ids);
  void add_values(Program::Node& node, const Merged& merged);
  void add_types(Program::Node& node, const Merged& merged);
  Automaton texts_of(const Merged& merged);  // strings, as an automaton over their characters
  TerminalId string_terminal(const Merged& merged);
  TerminalId number_terminal(const Merged& merged);

  std::uint32_t object_of(const Ids& ids);
  std::uint32_t array_of(const Ids& ids);
  std::uint32_t object_of_value(const Json& value, const std::string& where);
  std::uint32_t array_of_value(const Json& value, const std::string& where);
  void add_other_keys(std::uint32_t object_id, Program::Object& object, const Ids& ids,
                      const std::vector<std::string>& names);
  void make_other_keys();  // once heights are known
  Automaton with_labels(const Automaton& from, const std::set<std::uint32_t>& kept,
                        const std::string& what) const;
  void add_property(Program::Object& object, const std::string& name, Ids value_ids,
                    bool is_required);
  bool is_name_allowed(const Ids& ids, const std::string& name) const;
  bool is_never(const Ids& ids);
  SchemaId schema_of_value(const Json& value, const std::string& where);
  std::string place_of(const Ids& ids) const;

  void find_heights();
  std::uint32_t height_of(const Program::Node& node) const;
  std::uint32_t height_of(const Program::Object& object) const;
  std::uint32_t height_of(const Program::Array& array) const;

  TerminalId terminal(const std::string& key, const std::function<Terminal()>& make);
  void count_states(std::size_t n);

  Program& program_;
  SchemaSet& schemas_;
  const Limits& limits_;
  std::map<Ids, NodeId> nodes_;
  std::vector<std::pair<NodeId, Ids>> open_;
  std::map<Ids, std::uint32_t> objects_;
  std::map<Ids, std::uint32_t> arrays_;
  // An object's keys beside its properties: each label has more of them than are ever listed.
  struct OtherKeys {
    TerminalId plain_key = kNone;  // any string, where nothing tells keys apart
    Automaton automaton = {};
    std::string names = {};  // of the properties, where only these tell keys apart
    std::string where = {};
  };
  std::map<std::uint32_t, OtherKeys> others_;  // by object
  std::map<std::string, TerminalId> terminals_;
  std::map<std::string, SchemaId> value_schemas_;
  struct OneOfPair {
    std::string where;
    std::size_t first;
    std::size_t second;
    NodeId both;
  };
  std::vector<OneOfPair> one_of_pairs_;
  std::set<SchemaId> one_of_seen_;
  std::size_t n_alternatives_ = 0;
  std::size_t n_steps_ = 0;  // of the expand() at hand
  std::size_t n_properties_ = 0;
  std::size_t n_states_ = 0;
};

}  // namespace nereid::grammar
