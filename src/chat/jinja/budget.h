// Goal: the bounds of one rendering: a template is a program, and programs may not end.
// Non-goal: wall-clock time; a rendering within these bounds takes well under a second.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"

namespace nereid::chat::jinja {

struct Limits {
  std::size_t source_bytes = 1 << 20;
  std::uint64_t steps = 4'000'000;     // expressions, statements, elements of lists made
  std::size_t text_bytes = 16 << 20;   // of one string, the output among them
  std::size_t made_bytes = 256 << 20;  // of all strings made on the way
  int depth = 100;                     // of nesting: blocks, brackets, macro calls, values
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  const Limits& limits() const { return limits_; }

  void spend(std::uint64_t n_steps = 1) {
    if (n_steps > limits_.steps - n_steps_)
      throw Error("the chat template took more than {} steps; expected one that ends sooner",
                  limits_.steps);
    n_steps_ += n_steps;
  }
  // Before a string of `n_bytes` is made.
  void spend_text(std::size_t n_bytes) {
    if (n_bytes > limits_.text_bytes)
      throw Error("the chat template makes a text of {} bytes; expected {} at most", n_bytes,
                  limits_.text_bytes);
    if (n_bytes > limits_.made_bytes - n_made_bytes_)
      throw Error("the chat template makes more than {} bytes of text on the way to its output",
                  limits_.made_bytes);
    n_made_bytes_ += n_bytes;
  }

 private:
  Limits limits_;
  std::uint64_t n_steps_ = 0;
  std::size_t n_made_bytes_ = 0;
};

// One more level of nesting, for as long as it lives.
class Nesting {
 public:
  Nesting(int& depth, int most, const char* what) : depth_(depth) {
    if (depth >= most) throw Error("the chat template nests {} deeper than {} levels", what, most);
    ++depth_;
  }
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

}  // namespace nereid::chat::jinja
