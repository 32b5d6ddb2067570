// Goal: the options of Metaspace, which is a pre-tokenizer and a decoder with the same fields.
#pragma once

#include <string>

#include "base/json_fwd.h"

namespace nereid::tokenizer {

enum class PrependScheme { kAlways, kFirst, kNever };

struct MetaspaceOptions {
  std::string replacement;  // one character, usually U+2581
  PrependScheme prepend_scheme = PrependScheme::kAlways;
  bool split = true;

  static MetaspaceOptions read(const Json& config, const std::string& where);
};

}  // namespace nereid::tokenizer
