// Goal: the few comparisons of text that HTTP asks for.
// Non-goal: parsing of messages; that is Beast's.
#pragma once

#include <string_view>

namespace nereid::server {

// Of ASCII letters.
bool equal_ignoring_case(std::string_view a, std::string_view b);

// Takes as long for a wrong key as for the right one: the time tells nothing of where they differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace nereid::server
