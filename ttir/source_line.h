// Goal: the Python line behind an error's line of Triton IR: the comment that the text's writer has
// left there, `// FILE:LINE` (aot/targets/triton_ir.py).
// Non-goal: reading MLIR's own locations: they stand elsewhere in the text, under other names.
// Rejected: a line in every operation: only errors ask for it.
#pragma once

#include <string>
#include <string_view>

namespace nereid::ttir {

// `message` begins with a place, "WHERE:LINE: "; where that line of `text` ends in such a comment,
// " (at FILE:LINE)" is added.
std::string with_source_line(const std::string& message, std::string_view text);

}  // namespace nereid::ttir
