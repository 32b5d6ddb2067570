// Goal: Python's two ways to put values into a text: "%s" % x and "{}".format(x).
// Non-goal: format specifications beyond width, precision and the letters s, r, d, i, f, x of %;
// any within {}. Each is an Error that names it.
#pragma once

#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

// `values`: a tuple, a dict for "%(name)s", or one value.
Text format_percent(Runtime& runtime, const Text& format, const Value& values);
Text format_braces(Runtime& runtime, const Text& format, const CallArgs& values);

}  // namespace nereid::chat::jinja
