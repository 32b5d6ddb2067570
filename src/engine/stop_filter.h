// Goal: text that ends before a stop string, released as early as is safe: what might be the start
// of one is held back.
// Non-goal: tokens. Pieces may be cut anywhere: the result is the same as one byte at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nereid::engine {

class StopFilter {
 public:
  // An Error says that a stop string is empty.
  explicit StopFilter(std::vector<std::string> stops);

  // Appends to `out` what can no longer belong to a stop string. True once a stop string is
  // complete: the text has ended and further pieces are ignored. Of several, the one complete first
  // wins; of those, the longest.
  bool push(std::string_view piece, std::string& out);
  // The text ended for another reason: what was held back is text after all.
  void finish(std::string& out);

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool is_stopped_ = false;
};

}  // namespace nereid::engine
