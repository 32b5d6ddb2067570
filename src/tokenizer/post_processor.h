// Goal: the tokens put before and after an encoded text, from tokenizer.json's post_processor and,
// where it says so, tokenizer_config.json.
// Non-goal: pairs of texts, type ids and offsets, which a language model has no use for.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"

namespace nereid::tokenizer {

struct SpecialFrame {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};

using FindToken = std::function<std::optional<std::int32_t>(std::string_view)>;
using HasId = std::function<bool(std::int64_t)>;

SpecialFrame read_post_processor(const Json& config, const HasId& has_id, const std::string& where);

// Applies add_bos_token and add_eos_token of tokenizer_config.json, which overrule the frame where
// they are given and the tokenizer_class named there reads them.
void apply_tokenizer_config(const Json& config, const FindToken& find, SpecialFrame& frame,
                            const std::string& where);

}  // namespace nereid::tokenizer
