// The name of a JSON value, for headers: the library itself costs three seconds a translation unit.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace nereid {

using Json = nlohmann::json;

}  // namespace nereid
