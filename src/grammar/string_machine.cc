#include "grammar/string_machine.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

namespace nereid::grammar {

namespace {

// A state is the content's state (32 bits), the place inside a character (8 bits) and what has been
// read of that character (24 bits).
enum Mode : std::uint32_t {
  kOutside = 1,  // the opening quote comes
  kClosed,
  kBetween,    // characters
  kBackslash,  // behind one
  kHex0,       // \u and so many digits
  kHex1,
  kHex2,
  kHex3,
  kLowBackslash,  // the first half of a surrogate pair; "\u" and the second must follow
  kLowU,
  kLow0,
  kLow1,
  kLow2,
  kLow3,
  kTail1,  // so many bytes of a UTF-8 character come
  kTail2Of3,
  kTail2Of4,
  kTail3,
};

// Of ASCII. These are not written as \uXXXX: a model that begins to spell "name" so has no end.
constexpr char32_t kFirstPrintable = 0x20, kLastPrintable = 0x7E;

constexpr Terminal::State pack(std::uint32_t content, std::uint32_t mode, std::uint32_t read) {
  return (std::uint64_t{content} << 32) | (std::uint64_t{mode} << 24) | read;
}
constexpr std::uint32_t content_of(Terminal::State state) {
  return static_cast<std::uint32_t>(state >> 32);
}
constexpr std::uint32_t mode_of(Terminal::State state) {
  return static_cast<std::uint32_t>(state >> 24) & 0xFF;
}
constexpr std::uint32_t read_of(Terminal::State state) {
  return static_cast<std::uint32_t>(state) & 0xFFFFFF;
}

std::optional<std::uint32_t> hex_digit(std::uint8_t byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  const std::uint8_t lower = byte | 32;
  if (lower >= 'a' && lower <= 'f') return lower - 'a' + 10;
  return std::nullopt;
}

}  // namespace

Terminal::Terminal(Kind kind, std::shared_ptr<const Automaton> content)
    : kind_(kind), content_(std::move(content)) {
  const std::uint32_t first = content_->start();
  if (first == Automaton::kDead) return;
  start_ = kind == Kind::bytes ? first : pack(first, kind == Kind::string ? kOutside : kBetween, 0);
}

Terminal Terminal::string_of_length(std::uint32_t least, std::uint32_t most) {
  Terminal out;
  out.least_ = least;
  out.most_ = most;
  if (least <= most) out.start_ = pack(0, kOutside, 0);
  return out;
}

bool Terminal::content_takes(std::uint32_t content, char32_t first, char32_t last) const {
  return content_ ? content_->goes_on(content, first, last) : content < most_;
}

// Whether one of [first, last] may be written as \uXXXX.
bool Terminal::takes_escaped(std::uint32_t content, char32_t first, char32_t last) const {
  const auto takes = [&](char32_t from, char32_t to) {
    return from <= to && content_takes(content, from, to);
  };
  const bool is_half = first >= kFirstSurrogate && last <= kLastSurrogate;
  return !is_half && (takes(first, std::min<char32_t>(last, kFirstPrintable - 1)) ||
                      takes(std::max<char32_t>(first, kLastPrintable + 1), last));
}

// Whether a backslash may come: of printable ASCII, before what has an escape of its own.
bool Terminal::goes_on_escaped(std::uint32_t content) const {
  return takes_escaped(content, 0, kLastCharacter) ||
         std::ranges::any_of(std::string_view("\"\\/"), [&](char c) {
           return content_takes(content, char32_t(c), char32_t(c));
         });
}

std::uint32_t Terminal::content_label(std::uint32_t content) const {
  return content_ ? content_->label(content) : static_cast<std::uint32_t>(content >= least_);
}

Terminal::State Terminal::take(std::uint32_t content, char32_t c) const {
  if (content_) {
    const std::uint32_t next = content_->next(content, c);
    return next == Automaton::kDead ? kDead : pack(next, kBetween, 0);
  }
  if (content >= most_) return kDead;
  // Past what a limit asks for, all counts are alike.
  const std::uint32_t count = most_ == kNoLimit ? std::min(content + 1, least_) : content + 1;
  return pack(count, kBetween, 0);
}

// The state inside a character that will be one of [first, last].
Terminal::State Terminal::within(std::uint32_t content, std::uint32_t mode, std::uint32_t read,
                                 char32_t first, char32_t last) const {
  return content_takes(content, first, last) ? pack(content, mode, read) : kDead;
}

Terminal::State Terminal::step(State state, std::uint8_t byte) const {
  const std::uint32_t content = content_of(state);
  if (kind_ == Kind::bytes) return content_->next(static_cast<std::uint32_t>(state), byte);
  const std::uint32_t mode = mode_of(state);
  switch (mode) {
    case kOutside:
      return byte == '"' ? pack(content, kBetween, 0) : kDead;
    case kClosed:
      return kDead;
    case kBetween:
      return step_between(content, byte);
    case kBackslash:
      return step_escape(content, byte);
    case kLowBackslash:
      return byte == '\\' ? pack(content, kLowU, read_of(state)) : kDead;
    case kLowU:
      return byte == 'u' ? pack(content, kLow0, read_of(state) << 12) : kDead;
    default:
      break;
  }
  if (mode <= kHex3) return step_hex(content, mode, read_of(state), byte);
  if (mode <= kLow3) return step_low_hex(content, mode, read_of(state), byte);
  return step_tail(content, mode, read_of(state), byte);
}

Terminal::State Terminal::step_between(std::uint32_t content, std::uint8_t byte) const {
  if (kind_ == Kind::string) {
    if (byte == '"') return content_label(content) != 0 ? pack(content, kClosed, 0) : kDead;
    if (byte == '\\') return goes_on_escaped(content) ? pack(content, kBackslash, 0) : kDead;
    if (byte < 0x20) return kDead;
  }
  if (byte < 0x80) return take(content, byte);
  if (byte < 0xC2 || byte > 0xF4) return kDead;
  if (byte < 0xE0) {
    const std::uint32_t read = byte & 0x1F;
    return within(content, kTail1, read, read << 6, (read << 6) | 0x3F);
  }
  if (byte < 0xF0) {
    const std::uint32_t read = byte & 0x0F;
    return within(content, kTail2Of3, read, std::max<char32_t>(read << 12, 0x800),
                  (read << 12) | 0xFFF);
  }
  const std::uint32_t read = byte & 0x07;
  return within(content, kTail3, read, std::max<char32_t>(read << 18, 0x10000),
                std::min<char32_t>((read << 18) | 0x3FFFF, kLastCharacter));
}

Terminal::State Terminal::step_tail(std::uint32_t content, std::uint32_t mode, std::uint32_t read,
                                    std::uint8_t byte) const {
  if (byte < 0x80 || byte > 0xBF) return kDead;
  const std::uint32_t now = (read << 6) | (byte & 0x3F);
  switch (mode) {
    case kTail1:
      return take(content, now);
    case kTail2Of3: {
      const char32_t first = now << 6;
      if (first < 0x800 || (first >= kFirstSurrogate && first <= kLastSurrogate)) return kDead;
      return within(content, kTail1, now, first, first | 0x3F);
    }
    case kTail2Of4:
      return within(content, kTail1, now, now << 6, (now << 6) | 0x3F);
    default: {
      const char32_t first = now << 12;
      if (first < 0x10000 || first > kLastCharacter) return kDead;
      return within(content, kTail2Of4, now, first, first | 0xFFF);
    }
  }
}

Terminal::State Terminal::step_escape(std::uint32_t content, std::uint8_t byte) const {
  switch (byte) {
    case '"':
    case '\\':
    case '/':
      return take(content, byte);
    case 'b':
      return take(content, '\b');
    case 'f':
      return take(content, '\f');
    case 'n':
      return take(content, '\n');
    case 'r':
      return take(content, '\r');
    case 't':
      return take(content, '\t');
    case 'u':
      return takes_escaped(content, 0, kLastCharacter) ? pack(content, kHex0, 0) : kDead;
    default:
      return kDead;
  }
}

Terminal::State Terminal::step_hex(std::uint32_t content, std::uint32_t mode, std::uint32_t read,
                                   std::uint8_t byte) const {
  const auto digit = hex_digit(byte);
  if (!digit) return kDead;
  const std::uint32_t now = (read << 4) | *digit;
  if (mode == kHex3) {
    if (now >= kFirstPrintable && now <= kLastPrintable) return kDead;
    if (now < kFirstSurrogate || now > kLastSurrogate) return take(content, now);
    if (now >= 0xDC00) return kDead;  // the second half without the first
    const std::uint32_t high = now - kFirstSurrogate;
    const char32_t first = 0x10000 + (high << 10);
    return within(content, kLowBackslash, high, first, first | 0x3FF);
  }
  // What the digits that come may make of it: a character of this plane, or with its other half
  // one of the others.
  const unsigned n_left = 4 * (kHex3 - mode);
  const char32_t first = now << n_left;
  const char32_t last = first | ((1U << n_left) - 1);
  if (takes_escaped(content, first, last)) return pack(content, mode + 1, now);
  const char32_t from = std::max<char32_t>(first, kFirstSurrogate);
  const char32_t to = std::min<char32_t>(last, 0xDBFF);
  if (from > to) return kDead;
  return within(content, mode + 1, now, 0x10000 + ((from - kFirstSurrogate) << 10),
                0x10000 + ((to - kFirstSurrogate) << 10) + 0x3FF);
}

Terminal::State Terminal::step_low_hex(std::uint32_t content, std::uint32_t mode,
                                       std::uint32_t read, std::uint8_t byte) const {
  const auto digit = hex_digit(byte);
  if (!digit) return kDead;
  const std::uint32_t high = read >> 12;
  const std::uint32_t now = ((read & 0xFFF) << 4) | *digit;
  const unsigned n_left = 4 * (kLow3 - mode);
  const char32_t from = std::max<char32_t>(now << n_left, 0xDC00);
  const char32_t to = std::min<char32_t>((now << n_left) | ((1U << n_left) - 1), kLastSurrogate);
  if (from > to) return kDead;
  const char32_t base = 0x10000 + (high << 10);
  if (mode == kLow3) return take(content, base + (now - 0xDC00));
  return within(content, mode + 1, (high << 12) | now, base + (from - 0xDC00),
                base + (to - 0xDC00));
}

std::uint32_t Terminal::label(State state) const {
  if (state == kDead) return 0;
  if (kind_ == Kind::bytes) return content_->label(static_cast<std::uint32_t>(state));
  if (kind_ == Kind::string && mode_of(state) != kClosed) return 0;
  if (kind_ == Kind::text && mode_of(state) != kBetween) return 0;
  return content_label(content_of(state));
}

bool Terminal::goes_on(State state) const {
  if (kind_ == Kind::bytes) return content_->goes_on(static_cast<std::uint32_t>(state));
  if (kind_ == Kind::string) return mode_of(state) != kClosed;
  return mode_of(state) != kBetween || content_->goes_on(content_of(state));
}

bool Terminal::content_goes_on(State state) const {
  return content_takes(content_of(state), 0, kLastCharacter);
}

Terminal::State Terminal::mask_key(State state, std::size_t longest) const {
  if (content_) return state;
  const auto most = static_cast<std::uint32_t>(std::min<std::size_t>(longest + 1, 0xFFFF));
  const std::uint32_t count = content_of(state);
  const std::uint32_t missing = count < least_ ? std::min(least_ - count, most) : 0;
  const std::uint32_t left = most_ == kNoLimit ? most : std::min(most_ - count, most);
  return pack((missing << 16) | left, mode_of(state), read_of(state));
}

}  // namespace nereid::grammar
