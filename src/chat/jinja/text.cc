#include "chat/jinja/text.h"

#include <algorithm>

namespace nereid::chat::jinja {

Text::Text(std::string bytes, bool is_input) : bytes_(std::move(bytes)) {
  if (is_input) mark(0, bytes_.size());
}

void Text::mark(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  if (!input_.empty() && input_.back().end == begin)
    input_.back().end = end;
  else
    input_.push_back({begin, end});
}

bool Text::is_input_at(std::size_t at) const {
  const auto after = std::upper_bound(
      input_.begin(), input_.end(), at,
      [](std::size_t position, const tokenizer::TextRange& range) { return position < range.end; });
  return after != input_.end() && after->begin <= at;
}

void Text::append(std::string_view bytes, bool is_input) {
  const std::size_t begin = bytes_.size();
  bytes_ += bytes;
  if (is_input) mark(begin, bytes_.size());
}

void Text::append(const Text& other, std::size_t begin, std::size_t end) {
  const std::size_t at = bytes_.size();
  bytes_.append(other.bytes_, begin, end - begin);
  auto range = std::upper_bound(
      other.input_.begin(), other.input_.end(), begin,
      [](std::size_t position, const tokenizer::TextRange& r) { return position < r.end; });
  for (; range != other.input_.end() && range->begin < end; ++range)
    mark(at + std::max(range->begin, begin) - begin, at + std::min(range->end, end) - begin);
}

Text Text::part(std::size_t begin, std::size_t end) const {
  Text out;
  out.append(*this, begin, end);
  return out;
}

}  // namespace nereid::chat::jinja
