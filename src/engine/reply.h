// Goal: one request's result while the events of its answers come: ids, text up to the first stop
// string, log-probabilities.
// Non-goal: where events come from, and on which thread (Engine, Service).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/completion_text.h"
#include "engine/generator.h"
#include "nereid/request.h"
#include "tokenizer/tokenizer.h"

namespace nereid::engine {

class Reply {
 public:
  // `request.prompt_ids` is the prompt. `tokenizer` may be null: there is no text then; else it
  // outlives this. `n_most_tokens`: of an answer, as far as is known.
  Reply(const tokenizer::Tokenizer* tokenizer, const Request& request, std::int64_t n_most_tokens);

  struct Added {
    Progress progress;       // valid until the next call
    bool ends_here = false;  // a stop string is complete: the generator's answer has to end
  };
  // Not of an answer that has ended.
  Added add(const AnswerEvent& event);
  // That answer, and all that have not ended, end with an error.
  void fail(std::int32_t answer, std::string_view error);

  bool has_ended(std::int32_t answer) const;
  bool is_finished() const { return n_unfinished_ == 0; }
  const Completion& completion() const { return completion_; }
  Completion take() { return std::move(completion_); }

 private:
  Completion completion_;
  std::vector<CompletionText> texts_;  // of each answer; none without a tokenizer
  std::size_t n_unfinished_;
  std::string new_text_;  // of the event at hand
};

// The ids of a request's prompt. An Error where it is text and there is no tokenizer, or what a
// request asks needs one.
std::vector<TokenId> prompt_ids_of(const Request& request, const tokenizer::Tokenizer* tokenizer);

}  // namespace nereid::engine
