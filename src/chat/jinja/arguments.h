// Goal: the arguments of a call bound to the names of a function's parameters, as Python binds
// them.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

class Arguments {
 public:
  // An Error where one is too many, unknown, given twice, or of the first `n_required` missing.
  Arguments(const CallArgs& args, std::string_view function,
            std::initializer_list<std::string_view> names, std::size_t n_required = 0);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  // Given and not None.
  bool is_set(std::size_t i) const { return has(i) && !values_[i]->is_none(); }
  const Value& operator[](std::size_t i) const { return *values_[i]; }
  const Text& text(std::size_t i) const;
  std::int64_t integer(std::size_t i, std::int64_t fallback) const;
  bool boolean(std::size_t i, bool fallback) const {
    return has(i) ? values_[i]->is_true() : fallback;
  }

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace nereid::chat::jinja
