// Goal: one terminal of the grammar, read byte by byte: bytes; a text in UTF-8; or a JSON string,
// whose content (escapes and UTF-8 undone) an automaton or a length limits.
// Non-goal: what follows a terminal (matcher.h).
// Rejected: one automaton over bytes for a string's every spelling. A length of 1000 times the
// states of UTF-8 and of escapes is a hundred thousand states; here they are numbers in one word.
#pragma once

#include <cstdint>
#include <memory>

#include "grammar/automaton.h"

namespace nereid::grammar {

class Terminal {
 public:
  using State = std::uint64_t;
  static constexpr State kDead = 0;
  static constexpr std::uint32_t kNoLimit = UINT32_MAX;
  enum class Kind : std::uint8_t { bytes, text, string };

  Terminal(Kind kind, std::shared_ptr<const Automaton> content);
  // A JSON string of so many characters.
  static Terminal string_of_length(std::uint32_t least, std::uint32_t most);

  State start() const { return start_; }
  // kDead where no end could be reached any more.
  State step(State state, std::uint8_t byte) const;
  std::uint32_t label(State state) const;   // 0: it does not end here
  bool goes_on(State state) const;          // whether any byte may follow
  bool content_goes_on(State state) const;  // of a closed string: whether it could have been longer

  // States with the same key allow the same tokens of at most `longest` bytes.
  State mask_key(State state, std::size_t longest) const;

  bool is_empty() const { return start_ == kDead; }
  std::size_t n_states() const { return content_ ? content_->n_states() : 1; }

 private:
  Terminal() = default;

  State take(std::uint32_t content, char32_t c) const;
  State within(std::uint32_t content, std::uint32_t mode, std::uint32_t read, char32_t first,
               char32_t last) const;
  State step_between(std::uint32_t content, std::uint8_t byte) const;
  State step_escape(std::uint32_t content, std::uint8_t byte) const;
  State step_hex(std::uint32_t content, std::uint32_t mode, std::uint32_t read,
                 std::uint8_t byte) const;
  State step_low_hex(std::uint32_t content, std::uint32_t mode, std::uint32_t read,
                     std::uint8_t byte) const;
  State step_tail(std::uint32_t content, std::uint32_t mode, std::uint32_t read,
                  std::uint8_t byte) const;
  bool content_takes(std::uint32_t content, char32_t first, char32_t last) const;
  bool takes_escaped(std::uint32_t content, char32_t first, char32_t last) const;
  bool goes_on_escaped(std::uint32_t content) const;
  std::uint32_t content_label(std::uint32_t content) const;

  Kind kind_ = Kind::string;
  std::shared_ptr<const Automaton> content_;  // null: by length
  std::uint32_t least_ = 0;
  std::uint32_t most_ = kNoLimit;
  State start_ = kDead;
};

}  // namespace nereid::grammar
