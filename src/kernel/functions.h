// Goal: the kinds of functions that kernels take, and the score and mask functions of attention as
// a graph names them (docs/attention_functions.md): which builtins there are, and a text taken
// apart. Non-goal: what they compute, which kernels/lib/attention_functions.py says, expressions
// (graph/expression/), and making a Triton function of a text, which aot/targets/functions.py does.
// Rejected: a tree. Nothing here asks how parts are combined, only which there are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::kernel {

enum class FunctionKind : std::uint8_t { score, mask, expression };

std::string_view function_kind_name(FunctionKind kind);
// An Error where there is no such kind.
FunctionKind function_kind_from_name(std::string_view name, const std::string& where);

// `takes`: of each argument "positive" or "count", a number; else the type of a tensor as rows of
// graph/ops.def write it.
struct FunctionRow {
  FunctionKind kind = FunctionKind::score;
  std::vector<std::string> takes;
};

// Those this program was built with, by name.
const std::map<std::string, FunctionRow, std::less<>>& builtin_functions();

// "window(1024)", "relative_bias(a)", "my.py:odd_keys": arguments as they are written.
struct FunctionCall {
  std::string file;  // of a user's own; empty for a builtin
  std::string name;
  std::vector<std::string> args;

  std::string text() const;
};

// A tensor that the node binds, "a" or "b"; else a number.
bool is_bound_tensor(std::string_view argument);

struct FunctionText {
  std::vector<FunctionCall> calls;
  std::vector<std::string> between;  // before the first, between each two, behind the last

  // One text of all that mean the same but for spaces.
  std::string text() const;
};

// An Error says what is wrong: the form, an unknown builtin with a list of those there are, a
// builtin's arguments.
FunctionText parse_functions(FunctionKind kind, std::string_view text);

}  // namespace nereid::kernel
