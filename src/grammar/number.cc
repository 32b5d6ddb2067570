#include "grammar/number.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "base/json.h"

namespace nereid::grammar {

namespace {

constexpr std::size_t kMostDigits = 400;  // more than the largest and smallest double have
constexpr std::uint64_t kMostMultiple = 1'000'000'000;  // so that a remainder times ten fits
constexpr std::size_t kMostMultipleFraction = 18;

int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  const int whole = a.whole.compare(b.whole);
  const int order = whole != 0 ? whole : a.fraction.compare(b.fraction);
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

// A multiple of units / 10^n_places.
struct Multiple {
  std::uint64_t units = 0;
  std::size_t n_places = 0;

  static Multiple of(const Decimal& value, const std::string& where) {
    const std::string digits = value.whole + value.fraction;
    const std::size_t first = std::min(digits.find_first_not_of('0'), digits.size());
    if (value.fraction.size() > kMostMultipleFraction || digits.size() - first > 10 ||
        std::strtoull(digits.c_str(), nullptr, 10) > kMostMultiple)
      throw Error(
          "{}: multipleOf {} is not supported; expected at most {} digits after the point "
          "and at most {} of the last one's units",
          where, value.text(), kMostMultipleFraction, kMostMultiple);
    return {std::strtoull(digits.c_str(), nullptr, 10), value.fraction.size()};
  }
  std::uint64_t after(std::uint64_t remainder, unsigned digit) const {
    return (remainder * 10 + digit) % units;
  }
  bool divides(std::uint64_t remainder, std::size_t n_read) const {
    for (std::size_t i = n_read; i < n_places; ++i) remainder = after(remainder, 0);
    return remainder == 0;
  }
};

// What has been read of a number, as far as it matters for what may follow.
struct Reading {
  enum Phase : std::uint8_t {
    at_start,
    after_minus,
    after_zero,
    in_whole,
    after_point,
    in_fraction
  };
  Phase phase = at_start;
  bool is_negative = false;
  bool is_zero = true;
  std::uint32_t n_whole = 0;                   // digits, as many as matter
  std::uint32_t n_fraction = 0;                // likewise
  std::vector<std::int8_t> orders = {};        // to each bound's magnitude, by the digits so far
  std::vector<std::uint64_t> remainders = {};  // by each multiple

  auto operator<=>(const Reading&) const = default;
};

class NumberExplorer {
 public:
  NumberExplorer(const NumberRange& range, const std::string& where) : range_(range) {
    for (const Bound& bound : range.lower) bounds_.push_back({bound, 1});
    for (const Bound& bound : range.upper) bounds_.push_back({bound, -1});
    for (const Decimal& value : range.multiple_of) multiples_.push_back(Multiple::of(value, where));
    for (const Side& side : bounds_) {
      most_whole_ = std::max(most_whole_, side.bound.value.whole.size() + 1);
      most_fraction_ = std::max(most_fraction_, side.bound.value.fraction.size());
    }
    for (const Multiple& multiple : multiples_)
      most_fraction_ = std::max(most_fraction_, multiple.n_places);
  }

  Reading begin() const {
    Reading out;
    out.orders.assign(bounds_.size(), 0);
    out.remainders.assign(multiples_.size(), 0);
    return out;
  }

  std::optional<Reading> after(const Reading& reading, char byte) const {
    Reading next = reading;
    if (byte == '-') {
      if (reading.phase != Reading::at_start) return std::nullopt;
      next.phase = Reading::after_minus;
      next.is_negative = true;
      return next;
    }
    if (byte == '.') {
      if (range_.is_integer ||
          (reading.phase != Reading::after_zero && reading.phase != Reading::in_whole))
        return std::nullopt;
      end_whole(next);
      next.phase = Reading::after_point;
      return next;
    }
    const auto digit = static_cast<unsigned>(byte - '0');
    if (digit != 0) next.is_zero = false;
    if (reading.phase == Reading::after_zero) return std::nullopt;
    if (reading.phase == Reading::after_point || reading.phase == Reading::in_fraction)
      return take_fraction(next, digit) ? std::optional(next) : std::nullopt;
    next.phase =
        reading.phase != Reading::in_whole && digit == 0 ? Reading::after_zero : Reading::in_whole;
    for (std::size_t i = 0; i < bounds_.size(); ++i) {
      const std::string& whole = bounds_[i].bound.value.whole;
      if (next.orders[i] == 0 && reading.n_whole < whole.size())
        next.orders[i] = order_of(byte, whole[reading.n_whole]);
    }
    next.n_whole =
        static_cast<std::uint32_t>(std::min<std::size_t>(reading.n_whole + 1, most_whole_));
    take_remainders(next, digit);
    return next;
  }

  bool accepts(Reading reading) const {
    if (reading.phase == Reading::after_zero || reading.phase == Reading::in_whole)
      end_whole(reading);
    else if (reading.phase != Reading::in_fraction)
      return false;
    for (std::size_t i = 0; i < bounds_.size(); ++i) {
      const int order = order_to_bound(reading, i) * bounds_[i].sign;
      if (order < 0 || (order == 0 && bounds_[i].bound.is_exclusive)) return false;
    }
    for (std::size_t i = 0; i < multiples_.size(); ++i)
      if (!multiples_[i].divides(reading.remainders[i], reading.n_fraction)) return false;
    return true;
  }

 private:
  struct Side {
    Bound bound;
    int sign;  // 1: numbers are above it, -1: below
  };

  static std::int8_t order_of(char a, char b) { return a < b ? -1 : a > b ? 1 : 0; }

  // The number of digits before the point decides first.
  void end_whole(Reading& reading) const {
    for (std::size_t i = 0; i < bounds_.size(); ++i) {
      const std::size_t size = bounds_[i].bound.value.whole.size();
      if (reading.n_whole != size) reading.orders[i] = reading.n_whole < size ? -1 : 1;
    }
    reading.n_whole = 0;
  }

  bool take_fraction(Reading& reading, unsigned digit) const {
    const std::size_t at = reading.n_fraction;
    for (std::size_t i = 0; i < bounds_.size(); ++i) {
      const std::string& fraction = bounds_[i].bound.value.fraction;
      if (reading.orders[i] == 0)
        reading.orders[i] =
            order_of(static_cast<char>('0' + digit), at < fraction.size() ? fraction[at] : '0');
    }
    for (std::size_t i = 0; i < multiples_.size(); ++i) {
      if (at < multiples_[i].n_places)
        reading.remainders[i] = multiples_[i].after(reading.remainders[i], digit);
      else if (digit != 0)
        return false;
    }
    reading.n_fraction = static_cast<std::uint32_t>(std::min(at + 1, most_fraction_));
    reading.phase = Reading::in_fraction;
    return true;
  }

  void take_remainders(Reading& reading, unsigned digit) const {
    for (std::size_t i = 0; i < multiples_.size(); ++i)
      reading.remainders[i] = multiples_[i].after(reading.remainders[i], digit);
  }

  // Of the whole number that was read to the bound i.
  int order_to_bound(const Reading& reading, std::size_t i) const {
    const Decimal& value = bounds_[i].bound.value;
    int order = reading.orders[i];
    if (order == 0 && reading.n_fraction < value.fraction.size()) order = -1;
    if (reading.is_zero) return value.is_zero() ? 0 : value.is_negative ? 1 : -1;
    if (reading.is_negative != value.is_negative) return reading.is_negative ? -1 : 1;
    return reading.is_negative ? -order : order;
  }

  const NumberRange& range_;
  std::vector<Side> bounds_;
  std::vector<Multiple> multiples_;
  std::size_t most_whole_ = 1;
  std::size_t most_fraction_ = 0;
};

// With an exponent of at most two digits, so that the value is a double's.
Automaton automaton_of_any_number() {
  AutomatonBuilder builder(16, "a number");
  const auto start = builder.add_state();
  const auto minus = builder.add_state();
  const auto zero = builder.add_state(1);
  const auto whole = builder.add_state(1);
  const auto point = builder.add_state();
  const auto fraction = builder.add_state(1);
  const auto e = builder.add_state();
  const auto sign = builder.add_state();
  const auto one = builder.add_state(1);
  const auto two = builder.add_state(1);
  builder.add_edge(start, '-', '-', minus);
  for (const auto state : {start, minus}) {
    builder.add_edge(state, '0', '0', zero);
    builder.add_edge(state, '1', '9', whole);
  }
  for (const auto state : {zero, whole}) builder.add_edge(state, '.', '.', point);
  builder.add_edge(whole, '0', '9', whole);
  for (const auto state : {point, fraction}) builder.add_edge(state, '0', '9', fraction);
  for (const auto state : {zero, whole, fraction}) {
    builder.add_edge(state, 'E', 'E', e);
    builder.add_edge(state, 'e', 'e', e);
  }
  for (const char byte : {'+', '-'})
    builder.add_edge(e, static_cast<char32_t>(byte), static_cast<char32_t>(byte), sign);
  for (const auto state : {e, sign}) builder.add_edge(state, '0', '9', one);
  builder.add_edge(one, '0', '9', two);
  return builder.build(start);
}

}  // namespace

std::string Decimal::text() const {
  return (is_negative ? "-" : "") + whole + (fraction.empty() ? "" : "." + fraction);
}

Decimal decimal_of(const Json& number, const std::string& where) {
  const std::string text = number.dump();
  Decimal out;
  std::size_t at = text.starts_with('-') ? 1 : 0;
  std::string digits;
  long point = -1;
  for (; at < text.size() && text[at] != 'e' && text[at] != 'E'; ++at) {
    if (text[at] == '.')
      point = static_cast<long>(digits.size());
    else
      digits += text[at];
  }
  if (point < 0) point = static_cast<long>(digits.size());
  if (at < text.size()) point += std::strtol(text.c_str() + at + 1, nullptr, 10);
  constexpr long kMost = static_cast<long>(kMostDigits);
  if (point > kMost || point < -kMost || digits.size() > kMostDigits)
    throw Error("{}: {} has too many digits; expected at most {}", where, text, kMostDigits);
  if (point <= 0) {
    digits.insert(0, static_cast<std::size_t>(1 - point), '0');
    point = 1;
  }
  if (static_cast<std::size_t>(point) > digits.size())
    digits.append(static_cast<std::size_t>(point) - digits.size(), '0');
  out.whole = digits.substr(0, static_cast<std::size_t>(point));
  out.fraction = digits.substr(static_cast<std::size_t>(point));
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size() - 1));
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  out.is_negative = text.starts_with('-') && !out.is_zero();
  return out;
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.is_negative != b.is_negative) return a.is_negative ? -1 : 1;
  const int order = compare_magnitudes(a, b);
  return a.is_negative ? -order : order;
}

void NumberRange::tighten() {
  const auto keep = [](std::vector<Bound>& bounds, int sign) {
    if (bounds.empty()) return;
    Bound best = bounds[0];
    for (const Bound& bound : bounds) {
      const int order = compare(bound.value, best.value) * sign;
      if (order > 0 || (order == 0 && bound.is_exclusive)) best = bound;
    }
    bounds = {best};
  };
  keep(lower, 1);
  keep(upper, -1);
}

bool is_within(const Decimal& value, const NumberRange& range) {
  if (range.is_integer && !value.is_integer()) return false;
  for (const Bound& bound : range.lower) {
    const int order = compare(value, bound.value);
    if (order < 0 || (order == 0 && bound.is_exclusive)) return false;
  }
  for (const Bound& bound : range.upper) {
    const int order = compare(value, bound.value);
    if (order > 0 || (order == 0 && bound.is_exclusive)) return false;
  }
  for (const Decimal& step : range.multiple_of) {
    const Multiple multiple = Multiple::of(step, "multipleOf");
    std::uint64_t remainder = 0;
    for (const char digit : value.whole)
      remainder = multiple.after(remainder, static_cast<unsigned>(digit - '0'));
    if (value.fraction.size() > multiple.n_places) return false;
    for (const char digit : value.fraction)
      remainder = multiple.after(remainder, static_cast<unsigned>(digit - '0'));
    if (!multiple.divides(remainder, value.fraction.size())) return false;
  }
  return true;
}

Automaton automaton_of_numbers(NumberRange range, const Limits& limits, const std::string& where) {
  if (!range.has_limits() && !range.is_integer) return automaton_of_any_number();
  range.tighten();
  const NumberExplorer explorer(range, where);
  AutomatonBuilder builder(limits.n_automaton_states, where + ": the limits of the number");
  std::map<Reading, std::uint32_t> known;
  std::vector<Reading> open;
  const auto state_of = [&](const Reading& reading) {
    const auto [found, is_new] = known.try_emplace(reading, 0);
    if (is_new) {
      found->second = builder.add_state(explorer.accepts(reading) ? 1 : 0);
      open.push_back(reading);
    }
    return found->second;
  };
  const std::uint32_t start = state_of(explorer.begin());
  constexpr std::string_view kBytes = "-.0123456789";  // in order
  while (!open.empty()) {
    const Reading reading = open.back();
    open.pop_back();
    const std::uint32_t from = known.at(reading);
    for (const char byte : kBytes) {
      const auto code = static_cast<char32_t>(byte);
      if (const auto next = explorer.after(reading, byte))
        builder.add_edge(from, code, code, state_of(*next));
    }
  }
  return builder.build(start);
}

}  // namespace nereid::grammar
