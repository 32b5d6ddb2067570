// Goal: text that ends before a stop string, released as early as is safe: what might be the start
// of one is held back. Special tokens are no part of the text, but stop strings may name them
// whole, alone or beside text: they are sought with the tokens in place and without.
// Non-goal: ids. Pieces may be cut anywhere: the result is the same as one byte at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::engine {

class StopFilter {
 public:
  // None of them is empty. `keeps_stop`: the text ends behind the stop string, and not before it.
  explicit StopFilter(std::vector<std::string> stops, bool keeps_stop = false);

  // Appends to `out` what can no longer belong to a stop string. True once a stop string is
  // complete: the text has ended and further pieces are ignored. Of several, the one complete first
  // wins; of those, the one that begins first.
  bool push(std::string_view piece, std::string& out);
  // A special token, by its text, which stands here but is not part of the text.
  bool push_special(std::string_view token, std::string& out);
  // The text ended for another reason: what was held back is text after all.
  void finish(std::string& out);

  bool has_stops() const { return !stops_->empty(); }
  // The stop string that ended the text; of several in one place the longest. Empty: none did.
  std::string_view found() const { return found_ == nullptr ? std::string_view() : *found_; }

 private:
  bool stops_here(std::string& out);
  void release(std::string& out);
  std::size_t n_possible_start(const std::string& tail) const;
  std::size_t n_text_bytes(std::size_t n_tail) const;

  std::shared_ptr<const std::vector<std::string>> stops_;  // copies of a filter share them
  std::string held_;                                       // text that is not released
  std::string with_all_;  // the end of the text with special tokens in it
  std::string kinds_;     // of each byte of with_all_: text or special
  bool keeps_stop_;
  const std::string* found_ = nullptr;  // of stops_
};

}  // namespace nereid::engine
