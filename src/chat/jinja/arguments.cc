#include "chat/jinja/arguments.h"

#include <algorithm>

namespace nereid::chat::jinja {

Arguments::Arguments(const CallArgs& args, std::string_view function,
                     std::initializer_list<std::string_view> names, std::size_t n_required)
    : function_(function), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size())
    throw Error("{} was given {} arguments; expected {} at most", function, args.positional.size(),
                names.size());
  for (std::size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw Error("{} has no parameter '{}'", function, name);
    const Value*& bound = values_[static_cast<std::size_t>(found - names.begin())];
    if (bound != nullptr) throw Error("{} was given '{}' twice", function, name);
    bound = &value;
  }
  for (std::size_t i = 0; i < n_required; ++i)
    if (values_[i] == nullptr) throw Error("{} lacks '{}'", function, names.begin()[i]);
}

const Text& Arguments::text(std::size_t i) const {
  const Text* text = values_[i]->as_text();
  if (text == nullptr) throw_type(function_, *values_[i]);
  return *text;
}

std::int64_t Arguments::integer(std::size_t i, std::int64_t fallback) const {
  if (!has(i)) return fallback;
  const auto number = values_[i]->as_int();
  if (!number) throw_type(function_, *values_[i]);
  return *number;
}

}  // namespace nereid::chat::jinja
