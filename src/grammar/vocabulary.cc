#include "grammar/vocabulary.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace nereid::grammar {

std::shared_ptr<const Vocabulary> Vocabulary::of(const tokenizer::Tokenizer& tokenizer,
                                                 std::size_t n_tokens) {
  const auto n_known = static_cast<std::size_t>(tokenizer.vocab_size());
  std::vector<std::string> texts(n_tokens == 0 ? n_known : n_tokens);
  for (std::size_t i = 0; i < std::min(n_known, texts.size()); ++i)
    texts[i] = tokenizer.token_bytes(static_cast<std::int32_t>(i));
  return std::make_shared<const Vocabulary>(std::move(texts));
}

Vocabulary::Vocabulary(std::vector<std::string> texts) : texts_(std::move(texts)) {
  std::size_t n_bytes = 0;
  for (const std::string& text : texts_) {
    n_bytes += text.size();
    longest_bytes_ = std::max(longest_bytes_, text.size());
  }
  if (n_bytes >= UINT32_MAX - 2)
    throw Error("the tokens have {} bytes together; expected less than 4 GiB", n_bytes);

  std::vector<TokenId> sorted;
  for (std::size_t i = 0; i < texts_.size(); ++i)
    if (!texts_[i].empty()) sorted.push_back(static_cast<TokenId>(i));
  std::sort(sorted.begin(), sorted.end(), [&](TokenId a, TokenId b) {
    const int order = text(a).compare(text(b));
    return order != 0 ? order < 0 : a < b;
  });

  nodes_.push_back({0, 0, 0});
  std::vector<std::uint32_t> path = {0};  // from the root to the last node
  const auto close = [&](std::size_t depth) {
    while (path.size() > depth) {
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
      path.pop_back();
    }
  };
  std::string_view last;
  for (const TokenId id : sorted) {
    const std::string_view now = text(id);
    const auto shared = static_cast<std::size_t>(
        std::mismatch(last.begin(), last.end(), now.begin(), now.end()).first - last.begin());
    close(shared + 1);
    for (const char byte : now.substr(shared)) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back(
          {0, static_cast<std::uint32_t>(ids_.size()), static_cast<std::uint8_t>(byte)});
    }
    ids_.push_back(id);
    last = now;
  }
  close(0);
  nodes_.push_back(
      {static_cast<std::uint32_t>(nodes_.size()), static_cast<std::uint32_t>(ids_.size()), 0});
}

}  // namespace nereid::grammar
