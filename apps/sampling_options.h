// Goal: the options about how tokens are chosen, of every command that writes text.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "nereid/request.h"

namespace nereid::apps {

inline constexpr const char* kAnswerGroup = "Answer";

// -n and an option a row of engine::kSamplingParams.
void add_sampling_options(CLI::App& command, Request& request);

// Sets what an option calls --top-k and a table row "top_k", or max_tokens, or seed. A UsageError
// names what may be set, or what its value may be.
void set_sampling(Request& request, const std::string& name, const std::string& value);
// "temperature 0, top_k 0, ..."
std::string sampling_text(const Request& request);

}  // namespace nereid::apps
