// Goal: the normalizers of tokenizer.json: what happens to a text before it is split.
#pragma once

#include <memory>
#include <string>

#include "base/json_fwd.h"

namespace nereid::tokenizer {

struct NormalText {
  std::string text;       // valid UTF-8
  bool at_start = false;  // its first character is the first of the whole input
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalText& text) const = 0;
};

// Null for a null `config`. An Error names `where` and a type that is not known.
std::unique_ptr<const Normalizer> make_normalizer(const Json& config, const std::string& where);

}  // namespace nereid::tokenizer
