#include "tokenizer/metaspace.h"

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

MetaspaceOptions MetaspaceOptions::read(const Json& config, const std::string& where) {
  MetaspaceOptions options;
  options.replacement = json_field<std::string>(config, "replacement", where);
  if (options.replacement.empty() ||
      utf8_at(options.replacement, 0).size_bytes != options.replacement.size())
    throw Error("{}: replacement is \"{}\"; expected one character", where, options.replacement);
  const auto scheme = json_field_or<std::string>(config, "prepend_scheme", "always", where);
  if (scheme == "always")
    options.prepend_scheme = PrependScheme::kAlways;
  else if (scheme == "first")
    options.prepend_scheme = PrependScheme::kFirst;
  else if (scheme == "never")
    options.prepend_scheme = PrependScheme::kNever;
  else
    throw Error("{}: prepend_scheme is \"{}\"; expected always, first or never", where, scheme);
  // Files from before prepend_scheme say it with this field.
  if (!json_field_or<bool>(config, "add_prefix_space", true, where)) {
    if (config.contains("prepend_scheme") && options.prepend_scheme != PrependScheme::kNever)
      throw Error("{}: add_prefix_space is false but prepend_scheme is \"{}\"", where, scheme);
    options.prepend_scheme = PrependScheme::kNever;
  }
  options.split = json_field_or<bool>(config, "split", true, where);
  return options;
}

}  // namespace nereid::tokenizer
