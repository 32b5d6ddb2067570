#include "chat/output/json_scanner.h"

#include "chat/output/white_space.h"

namespace nereid::chat {

namespace {

// Deeper than any call's arguments; a model that only writes brackets is not followed for ever.
constexpr std::size_t kMaxDepth = 256;

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

bool is_hex(char byte) {
  return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

}  // namespace

JsonScanner::Byte JsonScanner::go(State next, Byte role) {
  state_ = next;
  return role;
}

JsonScanner::Byte JsonScanner::open(char byte, State next) {
  if (open_.size() == kMaxDepth) return Byte::broken;
  open_ += byte;
  return go(next, Byte::value_starts);
}

JsonScanner::Byte JsonScanner::close(char opener) {
  if (open_.empty() || open_.back() != opener) return Byte::broken;
  open_.pop_back();
  return go(State::after_value, Byte::value_ends);
}

JsonScanner::Byte JsonScanner::push(char byte) {
  switch (state_) {
    case State::string:
    case State::escape:
    case State::unicode:
      return push_string(byte);
    case State::literal:
      if (byte != rest_.front()) return Byte::broken;
      rest_.remove_prefix(1);
      return go(rest_.empty() ? State::after_value : State::literal);
    case State::minus:
    case State::zero:
    case State::integer:
    case State::point:
    case State::fraction:
    case State::exponent:
    case State::exponent_sign:
    case State::exponent_digits:
      return push_number(byte);
    default:
      break;
  }
  if (is_space(byte)) return Byte::inside;
  switch (state_) {
    case State::first_element:
      return byte == ']' ? close('[') : push_value(byte);
    case State::first_key:
      if (byte == '}') return close('{');
      [[fallthrough]];
    case State::key:
      is_key_ = true;
      return byte == '"' ? go(State::string, Byte::key_starts) : Byte::broken;
    case State::colon:
      return byte == ':' ? go(State::value) : Byte::broken;
    case State::after_value:
      return push_after_value(byte);
    default:
      return push_value(byte);
  }
}

JsonScanner::Byte JsonScanner::push_value(char byte) {
  const auto literal = [&](std::string_view rest) {
    rest_ = rest;
    return go(State::literal, Byte::value_starts);
  };
  switch (byte) {
    case '{':
      return open(byte, State::first_key);
    case '[':
      return open(byte, State::first_element);
    case '"':
      is_key_ = false;
      return go(State::string, Byte::value_starts);
    case 't':
      return literal("rue");
    case 'f':
      return literal("alse");
    case 'n':
      return literal("ull");
    case '-':
      return go(State::minus, Byte::value_starts);
    case '0':
      return go(State::zero, Byte::value_starts);
    default:
      return is_digit(byte) ? go(State::integer, Byte::value_starts) : Byte::broken;
  }
}

JsonScanner::Byte JsonScanner::push_after_value(char byte) {
  if (open_.empty()) return Byte::broken;
  if (byte == ',') return go(open_.back() == '{' ? State::key : State::value);
  if (byte == '}') return close('{');
  if (byte == ']') return close('[');
  return Byte::broken;
}

JsonScanner::Byte JsonScanner::push_string(char byte) {
  constexpr unsigned char kFirstPrintable = 0x20;
  constexpr std::string_view kEscapes = "\"\\/bfnrt";
  constexpr int kUnicodeDigits = 4;
  if (state_ == State::unicode) {
    if (!is_hex(byte)) return Byte::broken;
    return go(--n_left_ == 0 ? State::string : State::unicode);
  }
  if (state_ == State::escape) {
    n_left_ = kUnicodeDigits;
    if (byte == 'u') return go(State::unicode);
    return kEscapes.find(byte) != std::string_view::npos ? go(State::string) : Byte::broken;
  }
  if (byte == '\\') return go(State::escape);
  if (byte == '"')
    return is_key_ ? go(State::colon, Byte::key_ends) : go(State::after_value, Byte::value_ends);
  return static_cast<unsigned char>(byte) < kFirstPrintable ? Byte::broken : Byte::inside;
}

JsonScanner::Byte JsonScanner::push_number(char byte) {
  const bool digit = is_digit(byte);
  const bool is_exponent = byte == 'e' || byte == 'E';
  switch (state_) {
    case State::minus:
      if (!digit) return Byte::broken;
      return go(byte == '0' ? State::zero : State::integer);
    case State::point:
      return digit ? go(State::fraction) : Byte::broken;
    case State::exponent:
      if (byte == '+' || byte == '-') return go(State::exponent_sign);
      [[fallthrough]];
    case State::exponent_sign:
      return digit ? go(State::exponent_digits) : Byte::broken;
    case State::zero:
    case State::integer:
      if (digit && state_ == State::integer) return Byte::inside;
      if (byte == '.') return go(State::point);
      if (is_exponent) return go(State::exponent);
      break;
    case State::fraction:
      if (digit) return Byte::inside;
      if (is_exponent) return go(State::exponent);
      break;
    default:
      if (digit) return Byte::inside;
      break;
  }
  // The number ended before this byte.
  state_ = State::after_value;
  return is_space(byte) ? Byte::inside : push_after_value(byte);
}

}  // namespace nereid::chat
