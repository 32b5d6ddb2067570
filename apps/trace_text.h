// Goal: the launches of a trace, as a table and as a file that chrome://tracing and ui.perfetto.dev
// open.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "measure/trace.h"

namespace nereid::apps {

// The Trace Event Format: one event a launch, one a step.
nlohmann::ordered_json chrome_json(const measure::Trace& trace);
// One line a kernel and object, those that took longest first.
std::string table_text(const measure::Trace& trace);

}  // namespace nereid::apps
