// Goal: which tokens each state of a terminal allows, found once by a walk through the vocabulary's
// trie and kept: what the token's bytes are inside the terminal does not depend on what is around.
// Non-goal: what follows a terminal within a token: those places (exits) are walked each time.
// Rejected: masks kept by the whole position of an answer. Positions repeat only inside strings,
// and then the terminal's state repeats too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/threads.h"
#include "grammar/vocabulary.h"

namespace nereid::grammar {

struct TerminalMask {
  // One of the two: few tokens as a list, many as bits.
  std::vector<TokenId> ids = {};
  std::vector<std::uint32_t> words = {};
  // Nodes of the trie with which the terminal may end and something else go on, or must.
  struct Exit {
    std::uint32_t node;
    std::uint32_t depth;
    Terminal::State state;
  };
  std::vector<Exit> exits = {};

  std::size_t size_bytes() const {
    return 128 + ids.size() * sizeof(TokenId) + words.size() * 4 + exits.size() * sizeof(Exit);
  }
};

// Thread-safe.
class MaskCache {
 public:
  MaskCache(std::shared_ptr<const Vocabulary> vocabulary, std::size_t most_bytes)
      : vocabulary_(std::move(vocabulary)), most_bytes_(most_bytes) {}

  // `is_last`: nothing follows the terminal, so exits that it also goes on from say nothing.
  std::shared_ptr<const TerminalMask> get(const Program& program, TerminalId terminal,
                                          Terminal::State state, bool is_last) const;
  const Vocabulary& vocabulary() const { return *vocabulary_; }

 private:
  struct Key {
    TerminalId terminal;
    Terminal::State state;
    bool is_last;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return (key.state ^ (std::uint64_t{key.terminal} << 40)) * 0x9E3779B97F4A7C15ULL >> 16;
    }
  };

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::size_t most_bytes_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<Key, std::shared_ptr<const TerminalMask>, Hash> masks_;
  mutable std::size_t n_bytes_ = 0;
};

// Sets the bits of the tokens that may follow `text`, which `threads` have read. `text` is put back
// as it was.
void add_allowed_tokens(const Program& program, const MaskCache& cache, const Threads& threads,
                        std::string& text, std::span<std::uint32_t> words);

}  // namespace nereid::grammar
