// Goal: where a launch takes an argument from, as a Spec says it (kernels/spec.py, SOURCE): an
// operand or result of the operation by its role, a size of it, an attribute, the class of steps.
// Non-goal: finding it in a graph (program/lower.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nereid::kernel {

struct ArgumentSource {
  enum class Kind : std::uint8_t {
    none,          // of a kernel that no plan launches, or chosen by tuning
    value,         // "x": its address
    dimension,     // "x[1]", "x[-1]": the last
    rows,          // "x.rows": all elements but those of the last dimension
    elements,      // "x.elements"
    stride,        // "x.stride": elements from a row to the next; 0 where x is absent
    group,         // "x.group": heads that are rows of their own, 1 where there are none
    attribute,     // "@alpha"
    is_value,      // "@rows == decode": 1 or 0
    takes,         // "@epilogue takes 2": whether the expression is one of so many values, 1 or 0
    is_nonzero,    // "@softcap != 0"
    presence,      // "has(bias)"
    class_rows,    // "step.rows": the most rows of the operation's first operand
    class_uneven,  // "step.uneven": whether a context is long for its share of a machine
    max_query,     // "step.max_query": the longest query of a step's prompts
    decodes,       // "step.decodes": sequences of a step that decode
    is_decode,     // "step.is_decode": whether the rows computed are theirs
    scratch,       // memory of one launch
    counter        // memory that is zero before and after each launch
  };
  Kind kind = Kind::none;
  std::string name;   // of the role or the attribute
  int index = 0;      // dimension, takes
  std::string value;  // is_value

  // An Error says what is no source.
  static ArgumentSource parse(std::string_view text, const std::string& where);
  bool is_of_value() const { return kind >= Kind::value && kind <= Kind::group; }
  bool is_of_attribute() const { return kind >= Kind::attribute && kind <= Kind::is_nonzero; }
  // Known of a node whatever the class of steps.
  bool is_of_node() const { return kind >= Kind::attribute && kind <= Kind::presence; }
};

}  // namespace nereid::kernel
