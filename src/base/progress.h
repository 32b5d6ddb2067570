// Goal: how far long work is, told to whoever started it.
// Non-goal: showing it.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace nereid {

// A stage's name and how many of its parts are done, or 0 of 0 where it has no parts. Called from
// any thread, from several at once where stages run side by side.
using ProgressSink =
    std::function<void(std::string_view stage, std::int64_t n_done, std::int64_t n_total)>;

}  // namespace nereid
