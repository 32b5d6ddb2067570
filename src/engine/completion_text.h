// Goal: the text of one completion while its tokens come: what prompt and tokens decode to, less
// what the prompt decodes to, up to the first stop string.
// Non-goal: which tokens come, and when they end for another reason (Generator).
// Rejected: decoding the tokens by themselves: their first loses the space that a text begins
// without, and characters that the prompt began are broken.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/stop_filter.h"
#include "nereid/request.h"
#include "tokenizer/tokenizer.h"

namespace nereid::engine {

class CompletionText {
 public:
  // `tokenizer` must outlive this. `request.prompt_ids` is the prompt.
  CompletionText(const tokenizer::Tokenizer& tokenizer, const Request& request);

  // Appends the text that this token settles to `out`. True where a stop string is complete: the
  // text has ended.
  bool push(std::int32_t id, std::string& out);
  // A token that ends the text and is no part of it, though a stop string may name it.
  bool push_end_token(std::int32_t id, std::string& out);
  // There are no more tokens. True where the rest held a stop string.
  bool finish(std::string& out);
  // The stop string that ended the text, if one did.
  std::string_view stop() const { return stops_.found(); }

 private:
  bool pending_has_stop(std::string& out);
  std::string_view without_prompt(std::string_view text);

  const tokenizer::Tokenizer* tokenizer_;
  bool skips_special_;
  tokenizer::StreamDecoder decoder_;
  StopFilter stops_, probe_;  // probe_: to try text that is not settled
  std::string unsettled_;     // what the prompt would decode to in addition if it ended the text
  std::string begun_;         // text that may be just that
  std::string text_, probe_out_;  // kept for their memory: a token then takes none
};

}  // namespace nereid::engine
