// Goal: byte-pair encoding of one word in O(n log n), whatever its length: symbols in a linked
// list, candidate merges in a heap ordered by (rank, position). The same ids as Hugging Face's,
// oddities included.
// Non-goal: splitting text into words (pre_tokenizer.h); dropout, which is for training.
// Rejected: a second, quadratic path for short words; a cache of words in front (tokenizer.cc)
// gains more.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/vocab.h"

namespace nereid::tokenizer {

// (left id, right id) -> rank of the merge and the id it makes.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank;
    std::int32_t id;
  };

  void reserve(std::size_t n_merges);
  void insert(std::int32_t left, std::int32_t right, Merge merge);  // a later one replaces
  const Merge* find(std::int32_t left, std::int32_t right) const;

 private:
  struct Slot {
    std::uint64_t pair = kEmpty;
    Merge merge{};
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // ids are not negative
  std::size_t slot_of(std::uint64_t pair) const;

  std::vector<Slot> slots_;
};

class Bpe {
 public:
  // Working memory of encode_word, kept from word to word.
  struct Scratch {
    struct Symbol {
      std::int32_t id;  // negative: merged into the one before
      std::uint32_t previous;
      std::uint32_t next;
    };
    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> queue;  // rank << 32 | position, smallest first
    std::string text;
  };

  // `model` is the "model" object of tokenizer.json, `merges` what it holds; `vocab` must outlive
  // this.
  Bpe(const Json& model, const MergeList& merges, const Vocab& vocab, const std::string& where);

  // Appends the ids of `word` (valid UTF-8). Returns the number of merges taken from the queue: its
  // work.
  std::size_t encode_word(std::string_view word, Scratch& scratch,
                          std::vector<std::int32_t>& ids) const;

 private:
  void split_characters(std::string_view word, Scratch& scratch) const;
  std::optional<std::int32_t> find_character(std::string_view character) const;
  std::size_t merge_symbols(Scratch& scratch) const;

  const Vocab& vocab_;
  MergeTable merges_;
  std::vector<std::int32_t> id_of_rank_;
  std::array<std::int32_t, 0x200>
      id_of_code_{};  // one-character tokens; the byte-level alphabet lies here
  std::array<std::int32_t, 256> id_of_byte_{};  // "<0x00>" to "<0xFF>", negative where absent
  std::optional<std::int32_t> unknown_id_;
  std::string continuing_prefix_;
  std::string word_suffix_;
  bool ignore_merges_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
};

}  // namespace nereid::tokenizer
