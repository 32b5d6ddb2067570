#include "graph/cluster.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace nereid::graph {

namespace {

// What a name in a kernel or its reference cannot be: Python's own words, and the file's.
constexpr auto kTaken = std::to_array<std::string_view>(
    {"False",   "None",     "True",        "and",       "as",     "assert", "async",  "await",
     "break",   "class",    "continue",    "def",       "del",    "elif",   "else",   "except",
     "finally", "for",      "from",        "global",    "if",     "import", "in",     "is",
     "lambda",  "nonlocal", "not",         "or",        "pass",   "raise",  "return", "try",
     "while",   "with",     "yield",       "float",     "range",  "tl",     "np",     "triton",
     "a",       "row_ops",  "expressions", "reference", "PARAMS", "SPEC",   "BLOCK",  "n_rows",
     "n_cols",  "group",    "row",         "cols",      "mask",   "token",  "head",   "half",
     "turned",  "start"});

class PlainNames {
 public:
  std::string unique(const std::string& what) {
    auto name = what;
    for (int n = 2; !is_free(name); ++n) name = fmt::format("{}{}", what, n);
    given_.push_back(name);
    return name;
  }

 private:
  static bool begins(std::string_view text, std::string_view name) {
    return text.starts_with(name) && (text.size() == name.size() || text[name.size()] == '_');
  }
  bool is_free(std::string_view name) const {
    const auto is_apart = [&](std::string_view other) {
      return !begins(name, other) && !begins(other, name);
    };
    return std::ranges::all_of(kTaken, is_apart) && std::ranges::all_of(given_, is_apart);
  }

  std::vector<std::string> given_;
};

}  // namespace

bool is_generated(Op op) { return op == Op::cluster || op == Op::map; }

Graph generated_body(const Graph& graph, const Node& node) {
  if (node.op == Op::cluster) return with_plain_names(cluster_body(graph, node));
  Graph body;
  Node inner = node;
  for (auto& input : inner.inputs) {
    const auto& value = graph.value(input);
    input = body.add_value(ValueKind::input, "", value.dtype, value.shape);
  }
  body.outputs = body.add_node(std::move(inner));
  return with_plain_names(std::move(body));
}

Graph with_plain_names(Graph body) {
  PlainNames names;
  for (auto& value : body.values) value.name.clear();
  const auto name = [&](ValueId id, const std::string& what) {
    auto& value = body.values[static_cast<std::size_t>(id)];
    if (value.name.empty()) value.name = names.unique(what);
  };
  for (const auto& node : body.nodes) {
    const auto operands = operand_names(node);
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue) name(node.inputs[i], operands[i]);
    const auto results = result_names(node);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) name(node.outputs[i], results[i]);
  }
  return body;
}

}  // namespace nereid::graph
