// Goal: tokens that are found in the text itself, before any splitting: "<|eot_id|>" and the like.
// Non-goal: tokens of the model's own vocabulary that the merges make.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json_fwd.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/text_range.h"
#include "tokenizer/vocab.h"

namespace nereid::tokenizer {

struct AddedToken {
  std::string content;
  std::int32_t id = -1;
  bool special = false;      // left out of decoded text
  bool normalized = false;   // sought in the normalized text, in its own normalized form
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // only where no word character touches it
};

class AddedTokens {
 public:
  // `config` is "added_tokens" of tokenizer.json; `vocab` the model's, `normalizer` may be null.
  AddedTokens(const Json& config, const Vocab& vocab, const Normalizer* normalizer,
              const std::string& where);

  // Appends `piece` (a text) cut at the tokens sought before, and after, normalization. A token is
  // not found where it has a byte of `barred`, ascending ranges of the piece's text.
  void split_raw(const Piece& piece, std::span<const TextRange> barred,
                 std::vector<Piece>& out) const {
    raw_.split(piece, barred, out);
  }
  void split_normalized(const Piece& piece, std::span<const TextRange> barred,
                        std::vector<Piece>& out) const {
    normalized_.split(piece, barred, out);
  }
  bool seeks_normalized() const { return !normalized_.empty(); }

  const AddedToken* by_id(std::int32_t id) const;
  std::optional<std::int32_t> find(std::string_view content) const;
  std::int32_t id_bound() const { return id_bound_; }  // one past the largest id

 private:
  // Finds the leftmost token, and of those that begin there the longest, by walking down sorted
  // patterns.
  class Finder {
   public:
    void add(std::string pattern, const AddedToken& token);
    void build();
    void split(const Piece& piece, std::span<const TextRange> barred,
               std::vector<Piece>& out) const;
    bool empty() const { return patterns_.empty(); }

   private:
    struct Pattern {
      std::string text;
      std::int32_t id;
      bool lstrip;
      bool rstrip;
      bool single_word;
    };
    const Pattern* longest_at(std::string_view text, std::size_t at) const;

    std::vector<Pattern> patterns_;  // sorted by text
    std::vector<std::uint32_t> first_ =
        std::vector<std::uint32_t>(257);  // by first byte: where its patterns begin
  };

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, std::size_t> index_of_id_;
  std::unordered_map<std::string, std::int32_t> id_of_content_;
  Finder raw_;
  Finder normalized_;
  std::int32_t id_bound_ = 0;
};

}  // namespace nereid::tokenizer
