// Goal: the bytes of every token as a trie, in an order that a walk goes through from front to
// back.
// Non-goal: special tokens, which are no text: they are left out, and so never allowed.
// Rejected: a map of children in each node: the walk would jump all over memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nereid/request.h"

namespace nereid::tokenizer {
class Tokenizer;
}

namespace nereid::grammar {

// Immutable: any number of threads may use one at the same time.
class Vocabulary {
 public:
  // Nodes in preorder: the first child of node i, if any, is i + 1; the node after i's whole
  // subtree is `end`.
  struct Node {
    std::uint32_t end;
    std::uint32_t first_id;  // in ids(); its own tokens end where those of node i + 1 begin
    std::uint8_t byte;
  };

  // From a model's tokenizer; `n_tokens` is the width of the logits, 0: the tokenizer's own.
  static std::shared_ptr<const Vocabulary> of(const tokenizer::Tokenizer& tokenizer,
                                              std::size_t n_tokens = 0);
  // From the bytes of each id; an empty text is a token that is never allowed.
  explicit Vocabulary(std::vector<std::string> texts);

  std::size_t n_tokens() const { return texts_.size(); }
  std::size_t longest_bytes() const { return longest_bytes_; }
  std::string_view text(TokenId id) const {
    return id >= 0 && static_cast<std::size_t>(id) < texts_.size()
               ? std::string_view(texts_[static_cast<std::size_t>(id)])
               : std::string_view();
  }
  std::size_t n_nodes() const { return nodes_.size() - 1; }
  const Node& node(std::uint32_t i) const { return nodes_[i]; }  // 0: the root, the empty text
  // The tokens whose text ends at this node.
  std::span<const TokenId> ids_at(std::uint32_t i) const {
    return std::span(ids_).subspan(nodes_[i].first_id, nodes_[i + 1].first_id - nodes_[i].first_id);
  }
  // The bytes from the root to node i, of which there are `depth`: every node has tokens below it.
  std::string_view path_to(std::uint32_t i, std::size_t depth) const {
    return text(ids_[nodes_[i].first_id]).substr(0, depth);
  }

 private:
  std::vector<std::string> texts_;
  std::vector<Node> nodes_;  // and one more, which ends the tokens of the last
  std::vector<TokenId> ids_;
  std::size_t longest_bytes_ = 0;
};

}  // namespace nereid::grammar
