// Goal: a prompt that asks a code model for what stands between two texts.
// Non-goal: models without tokens for it; their makers trained no such thing.
#pragma once

#include <string_view>
#include <vector>

#include "nereid/request.h"
#include "tokenizer/tokenizer.h"

namespace nereid::server {

// The ids of prefix and suffix between the model's own tokens, prefix first. An ApiError where it
// has none.
std::vector<TokenId> fill_in_ids(const tokenizer::Tokenizer& tokenizer, std::string_view prefix,
                                 std::string_view suffix);

}  // namespace nereid::server
