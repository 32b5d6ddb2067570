// Goal: config.json's fields about rotary positions, in the spellings of all years.
// Non-goal: the frequencies that follow (rope.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config_fields.h"
#include "model/rope.h"

namespace nereid::model {

// Adds the names of fields that the kind of scaling does not know to `ignored`.
RopeConfig read_rope(ConfigFields& fields, const std::string& where,
                     std::int64_t max_context_tokens, std::vector<std::string>& ignored);

}  // namespace nereid::model
