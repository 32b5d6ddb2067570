// Goal: what may follow |, as rows of tables: those of texts and single values, those of lists.
// Non-goal: Jinja's filters for HTML and layout, which no chat template uses.
#pragma once

#include <span>
#include <string_view>

#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

using Filter = Value (*)(Runtime& runtime, const Value& value, const CallArgs& args);

struct FilterRow {
  std::string_view name;
  Filter filter;
};
std::span<const FilterRow> value_filters();
std::span<const FilterRow> list_filters();

// Null where there is none of that name.
Filter find_filter(std::string_view name);

}  // namespace nereid::chat::jinja
