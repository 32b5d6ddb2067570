// Goal: what an option's value may be, said in one short line where it is something else.
#pragma once

#include <CLI/CLI.hpp>

#include "engine/ranges.h"

namespace nereid::apps {

// Numbers are decimal and whole texts: no "1e3" for a count, no "nan", nothing that would be cut.
CLI::Validator in_range(const engine::IntegerRange& range);
CLI::Validator in_range(const engine::RealRange& range);
CLI::Validator in_range(const engine::SeedRange& range);

CLI::Validator not_empty();

}  // namespace nereid::apps
