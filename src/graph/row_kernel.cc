#include "graph/row_kernel.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "graph/expression/assignments.h"
#include "graph/row_ops.h"
#include "graph/triton_source.h"

namespace nereid::graph {

namespace {

using expression::Assignment;
using expression::Language;
using expression::OperatorRow;
using expression::Piece;

RowKind kind_of(const Graph& body, const Node& node, std::size_t operand) {
  if (node.op == Op::gather_rows) return operand == 0 ? RowKind::table : RowKind::ids;
  if (node.op == Op::rope && operand > 0)
    return operand == 1 ? RowKind::positions : RowKind::half_vector;
  return body.value(node.inputs[operand]).shape.size() == 1 ? RowKind::vector : RowKind::rows;
}

std::string_view triton_type(DType dtype) {
  switch (dtype) {
    case DType::fp16:
      return "tl.float16";
    case DType::bf16:
      return "tl.bfloat16";
    default:
      return "tl.float32";
  }
}

// Which columns of a row are computed: those of the program, or for RoPE those that they turn with.
struct Columns {
  std::string_view name, suffix;
};
constexpr Columns kOwn{"cols", ""};
constexpr Columns kTurned{"turned", "_turned"};

// Of the kernel, in an order that runs; a store defines nothing.
struct Line {
  std::string name = {};
  std::vector<std::string> text = {};
  bool varies = true;  // from column to column; else one number a row
  std::vector<std::string> reads = {};
  const OperatorRow* reduction = nullptr;  // then `text` is what is reduced
  bool is_store = false;
};

class RowKernel {
 public:
  explicit RowKernel(const Graph& body)
      : body_(body), kinds_(row_kinds(body).value()), is_turned_(turned_values(body)) {}

  std::string text() {
    make_lines();
    return "    row = tl.program_id(0).to(tl.int64)\n" +
           (loops_over_rows(body_) ? in_parts() : whole());
  }

  // Of a row in parts.
  int n_reads() {
    make_lines();
    const auto levels = this->levels();
    return *std::ranges::max_element(levels) + 1;
  }

  // In another language than Triton: one operation after the other.
  std::string formulas() const {
    std::string text;
    for (const auto& node : body_.nodes)
      for (const auto& line : lines_of(node, Language::plain))
        text += fmt::format("    {} = {}\n", line.name, line.text);
    return text;
  }

  std::string reference() const {
    std::string text = "@np.errstate(all=\"ignore\")\ndef reference(a):\n";
    for (std::size_t i = 0; i < body_.values.size(); ++i)
      if (body_.values[i].kind == ValueKind::input)
        text += fmt::format("    {0} = row_ops.{1}(a, \"{0}_ptr\")\n", body_.values[i].name,
                            kinds_[i] == RowKind::table ? "table" : "operand");
    for (const auto& node : body_.nodes) {
      if (node.op == Op::rope)
        text += fmt::format("    {0}_turned, {0}_cos, {0}_sin = row_ops.turned({1}, {2}, {3})\n",
                            result(node), in(node, 0), in(node, 1), in(node, 2));
      for (const auto& line : lines_of(node, Language::numpy))
        text += line.is_result ? fmt::format("    {} = row_ops.stored(a, {}, \"{}\")\n", line.name,
                                             line.text, dtype_name(type_of(line.name)))
                               : fmt::format("    {} = {}\n", line.name, line.text);
    }
    text += "    return row_ops.results(a, ";
    for (const auto id : body_.outputs)
      text += fmt::format("{}{}_ptr={}", id == body_.outputs[0] ? "" : ", ", name(id), name(id));
    return text + ")\n";
  }

 private:
  const std::string& name(ValueId id) const { return body_.value(id).name; }
  const std::string& in(const Node& node, std::size_t i) const { return name(node.inputs[i]); }
  const std::string& result(const Node& node) const { return name(node.outputs[0]); }
  bool is_turned(ValueId id) const { return is_turned_[static_cast<std::size_t>(id)]; }
  RowKind kind(ValueId id) const { return kinds_[static_cast<std::size_t>(id)]; }
  bool has_heads() const { return body_.value(body_.outputs[0]).shape.size() == 3; }
  DType type_of(const std::string& value) const { return body_.value(body_.find(value)).dtype; }

  // ---- what an operation's expression reads

  std::vector<Assignment> lines_of(const Node& node, Language language,
                                   const Columns& columns = kOwn) const {
    expression::Wording wording{.language = language, .suffix = std::string(columns.suffix)};
    wording.is_second = !columns.suffix.empty();
    wording.are_reductions_apart = language == Language::triton && loops_over_rows(body_);
    for (const auto id : node.outputs) wording.results.push_back(name(id));
    for (auto& operand : operands_of(node, language, columns.suffix)) {
      wording.is_zero_beyond.push_back(is_zero_beyond_.contains(operand));
      wording.operands.push_back({std::move(operand)});
    }
    return expression::assignments(formula_of(node), wording);
  }

  std::vector<std::string> operands_of(const Node& node, Language language,
                                       std::string_view suffix) const {
    const bool is_plain = language == Language::plain;
    if (node.op == Op::gather_rows) {
      if (language == Language::triton) return {fmt::format("{}_read{}", result(node), suffix)};
      return {fmt::format("{}[{}]", in(node, 0), in(node, 1))};
    }
    if (node.op == Op::rope) {
      const auto angle = fmt::format("({} * {})", in(node, 1), in(node, 2));
      if (is_plain)
        return {in(node, 0), fmt::format("turned({})", in(node, 0)), "cos" + angle, "sin" + angle};
      const auto& out = result(node);
      const auto& turned = language == Language::triton ? in(node, 0) : out;
      return {in(node, 0), turned + "_turned", out + "_cos", out + "_sin"};
    }
    std::vector<std::string> names;
    for (const auto id : node.reads()) names.push_back(fmt::format("{}{}", name(id), suffix));
    return names;
  }

  // ---- the lines

  void make_lines() {
    for (std::size_t i = 0; i < body_.values.size(); ++i) {
      const auto id = static_cast<ValueId>(i);
      if (body_.values[i].kind != ValueKind::input) continue;
      load(id, kOwn);
      if (is_turned(id)) load(id, kTurned);
    }
    for (const auto& node : body_.nodes) {
      compute(node, kOwn);
      if (is_turned(node.outputs[0])) compute(node, kTurned);
      for (const auto id : node.outputs)
        if (std::ranges::find(body_.outputs, id) != body_.outputs.end())
          lines_.push_back(
              {.text = {fmt::format("tl.store({0}_ptr + row * n_cols + cols, {0}, mask=mask)",
                                    name(id))},
               .reads = {name(id)},
               .is_store = true});
    }
  }

  void define(std::string defined, std::string_view value, bool is_zero_beyond,
              std::vector<std::string> reads = {}, bool varies = true) {
    if (is_zero_beyond) is_zero_beyond_.insert(defined);
    auto text = fmt::format("{} = {}", defined, value);
    lines_.push_back({.name = std::move(defined),
                      .text = {std::move(text)},
                      .varies = varies,
                      .reads = std::move(reads)});
  }

  std::string loaded(ValueId id, std::string_view at) const {
    return fmt::format("tl.load({}_ptr + {}, mask=mask, other=0.0).to(tl.float32)", name(id), at);
  }

  // Of an operand whose place the row alone decides.
  void load(ValueId id, const Columns& columns) {
    std::string at(columns.name);
    if (kind(id) == RowKind::rows)
      at = fmt::format("{} * {}_stride + {}", has_heads() ? "token" : "row", name(id),
                       has_heads() ? "head + " + at : at);
    else if (kind(id) == RowKind::half_vector)
      at = "tl.minimum(cols, turned)";
    else if (kind(id) != RowKind::vector)
      return;
    define(fmt::format("{}{}", name(id), columns.suffix), loaded(id, at), true);
  }

  void compute(const Node& node, const Columns& columns) {
    if (node.op == Op::gather_rows) gather(node, columns);
    if (node.op == Op::rope) turn(node);
    for (const auto& line : lines_of(node, Language::triton, columns)) {
      if (line.is_zero_beyond) is_zero_beyond_.insert(line.name);
      Line made{.name = line.name,
                .varies = line.varies,
                .reads = line.reads,
                .reduction = line.reduction};
      made.text.push_back(line.reduction != nullptr ? line.text
                                                    : fmt::format("{} = {}", line.name, line.text));
      if (line.is_result) round(made, columns);
      lines_.push_back(std::move(made));
    }
  }

  // As if it had been stored.
  void round(Line& line, const Columns& columns) const {
    const auto stem = line.name.substr(0, line.name.size() - columns.suffix.size());
    if (const auto dtype = type_of(stem); dtype != DType::fp32)
      line.text.push_back(
          fmt::format("{0} = {0}.to({1}).to(tl.float32)", line.name, triton_type(dtype)));
  }

  void gather(const Node& node, const Columns& columns) {
    const auto row = result(node) + "_row";
    if (columns.suffix.empty())
      define(row, fmt::format("tl.load({}_ptr + row).to(tl.int64)", in(node, 1)), false, {}, false);
    define(
        fmt::format("{}_read{}", result(node), columns.suffix),
        loaded(node.inputs[0], fmt::format("{} * {}_stride + {}", row, in(node, 0), columns.name)),
        true, {row});
  }

  void turn(const Node& node) {
    const auto& out = result(node);
    const auto& inv_freq = in(node, 2);
    define(out + "_angle",
           fmt::format("tl.load({}_ptr + token).to(tl.float32) * {}", in(node, 1), inv_freq), false,
           {inv_freq});
    define(out + "_sin",
           fmt::format("tl.where(cols < half, -tl.sin({0}_angle), tl.sin({0}_angle))", out), false,
           {out + "_angle"});
    define(out + "_cos", fmt::format("tl.cos({}_angle)", out), false, {out + "_angle"});
  }

  // ---- one after the other

  std::string place_of_head() const {
    return has_heads() ? "    token = row // group\n    head = row % group * n_cols\n" : "";
  }

  std::string whole() const {
    std::string text = reduces_rows(body_)
                           ? "    cols = tl.arange(0, BLOCK)\n"
                           : "    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)\n";
    text += "    mask = cols < n_cols\n" + place_of_head();
    if (std::ranges::count(is_turned_, true) > 0)
      text +=
          "    half = n_cols // 2\n"
          "    turned = tl.where(cols < half, cols + half, cols - half)\n";
    for (const auto& line : lines_) text += indented(line, 1);
    return text;
  }

  static std::string indented(const Line& line, std::size_t depth) {
    std::string text;
    for (const auto& statement : line.text) text += std::string(4 * depth, ' ') + statement + "\n";
    return text;
  }

  // Once over the row for each level of reductions, computing again what these read, and once more
  // for what is stored.
  std::string in_parts() const {
    const auto levels = this->levels();
    const int n_levels = *std::ranges::max_element(levels);
    std::string text = place_of_head() + numbers_of(levels, 0);
    for (int level = 1; level <= n_levels; ++level) {
      const auto is_reduced = [&](std::size_t i) {
        return lines_[i].reduction != nullptr && levels[i] == level;
      };
      for (std::size_t i = 0; i < lines_.size(); ++i)
        if (is_reduced(i))
          text += fmt::format("    {}_part = tl.full([BLOCK], {}, tl.float32)\n", lines_[i].name,
                              lines_[i].reduction->begin);
      text += loop(is_reduced);
      for (std::size_t i = 0; i < lines_.size(); ++i)
        if (is_reduced(i)) text += fmt::format("    {} = {}\n", lines_[i].name, total(lines_[i]));
      text += numbers_of(levels, level);
    }
    return text + loop([&](std::size_t i) { return lines_[i].is_store; });
  }

  // By line: how many reductions lie below it.
  std::vector<int> levels() const {
    std::map<std::string_view, int> of_name;
    std::vector<int> levels;
    for (const auto& line : lines_) {
      int level = 0;
      for (const auto& read : line.reads)
        if (const auto it = of_name.find(read); it != of_name.end())
          level = std::max(level, it->second);
      levels.push_back(level + (line.reduction != nullptr ? 1 : 0));
      of_name[line.name] = levels.back();
    }
    return levels;
  }

  std::string numbers_of(const std::vector<int>& levels, int level) const {
    std::string text;
    for (std::size_t i = 0; i < lines_.size(); ++i)
      if (!lines_[i].varies && lines_[i].reduction == nullptr && levels[i] == level)
        text += indented(lines_[i], 1);
    return text;
  }

  static std::string total(const Line& line) {
    const Piece part{line.name + "_part"};
    return expression::apply(*line.reduction, Language::triton, {&part, 1}).text;
  }

  // Over the row, with all that the wanted lines read.
  template <typename IsWanted>
  std::string loop(const IsWanted& is_wanted) const {
    std::set<std::string_view> read;
    std::vector<std::string> texts;
    for (auto i = lines_.size(); i-- > 0;) {
      const auto& line = lines_[i];
      const bool is_read = line.varies && line.reduction == nullptr && read.contains(line.name);
      if (!is_wanted(i) && !is_read) continue;
      read.insert(line.reads.begin(), line.reads.end());
      texts.push_back(line.reduction != nullptr ? step(line) : indented(line, 2));
    }
    std::string text =
        "    for start in range(0, n_cols, BLOCK):\n"
        "        cols = start + tl.arange(0, BLOCK)\n"
        "        mask = cols < n_cols\n";
    for (auto it = texts.rbegin(); it != texts.rend(); ++it) text += *it;
    return text;
  }

  static std::string step(const Line& line) {
    const auto part = line.name + "_part";
    std::string text(line.reduction->step);
    text.replace(text.find("{0}"), 3, part);
    text.replace(text.find("{1}"), 3, line.text[0]);
    return fmt::format("        {} = {}\n", part, text);
  }

  const Graph& body_;
  const std::vector<RowKind> kinds_;
  const std::vector<bool> is_turned_;
  std::vector<Line> lines_;
  std::set<std::string> is_zero_beyond_;
};

}  // namespace

std::optional<std::vector<RowKind>> row_kinds(const Graph& body) {
  std::vector<std::optional<RowKind>> kinds(body.values.size());
  for (const auto& node : body.nodes) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) continue;
      auto& kind = kinds[static_cast<std::size_t>(node.inputs[i])];
      const auto wanted = kind_of(body, node, i);
      if (kind.value_or(wanted) != wanted) return std::nullopt;
      kind = wanted;
    }
    for (const auto id : node.outputs) kinds[static_cast<std::size_t>(id)] = RowKind::rows;
  }
  std::vector<RowKind> all;
  for (const auto& kind : kinds) all.push_back(kind.value_or(RowKind::rows));
  return all;
}

std::vector<bool> turned_values(const Graph& body) {
  std::vector<bool> is_turned(body.values.size(), false);
  const auto is_read_turned = [&](ValueId id) { return is_turned[static_cast<std::size_t>(id)]; };
  for (auto node = body.nodes.rbegin(); node != body.nodes.rend(); ++node) {
    if (node->op == Op::rope) is_turned[static_cast<std::size_t>(node->inputs[0])] = true;
    if (std::ranges::none_of(node->outputs, is_read_turned)) continue;
    for (const auto id : node->outputs) is_turned[static_cast<std::size_t>(id)] = true;
    for (const auto id : node->reads()) is_turned[static_cast<std::size_t>(id)] = true;
  }
  return is_turned;
}

bool reduces_rows(const Graph& body) {
  return std::ranges::any_of(body.nodes,
                             [](const Node& node) { return formula_of(node).has_reduction(); });
}

bool loops_over_rows(const Graph& body) {
  return body.value(body.outputs[0]).shape.back().offset > kMaxReducedCols && reduces_rows(body);
}

int row_reads(const Graph& body) { return loops_over_rows(body) ? RowKernel(body).n_reads() : 1; }

std::string row_kernel_text(const Graph& body) { return RowKernel(body).text(); }
std::string row_formulas(const Graph& body) { return RowKernel(body).formulas(); }
std::string row_reference(const Graph& body) { return RowKernel(body).reference(); }

}  // namespace nereid::graph
