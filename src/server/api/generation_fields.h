// Goal: the fields that all APIs of generation share, as a nereid::Request: how tokens are chosen,
// what ends the answer, what is told of it.
// Non-goal: prompts and messages (completions.cc, chat.cc).
#pragma once

#include <cstdint>
#include <optional>

#include "nereid/request.h"
#include "server/fields.h"
#include "server/serving.h"

namespace nereid::server {

// Of "stream" and "stream_options".
struct Streaming {
  bool is_on = false;
  bool has_usage = false;          // a last event with the usage of all
  bool has_running_usage = false;  // one in each event
};

// An ApiError where the server's model is called otherwise. Absent: fine.
void read_model(Fields& fields, const Serving& serving);
Streaming read_streaming(Fields& fields);
// All but the number of tokens, log-probabilities and constraint. What the request leaves open is
// as the model's makers suggest.
void read_sampling(Fields& fields, const Serving& serving, Request& request);
// "response_format" and what other servers call it. Throws for what is not supported.
void read_constraint(Fields& fields, Request& request);
// Counts what nobody looked at, and logs what is new.
void note_unknown(const Fields& fields, Serving& serving);

}  // namespace nereid::server
