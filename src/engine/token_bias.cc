#include "engine/token_bias.h"

#include <algorithm>
#include <limits>
#include <map>

#include "base/usage_error.h"

namespace nereid::engine {

std::vector<BiasRow> bias_rows(const Request& request, std::span<const TokenId> end_ids) {
  std::map<TokenId, BiasRow> by_id;
  for (const auto& [id, bias] : request.logit_bias)
    if (!by_id.emplace(id, BiasRow{id, bias, 0}).second)
      throw UsageError("logit_bias names token {} twice; expected each once", id);
  if (request.min_tokens > 0) {
    const auto until = std::int32_t(
        std::min<std::int64_t>(request.min_tokens, std::numeric_limits<std::int32_t>::max()));
    for (const TokenId id : end_ids)
      by_id.try_emplace(id, BiasRow{id, 0.0F, 0}).first->second.until = until;
    if (!request.allowed_ids.empty() && std::ranges::all_of(request.allowed_ids, [&](TokenId id) {
          return std::ranges::find(end_ids, id) != end_ids.end();
        }))
      throw UsageError(
          "allowed_ids has only tokens that end the answer, and min_tokens is {}: none can be "
          "chosen; allow others, or set min_tokens to 0",
          request.min_tokens);
  }
  if (by_id.size() > std::size_t{kMaxTokenBiases})
    throw UsageError(
        "logit_bias and the tokens that end an answer are {} tokens; expected at most {}",
        by_id.size(), kMaxTokenBiases);
  std::vector<BiasRow> rows;
  rows.reserve(by_id.size());
  for (const auto& [id, row] : by_id) rows.push_back(row);
  return rows;
}

}  // namespace nereid::engine
