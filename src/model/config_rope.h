// Goal: config.json's fields about rotary positions, in the spellings of all years.
// Non-goal: the frequencies that follow (rope.h).
#pragma once

#include <string>

#include "model/config.h"
#include "model/config_fields.h"
#include "model/families.h"

namespace nereid::model {

// The config's `rope` and `window_rope`. Adds the names of fields that the kind of scaling does not
// know to those that are ignored.
void read_rope(ConfigFields& fields, const std::string& where, const Family& family,
               ModelConfig& config);

}  // namespace nereid::model
