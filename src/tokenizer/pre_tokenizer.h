// Goal: the pre-tokenizers of tokenizer.json: a text becomes the words that the model encodes one
// by one.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_fwd.h"

namespace nereid::tokenizer {

// A part of the input: a text still to be encoded, or a token already found in it.
struct Piece {
  std::string_view text;
  std::int32_t id = -1;   // not negative: an added token
  bool at_start = false;  // it begins where the whole input begins
};

// Keeps the texts that pieces point into, for as long as one input is encoded.
class TextArena {
 public:
  std::string_view hold(std::string text) { return texts_.emplace_back(std::move(text)); }

 private:
  std::deque<std::string> texts_;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(std::vector<Piece>& pieces, TextArena& arena) const = 0;
};

// Null for a null `config`. An Error names `where` and a type that is not known.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Json& config,
                                                       const std::string& where);

}  // namespace nereid::tokenizer
