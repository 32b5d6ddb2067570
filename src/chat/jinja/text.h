// Goal: a string that knows which of its bytes came from the caller's input, through all that a
// template does with it.
// Non-goal: which input they came from; numbers, whose digits spell no token.
// Rejected: a flag for a whole string, because templates join theirs with the caller's and trim or
// replace in the result.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace nereid::chat::jinja {

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes) : bytes_(std::move(bytes)) {}
  Text(std::string bytes, bool is_input);

  std::string_view view() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  const std::vector<tokenizer::TextRange>& input() const { return input_; }
  bool has_input() const { return !input_.empty(); }
  bool is_input_at(std::size_t at) const;

  void append(std::string_view bytes, bool is_input = false);
  void append(const Text& other) { append(other, 0, other.size()); }
  void append(const Text& other, std::size_t begin, std::size_t end);
  Text part(std::size_t begin, std::size_t end) const;

  // A text of the same size in code points or not, made character by character: `change(out, code)`
  // appends to a std::string what replaces `code`, and has its origin.
  template <typename Change>
  Text map_characters(Change change) const;

 private:
  void mark(std::size_t begin, std::size_t end);

  std::string bytes_;
  std::vector<tokenizer::TextRange> input_;  // ascending, not empty, not touching
};

// Calls visit(bytes, is_input) for the longest parts of `text` of one origin.
template <typename Visit>
void for_each_origin(const Text& text, Visit visit);

}  // namespace nereid::chat::jinja

#include "tokenizer/utf8.h"

namespace nereid::chat::jinja {

template <typename Visit>
void for_each_origin(const Text& text, Visit visit) {
  std::size_t done = 0;
  for (const auto& range : text.input()) {
    if (done < range.begin) visit(text.view().substr(done, range.begin - done), false);
    visit(text.view().substr(range.begin, range.end - range.begin), true);
    done = range.end;
  }
  if (done < text.size()) visit(text.view().substr(done), false);
}

template <typename Change>
Text Text::map_characters(Change change) const {
  Text out;
  std::string made;
  for_each_origin(*this, [&](std::string_view part, bool is_input) {
    made.clear();
    for (std::size_t at = 0; at < part.size();) {
      const tokenizer::Utf8Char character = tokenizer::utf8_at(part, at);
      change(made, character.code);
      at += character.size_bytes;
    }
    out.append(made, is_input);
  });
  return out;
}

}  // namespace nereid::chat::jinja
