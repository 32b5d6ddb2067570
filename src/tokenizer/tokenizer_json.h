// Goal: tokenizer.json in one pass: the vocabulary and the merges, which are nearly all of it, go
// straight into flat tables; the rest, a few components, becomes ordinary Json.
// Rejected: Json for all of it, which makes 400 k small objects of a 9 MB file and takes half a
// second.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/vocab.h"

namespace nereid::tokenizer {

// The merges as written, first is best; which ids they name is the model's business.
class MergeList {
 public:
  struct Merge {
    std::string_view left;
    std::string_view right;
  };
  void add(std::string_view left, std::string_view right);
  std::size_t size() const { return entries_.size(); }
  Merge operator[](std::size_t i) const;

 private:
  struct Entry {
    std::uint32_t offset;
    std::uint32_t left_bytes;
    std::uint32_t right_bytes;
  };
  std::string arena_;
  std::vector<Entry> entries_;
};

struct TokenizerJson {
  Json root;  // without model.vocab and model.merges
  Vocab vocab;
  MergeList merges;
  bool has_vocab = false;   // model.vocab is an object
  bool has_merges = false;  // model.merges is an array
};

TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& where);

}  // namespace nereid::tokenizer
