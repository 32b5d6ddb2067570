// The graph as text, and back. One declaration or node a line:
//   graph llama {
//     size rows
//     input %ids: i32[T]
//     %2: fp32[T, 384] = gather_rows %embed, %ids {scale = 12.0, dtype = fp32}
//     %3: fp32[T, 512] = linear %2, %w, norm = %g {epilogue = "(x) -> relu(x)"}
//     return %3
//   }
// Operands that must be there come in the order of the op's row, the others by name.

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "graph/cluster.h"
#include "graph/ir.h"

namespace nereid::graph {

namespace {

constexpr std::string_view kKindNames[] = {"input", "weight", "state"};
// Bounds what a hostile text can make us allocate, and keeps products of dimensions within 64 bits.
constexpr std::size_t kMaxValues = 1'000'000;
constexpr std::int64_t kMaxDim = std::int64_t{1} << 31;

std::string typed_name(const Value& value) {
  return fmt::format("%{}: {}{}", value.name, dtype_name(value.dtype), dims_text(value.shape));
}

// `sigil` stands before each value's name. A text in a body, itself a text in "", is in ''.
std::string node_text(const Graph& graph, const Node& node, std::string_view sigil) {
  const auto& row = node.row();
  std::string operands;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNoValue) continue;
    const auto& role = row.operands[row.is_variadic() ? 0 : i];
    operands += operands.empty() ? " " : ", ";
    if (role.is_optional) operands += fmt::format("{} = ", role.name);
    operands += fmt::format("{}{}", sigil, graph.value(node.inputs[i]).name);
  }
  std::string attrs;
  for (const auto& [name, value] : node.attrs) {
    const auto type = row.find_attr(name)->type;
    attrs += fmt::format("{}{} = {}", attrs.empty() ? " {" : ", ", name,
                         type == AttrType::word ? std::get<std::string>(value)
                         : type == AttrType::text && sigil.empty()
                             ? fmt::format("'{}'", std::get<std::string>(value))
                             : attr_text(value));
  }
  return fmt::format("{}{}{}{}", row.name, operands, attrs, attrs.empty() ? "" : "}");
}

void print_node(const Graph& graph, const Node& node, std::string& out) {
  out += "  ";
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    out += (i > 0 ? ", " : "") + typed_name(graph.value(node.outputs[i]));
  out += " = " + node_text(graph, node, "%") + "\n";
}

// Of the line that declares the value, from 1; 0 where none does.
int line_number(std::string_view text, std::string_view value) {
  const auto sigil = fmt::format("%{}", value);
  for (int number = 1; !text.empty(); ++number) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    line = line.substr(0, line.find('#'));
    for (auto at = line.find(sigil); at != std::string_view::npos; at = line.find(sigil, at + 1)) {
      const auto behind = line.find_first_not_of(' ', at + sigil.size());
      if (behind != std::string_view::npos && line[behind] == ':') return number;
    }
  }
  return 0;
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& where, const OpTable& ops)
      : text_(text), where_(where), ops_(ops) {}

  Graph parse() {
    expect("graph");
    graph_.name = word();
    expect("{");
    while (!at("}")) line();
    expect("}");
    skip_space();
    if (position_ != text_.size()) fail("text after the closing brace");
    return std::move(graph_);
  }

  // A cluster's: names that no statement computes are its operands, in the order in which they are
  // first read.
  Graph parse_body(const std::vector<Value>& operands) {
    graph_.name = "body";
    body_operands_ = operands.size();
    for (const auto& operand : operands)
      graph_.add_value(ValueKind::input, "", operand.dtype, operand.shape);
    for (auto name = word(); name != "return"; name = word()) {
      statement(std::move(name));
      expect(";");
    }
    do graph_.outputs.push_back(result_of_body());
    while (accept(","));
    skip_space();
    if (position_ != text_.size()) fail("text after the results");
    if (n_read_ != operands.size())
      fail(fmt::format("reads {} of {} operands", n_read_, operands.size()));
    return std::move(graph_);
  }

 private:
  bool is_body() const { return body_operands_.has_value(); }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error("{}:{}: {}", where_, line_, what);
  }

  void skip_space() {
    while (position_ < text_.size()) {
      const char c = text_[position_];
      if (c == '#') {
        while (position_ < text_.size() && text_[position_] != '\n') ++position_;
      } else if (std::isspace(static_cast<unsigned char>(c)) != 0) {
        if (c == '\n') ++line_;
        ++position_;
      } else {
        return;
      }
    }
  }

  bool at(std::string_view token) {
    skip_space();
    return text_.substr(position_).starts_with(token);
  }

  bool accept(std::string_view token) {
    if (!at(token)) return false;
    position_ += token.size();
    return true;
  }

  void expect(std::string_view token) {
    if (!accept(token))
      fail(fmt::format("expected \"{}\", got \"{}\"", token, text_.substr(position_, 20)));
  }

  std::string word() {
    skip_space();
    const auto begin = position_;
    while (position_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[position_])) != 0 ||
            text_[position_] == '_' || text_[position_] == '.'))
      ++position_;
    if (begin == position_)
      fail(fmt::format("expected a name, got \"{}\"", text_.substr(begin, 20)));
    return std::string(text_.substr(begin, position_ - begin));
  }

  std::int64_t integer() {
    skip_space();
    std::int64_t value = 0;
    const auto* begin = text_.data() + position_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc{} || value < 0 || value > kMaxDim)
      fail(fmt::format("expected an integer from 0 to {}", kMaxDim));
    position_ += static_cast<std::size_t>(end - begin);
    return value;
  }

  Dim dim() {
    skip_space();
    if (position_ >= text_.size() ||
        std::isalpha(static_cast<unsigned char>(text_[position_])) == 0)
      return integer();
    const auto name = word();
    const auto symbol = find_size(name);
    if (!symbol)
      fail(
          fmt::format("there is no size {}; expected T, S, R, L, Q or one that the graph declares "
                      "before, \"size {}\"",
                      name, name));
    Dim result(*symbol);
    if (accept("*")) result.factor = integer();
    if (accept("+"))
      result.offset = integer();
    else if (accept("-"))
      result.offset = -integer();
    return result;
  }

  std::optional<Symbol> find_size(std::string_view name) const {
    for (const auto& symbol : kStepSymbols)
      if (symbol.name() == name) return symbol;
    for (const auto& symbol : graph_.sizes)
      if (symbol.name() == name) return symbol;
    return std::nullopt;
  }

  void declare_size() {
    const auto name = word();
    if (name.size() > Symbol::kMaxNameBytes ||
        std::isalpha(static_cast<unsigned char>(name[0])) == 0 ||
        name.find('.') != std::string::npos)
      fail(fmt::format(
          "size {}: expected a name of at most {} letters, digits and _, a letter first", name,
          Symbol::kMaxNameBytes));
    if (find_size(name)) fail(fmt::format("size {}: there is one of that name", name));
    if (graph_.sizes.size() == kMaxOwnSizes)
      fail(fmt::format("size {}: a graph declares at most {} sizes", name, kMaxOwnSizes));
    graph_.sizes.push_back(Symbol::own(graph_.sizes.size(), name));
  }

  Value typed() {
    Value value;
    expect("%");
    value.name = word();
    expect(":");
    skip_space();
    const auto bracket = text_.find('[', position_);
    const auto name = text_.substr(position_, bracket - position_);
    const auto dtype = dtype_from_name(name);
    if (bracket == std::string_view::npos || !dtype)
      fail(fmt::format("%{}: expected a type such as fp16[T, 384], got \"{}\"", value.name,
                       name.substr(0, 20)));
    value.dtype = *dtype;
    position_ = bracket + 1;
    while (!accept("]")) {
      if (!value.shape.empty()) expect(",");
      value.shape.push_back(dim());
      if (value.shape.size() > 8) fail(fmt::format("%{}: more than 8 dimensions", value.name));
    }
    return value;
  }

  ValueId declare(Value value, ValueKind kind) {
    if (graph_.values.size() >= kMaxValues) fail("more values than a graph may have");
    value.kind = kind;
    const auto id = static_cast<ValueId>(graph_.values.size());
    if (!ids_.emplace(value.name, id).second)
      fail(fmt::format("%{} is declared twice", value.name));
    graph_.values.push_back(std::move(value));
    return id;
  }

  ValueId use() {
    expect("%");
    const auto name = word();
    const auto it = ids_.find(name);
    if (it == ids_.end()) fail(not_declared(name));
    return it->second;
  }

  // A text is in the order in which it runs: what is read before it is there has no place in it.
  std::string not_declared(const std::string& name) const {
    auto what = fmt::format("%{} is used before it is declared", name);
    const auto line = line_number(text_, name);
    if (line == 0) return what + ", and nothing declares it";
    return what + fmt::format(
                      ", in line {}: lines stand in the order in which they run, and an operation "
                      "cannot read what it computes",
                      line);
  }

  // OP %x, role = %y, ... {name = value, ...}; in a body values have no sigil. With the types of
  // its results.
  std::pair<Node, std::vector<TypedShape>> operation() {
    const int at_line = line_;
    const auto op_name = word();
    const auto op = ops_.find(op_name);
    if (is_body() && !(op && is_row_op(op->op)))
      fail(fmt::format("a cluster holds no \"{}\"", op_name));
    if (!op) fail(unknown_op(op_name));
    auto inputs = operands(op->row());
    const auto given = attrs();
    // Looking for attributes may have gone on to the next line.
    const int next_line = std::exchange(line_, at_line);
    try {
      Node node(*op, std::move(inputs), {}, given);
      auto types = infer_shapes(graph_, node);
      line_ = next_line;
      return {std::move(node), std::move(types)};
    } catch (const Error& error) {
      fail(error.what());
    }
  }

  std::string unknown_op(const std::string& name) const {
    const auto own = ops_.own_text();
    return fmt::format("there is no op \"{}\"; expected one of ops.def{}", name,
                       own.empty() ? ", or one of your own that is registered (--op FILE)"
                                   : ", or of your own: " + own);
  }

  std::vector<ValueId> operands(const OpRow& row) {
    std::vector<ValueId> inputs(row.is_variadic() ? 0 : row.operands.size(), kNoValue);
    std::size_t next = 0;  // to be given by position
    do {
      const auto name = role();
      if (row.is_variadic() && name.empty()) {
        inputs.push_back(value());
        continue;
      }
      while (next < row.operands.size() && row.operands[next].is_optional) ++next;
      const auto i = name.empty() ? next++ : row.find_operand(name).value_or(row.operands.size());
      if (i >= row.operands.size() || row.is_variadic())
        fail(fmt::format("{}: {}; expected the operands {}", row.name,
                         name.empty() ? "one operand without a name too many"
                                      : fmt::format("there is no operand {}", name),
                         roles_text(row.operands)));
      if (inputs[i] != kNoValue)
        fail(fmt::format("{}: operand {} is given twice", row.name, row.operands[i].name));
      inputs[i] = value();
    } while (accept(","));
    return inputs;
  }

  // "role =" before an operand; empty where it has none.
  std::string role() {
    if (at("%")) return {};
    const auto [position, at_line] = std::pair(position_, line_);
    auto name = word();
    if (accept("=")) return name;
    std::tie(position_, line_) = std::pair(position, at_line);
    return {};
  }

  ValueId value() { return is_body() ? operand_of_body(word()) : use(); }

  Attrs attrs() {
    Attrs given;
    if (!accept("{")) return given;
    do {
      auto key = word();
      expect("=");
      given.emplace_back(std::move(key), attr());
    } while (accept(","));
    expect("}");
    return given;
  }

  Attr attr() {
    if (const char quote = at("'") ? '\'' : '"'; accept({&quote, 1})) {
      const auto end = text_.find(quote, position_);
      const auto text = text_.substr(position_, end - position_);
      if (end == std::string_view::npos || text.find('\n') != std::string_view::npos)
        fail("a text without its closing quote");
      position_ = end + 1;
      return std::string(text);
    }
    skip_space();
    const auto begin = position_;
    while (position_ < text_.size() && text_[position_] != ',' && text_[position_] != '}' &&
           std::isspace(static_cast<unsigned char>(text_[position_])) == 0)
      ++position_;
    const auto token = text_.substr(begin, position_ - begin);
    if (const auto dtype = dtype_from_name(token)) return *dtype;
    const auto* end = token.data() + token.size();
    if (std::int64_t value = 0;
        std::from_chars(token.data(), end, value).ptr == end && !token.empty())
      return value;
    if (double value = 0; !token.empty() && std::from_chars(token.data(), end, value).ptr == end)
      return value;
    if (!token.empty() && std::isalpha(static_cast<unsigned char>(token[0])) != 0)
      return std::string(token);  // one of an enumeration's
    fail(fmt::format("expected a number, a type or a word, got \"{}\"", token.substr(0, 20)));
  }

  void line() {
    skip_space();
    if (position_ >= text_.size()) fail("the graph is not closed by \"}\"");
    for (std::size_t i = 0; i < std::size(kKindNames); ++i)
      if (accept(kKindNames[i])) {
        declare(typed(), static_cast<ValueKind>(i));
        return;
      }
    if (accept("size ")) {
      declare_size();
      return;
    }
    if (accept("return")) {
      do graph_.outputs.push_back(use());
      while (accept(","));
      return;
    }
    node();
  }

  void node() {
    const int at_line = line_;
    std::vector<Value> results;
    do results.push_back(typed());
    while (accept(","));
    expect("=");
    auto [node, types] = operation();
    const int next_line = std::exchange(line_, at_line);
    const auto op_name = node.row().name;
    if (types.size() != results.size())
      fail(fmt::format("{}: expected {} results, got {}", op_name, types.size(), results.size()));
    for (std::size_t i = 0; i < types.size(); ++i) {
      if (results[i].dtype != types[i].dtype || results[i].shape != types[i].shape)
        fail(fmt::format("{}: %{} is declared {}{}, the operands make it {}{}", op_name,
                         results[i].name, dtype_name(results[i].dtype), dims_text(results[i].shape),
                         dtype_name(types[i].dtype), dims_text(types[i].shape)));
      node.outputs.push_back(declare(std::move(results[i]), output_kind(node.row())));
    }
    graph_.nodes.push_back(std::move(node));
    line_ = next_line;
  }

  // NAME, ... = OP NAME, ... {...}
  void statement(std::string name) {
    std::vector<std::string> names{std::move(name)};
    while (accept(",")) names.push_back(word());
    expect("=");
    auto [node, types] = operation();
    if (types.size() != names.size())
      fail(fmt::format("{}: expected {} results, got {}", node.row().name, types.size(),
                       names.size()));
    for (std::size_t i = 0; i < types.size(); ++i)
      node.outputs.push_back(declare(
          {ValueKind::intermediate, std::move(names[i]), types[i].dtype, std::move(types[i].shape)},
          ValueKind::intermediate));
    graph_.nodes.push_back(std::move(node));
  }

  ValueId operand_of_body(const std::string& name) {
    if (const auto it = ids_.find(name); it != ids_.end()) return it->second;
    if (n_read_ == *body_operands_)
      fail(fmt::format("{} is no operand: there are {}", name, *body_operands_));
    const auto id = static_cast<ValueId>(n_read_++);
    graph_.values[static_cast<std::size_t>(id)].name = name;
    return ids_[name] = id;
  }

  ValueId result_of_body() {
    const auto name = word();
    const auto it = ids_.find(name);
    if (it == ids_.end() || static_cast<std::size_t>(it->second) < *body_operands_)
      fail(fmt::format("{} is not computed", name));
    if (std::ranges::find(graph_.outputs, it->second) != graph_.outputs.end())
      fail(fmt::format("{} is returned twice", name));
    return it->second;
  }

  std::string_view text_;
  const std::string& where_;
  const OpTable& ops_;
  std::size_t position_ = 0;
  int line_ = 1;
  Graph graph_;
  std::unordered_map<std::string, ValueId> ids_;
  std::optional<std::size_t> body_operands_;  // how many a body has; nothing in a graph
  std::size_t n_read_ = 0;                    // of them
};

}  // namespace

std::string print(const Graph& graph) {
  std::string out = fmt::format("graph {} {{\n", graph.name);
  for (const auto& size : graph.sizes) out += fmt::format("  size {}\n", size.name());
  std::size_t declared = 0;
  // Declarations come before the first node whose results have higher ids, so that parsing gives
  // the same ids.
  std::vector<bool> is_computed(graph.values.size(), false);
  for (const auto& node : graph.nodes)
    for (const auto id : node.outputs) is_computed[static_cast<std::size_t>(id)] = true;
  const auto declare_up_to = [&](std::size_t end) {
    for (; declared < end; ++declared)
      if (const auto& value = graph.values[declared]; !is_computed[declared])
        out += fmt::format("  {} {}\n", kKindNames[static_cast<std::size_t>(value.kind)],
                           typed_name(value));
  };
  for (const auto& node : graph.nodes) {
    declare_up_to(static_cast<std::size_t>(node.outputs.empty() ? 0 : node.outputs[0]));
    print_node(graph, node, out);
  }
  declare_up_to(graph.values.size());
  if (!graph.outputs.empty()) {
    out += "  return";
    for (std::size_t i = 0; i < graph.outputs.size(); ++i)
      out += fmt::format("{} %{}", i > 0 ? "," : "", graph.value(graph.outputs[i]).name);
    out += "\n";
  }
  return out + "}\n";
}

Graph parse(std::string_view text, const std::string& where, const OpTable& ops) {
  return Parser(text, where, ops).parse();
}

std::string line_of(std::string_view text, const std::string& where, std::string_view value) {
  return fmt::format("{}:{}", where, line_number(text, value));
}

std::string body_text(const Graph& body) {
  std::string out;
  for (const auto& node : body.nodes) {
    for (const auto id : node.outputs)
      out += fmt::format("{}{}", id == node.outputs[0] ? "" : ", ", body.value(id).name);
    out += fmt::format(" = {}; ", node_text(body, node, ""));
  }
  out += "return";
  for (std::size_t i = 0; i < body.outputs.size(); ++i)
    out += fmt::format("{} {}", i > 0 ? "," : "", body.value(body.outputs[i]).name);
  return out;
}

Graph cluster_body(const Graph& graph, const Node& cluster) {
  static const std::string where = "cluster, body";
  std::vector<Value> operands;
  for (const auto id : cluster.reads()) operands.push_back(graph.value(id));
  const auto text = cluster.text_attr(kBody);
  const OpTable ops;
  return Parser(text, where, ops).parse_body(operands);
}

}  // namespace nereid::graph
