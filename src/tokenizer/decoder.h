// Goal: the decoders of tokenizer.json as a chain of stages that works token by token: decoding a
// whole answer and streaming it run the same code, so their texts cannot differ.
// Rejected: decoding a window of the last tokens again at each step (what Hugging Face's
// DecodeStream does): it guesses where the window may begin, and guesses wrong for runs of bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"

namespace nereid::tokenizer {

// More than nearly any token's text has. What holds one reserves it, so that a stream allocates
// nothing on its way.
inline constexpr std::size_t kTokenTextBytes = 256;

// Takes tokens in parts. All text is valid UTF-8, cut only between characters.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void text(std::string_view part) = 0;  // more of the current token
  virtual void end_token() = 0;
  virtual void finish() = 0;  // there are no more tokens
};

// What one decoder remembers of one stream; it passes its output on to the next stage.
class Stage : public TokenSink {
 public:
  explicit Stage(TokenSink& next) : next_(&next) {}
  // Takes the state of another stage of the same decoder, and keeps its own `next`: to see what
  // would come if the stream ended here.
  virtual void assign(const Stage& other) = 0;

 protected:
  TokenSink* next_;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::unique_ptr<Stage> start(TokenSink& next) const = 0;
  // `token`, written as the decoder before leaves it, becomes the bytes that it adds in the middle
  // of a text: not always whole characters.
  virtual void apply_to_bytes(std::string& token) const = 0;
};

// The decoders in order: for a null `config` one that joins by spaces. An Error names `where` and a
// type that is not known.
std::vector<std::unique_ptr<const Decoder>> make_decoders(const Json& config,
                                                          const std::string& where);

}  // namespace nereid::tokenizer
