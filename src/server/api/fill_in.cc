#include "server/api/fill_in.h"

#include <array>

#include "server/error_body.h"

namespace nereid::server {

namespace {

struct FillInTokens {
  const char *prefix, *suffix, *middle;
};

constexpr std::array<FillInTokens, 3> kKnown{{
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder, Granite Code
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen 2.5 Coder
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},                          // Code Llama
}};

}  // namespace

std::vector<TokenId> fill_in_ids(const tokenizer::Tokenizer& tokenizer, std::string_view prefix,
                                 std::string_view suffix) {
  for (const auto& tokens : kKnown) {
    const auto begin = tokenizer.token_id(tokens.prefix), end = tokenizer.token_id(tokens.suffix),
               middle = tokenizer.token_id(tokens.middle);
    if (!begin || !end || !middle) continue;
    std::vector<TokenId> ids = tokenizer.encode("");  // what the model wants before a text
    const auto add = [&](std::string_view text) {
      const auto part = tokenizer.encode(text, false);
      ids.insert(ids.end(), part.begin(), part.end());
    };
    ids.push_back(*begin);
    add(prefix);
    ids.push_back(*end);
    add(suffix);
    ids.push_back(*middle);
    return ids;
  }
  throw ApiError(400, "\"suffix\": this model has no fill-in-the-middle tokens; leave it out",
                 "suffix", "unsupported_parameter");
}

}  // namespace nereid::server
