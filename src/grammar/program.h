// Goal: a Constraint as what a matcher runs: terminals, and nodes that say which terminals,
// objects and arrays may stand at a place of the answer.
// Non-goal: the position of an answer (threads.h); the meaning of keywords (program_builder.cc).
// Rejected: rules of a context-free grammar. Properties in any order, none twice, would take a rule
// for each set of those that are left; here an object is a frame with a set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "grammar/limits.h"
#include "grammar/string_machine.h"
#include "nereid/constraint.h"

namespace nereid::grammar {

using NodeId = std::uint32_t;
using TerminalId = std::uint32_t;
inline constexpr std::uint32_t kNone = UINT32_MAX;
// No value of finite nesting.
inline constexpr std::uint32_t kNever = UINT32_MAX / 4;

struct Program {
  struct Node {
    std::vector<TerminalId> scalars = {};
    std::vector<std::uint32_t> objects = {};
    std::vector<std::uint32_t> arrays = {};
    std::uint32_t height = kNever;  // the nesting of its least nested value
  };

  struct Property {
    TerminalId key;
    NodeId value;
    bool is_required;
  };
  struct OtherKeys {
    std::uint32_t height;
    TerminalId key;
  };
  struct Object {
    std::vector<Property> properties = {};
    std::uint32_t n_required = 0;
    // Keys that are not among the properties, by rising height: each entry has those before it,
    // too, and no more than the keys whose values are nested so few levels. The label of the
    // terminal's end, less 1, is the index of the value's node.
    std::vector<OtherKeys> other_keys = {};
    std::vector<NodeId> other_values = {};
    std::uint64_t least = 0;
    std::uint64_t most = UINT64_MAX;
    std::uint32_t height = kNever;
  };

  struct Array {
    std::vector<NodeId> prefix = {};
    NodeId rest = kNone;  // kNone: nothing behind the prefix
    std::uint64_t least = 0;
    std::uint64_t most = UINT64_MAX;
    std::uint32_t height = kNever;
  };

  struct Call {
    TerminalId prefix;  // kNone: nothing
    NodeId arguments;
    TerminalId suffix;
  };

  std::vector<Terminal> terminals;
  std::vector<Node> nodes;
  std::vector<Object> objects;
  std::vector<Array> arrays;

  // Punctuation.
  TerminalId open_object = kNone, close_object = kNone, open_array = kNone, close_array = kNone;
  TerminalId colon = kNone, comma = kNone, blank = kNone;
  std::vector<std::uint32_t> blank_starts;  // by depth

  // What the whole answer is: one of these three.
  TerminalId text = kNone;
  NodeId value = kNone;
  std::vector<Call> calls;
  TerminalId before = kNone, between = kNone, after = kNone;
  std::uint32_t most_calls = 1;

  std::uint32_t most_depth = 0;
  std::size_t most_threads = 0;
};

Program make_program(const Constraint& constraint, const Limits& limits);

}  // namespace nereid::grammar
