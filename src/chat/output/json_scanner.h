// Goal: JSON that comes byte by byte: whether it can still become JSON, and where values and keys
// begin and end.
// Non-goal: values; whoever needs one collects its bytes. UTF-8 and paired surrogates, which text
// from a model has where its bytes are passed on.
// Rejected: parsing what came so far again and again, and comparing: quadratic, and the difference
// of two parses is not what the model wrote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nereid::chat {

class JsonScanner {
 public:
  enum class Byte : std::uint8_t {
    broken,  // no JSON can go on so; the scanner is of no use any more
    inside,
    value_starts,
    value_ends,  // the last byte of a string, an object or a list
    key_starts,
    key_ends,
  };

  // Nothing may follow once is_complete().
  Byte push(char byte);
  // Of the objects and lists that are open.
  std::size_t depth() const { return open_.size(); }
  // The value is an object, a list or a string, and has ended.
  bool is_complete() const { return state_ == State::after_value && open_.empty(); }

 private:
  enum class State : std::uint8_t {
    value,
    first_element,  // a value, or the end of the list
    first_key,      // a key, or the end of the object
    key,
    colon,
    after_value,
    string,
    escape,
    unicode,  // n_left_ hexadecimal digits
    literal,  // rest_ of it
    minus,
    zero,
    integer,
    point,
    fraction,
    exponent,
    exponent_sign,
    exponent_digits,
  };

  Byte push_value(char byte);
  Byte push_after_value(char byte);
  Byte push_string(char byte);
  Byte push_number(char byte);
  Byte open(char byte, State next);
  Byte close(char opener);
  Byte go(State next, Byte role = Byte::inside);

  State state_ = State::value;
  bool is_key_ = false;  // the string that is being read
  int n_left_ = 0;
  std::string_view rest_;
  std::string open_;  // '{' and '[', outermost first
};

}  // namespace nereid::chat
