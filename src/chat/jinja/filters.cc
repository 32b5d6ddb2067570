#include "chat/jinja/filters.h"

namespace nereid::chat::jinja {

Filter find_filter(std::string_view name) {
  for (const auto rows : {value_filters(), list_filters()})
    for (const FilterRow& row : rows)
      if (row.name == name) return row.filter;
  return nullptr;
}

}  // namespace nereid::chat::jinja
