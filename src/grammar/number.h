// Goal: JSON numbers within bounds, or multiples of a number, as automata over bytes: exact, in
// decimal digits, without rounding.
// Non-goal: every spelling of a value. An integer is written without fraction or exponent, and a
// number with limits without exponent.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "grammar/automaton.h"
#include "grammar/limits.h"

namespace nereid::grammar {

struct Decimal {
  bool is_negative = false;  // false for zero
  std::string whole = "0";   // digits, no leading zeros
  std::string fraction;      // digits, no trailing zeros

  bool is_zero() const { return whole == "0" && fraction.empty(); }
  bool is_integer() const { return fraction.empty(); }
  // As JSON. Integers have no fraction.
  std::string text() const;
};

// Of a JSON number; an Error names `where` where it has too many digits.
Decimal decimal_of(const Json& number, const std::string& where);
int compare(const Decimal& a, const Decimal& b);  // -1, 0, 1

struct Bound {
  Decimal value;
  bool is_exclusive = false;
};

struct NumberRange {
  bool is_integer = false;
  std::vector<Bound> lower;  // all of them hold
  std::vector<Bound> upper;
  std::vector<Decimal> multiple_of;  // positive

  bool has_limits() const { return !lower.empty() || !upper.empty() || !multiple_of.empty(); }
  // Keeps the tightest bound of each side.
  void tighten();
};

bool is_within(const Decimal& value, const NumberRange& range);
Automaton automaton_of_numbers(NumberRange range, const Limits& limits, const std::string& where);

}  // namespace nereid::grammar
