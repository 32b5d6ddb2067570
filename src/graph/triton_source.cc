#include "graph/triton_source.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "graph/cluster.h"

namespace nereid::graph {

namespace {

constexpr std::size_t kMaxArguments = 24;  // of a launch, as for every kernel
constexpr std::size_t kMaxNamedOps = 3;
constexpr std::size_t kHashDigits = 12;
constexpr std::string_view kNameless = "KERNEL";  // stands for the name while the text is hashed

// What an operand of a row op is. Vectors are read by every row, half vectors once for each half of
// it; a table's rows are chosen by ids. Heads are rows of their own: a token's have one position.
enum class Kind : std::uint8_t { rows, vector, half_vector, table, ids, positions };

Kind kind_of(Op op, std::size_t operand) {
  if (op == Op::gather_rows) return operand == 0 ? Kind::table : Kind::ids;
  if (op == Op::rope && operand > 0) return operand == 1 ? Kind::positions : Kind::half_vector;
  return op == Op::rms_norm && operand == 1 ? Kind::vector : Kind::rows;
}

bool is_matrix(Kind kind) { return kind == Kind::rows || kind == Kind::table; }

bool is_reduction(const Graph& body) {
  return std::ranges::any_of(
      body.nodes, [](const Node& node) { return op_row(node.op).op_class == OpClass::reduction; });
}

// By value: whether RoPE reads it, or what it is computed from, at the other half's columns too.
std::vector<bool> turned_values(const Graph& body) {
  std::vector<bool> is_turned(body.values.size(), false);
  for (auto node = body.nodes.rbegin(); node != body.nodes.rend(); ++node) {
    if (node->op == Op::rope) is_turned[static_cast<std::size_t>(node->inputs[0])] = true;
    if (!is_turned[static_cast<std::size_t>(node->outputs[0])]) continue;
    for (const auto id : node->reads()) is_turned[static_cast<std::size_t>(id)] = true;
  }
  return is_turned;
}

// By value; operands have one use only. Nothing where a kernel of rows cannot read the body so.
std::optional<std::vector<Kind>> kinds_of(const Graph& body) {
  std::vector<std::optional<Kind>> kinds(body.values.size());
  for (const auto& node : body.nodes) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) continue;
      auto& kind = kinds[static_cast<std::size_t>(node.inputs[i])];
      if (kind.value_or(kind_of(node.op, i)) != kind_of(node.op, i)) return std::nullopt;
      kind = kind_of(node.op, i);
    }
    kinds[static_cast<std::size_t>(node.outputs[0])] = Kind::rows;
  }
  std::vector<Kind> all;
  for (const auto& kind : kinds) all.push_back(kind.value_or(Kind::rows));
  return all;
}

std::string number(double value) {
  auto text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

// "0.22 * " or nothing for 1.
std::string factor(double value) { return value == 1.0 ? "" : number(value) + " * "; }

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

class Writer {
 public:
  explicit Writer(Graph body)
      : body_(with_plain_names(std::move(body))),
        kinds_(kinds_of(body_).value()),
        is_turned_(turned_values(body_)),
        has_heads_(body_.value(body_.outputs[0]).shape.size() == 3) {
    for (std::size_t i = 0; i < body_.values.size(); ++i)
      if (body_.values[i].kind == ValueKind::input) operands_.push_back(static_cast<ValueId>(i));
  }

  std::shared_ptr<const kernel::GeneratedKernel> write() {
    const auto nameless = source();
    std::string stem;
    for (std::size_t i = 0; i < std::min(body_.nodes.size(), kMaxNamedOps); ++i)
      stem += std::string(op_row(body_.nodes[i].op).name) + "_";
    if (body_.nodes.size() > kMaxNamedOps)
      stem += fmt::format("and_{}_more_", body_.nodes.size() - kMaxNamedOps);
    const auto name = stem + sha256_hex(nameless).substr(0, kHashDigits);
    auto text = nameless;
    for (auto at = text.find(kNameless); at != std::string::npos; at = text.find(kNameless, at))
      text.replace(at, kNameless.size(), name);
    auto kernel = std::make_shared<kernel::GeneratedKernel>();
    kernel->spec = spec(name);
    kernel->spec.source_sha256 = sha256_hex(text);
    kernel->source = std::move(text);
    return kernel;
  }

 private:
  const std::string& name(ValueId id) const { return body_.value(id).name; }
  bool is_turned(ValueId id) const { return is_turned_[static_cast<std::size_t>(id)]; }
  Kind kind(ValueId id) const { return kinds_[static_cast<std::size_t>(id)]; }
  std::string_view type(ValueId id) const { return dtype_name(body_.value(id).dtype); }

  // ---- one op, four ways: in mathematics, in Triton, in numpy; and what it costs

  std::string formula(const Node& node) const {
    const auto in = [&](std::size_t i) { return name(node.inputs[i]); };
    const auto row = [&](std::size_t i) { return in(i) + "[r, :]"; };
    const auto alpha = [&] { return factor(node.float_attr("alpha")); };
    switch (node.op) {
      case Op::gather_rows:
        return fmt::format("{}{}[{}[r], :]", factor(node.float_attr("scale")), in(0), in(1));
      case Op::rms_norm:
        return fmt::format("{} / sqrt(mean({}^2) + {}) * {}", row(0), row(0), eps(node), in(1));
      case Op::silu_mul:
        return fmt::format("silu({}) * {}", row(0), row(1));
      case Op::add:
        return fmt::format("{} + {}{}", row(0), alpha(), row(1));
      case Op::rope:
        return fmt::format("{} turned by {}[token of r] * {}", row(0), in(1), in(2));
      default:
        return alpha() + row(0);
    }
  }

  static std::string eps(const Node& node) { return number(node.float_attr("eps")); }

  // Which columns of a row are computed: those of the program, or for RoPE those that they turn
  // with.
  struct Columns {
    std::string_view name, suffix;
  };
  static constexpr Columns kOwn{"cols", ""};
  static constexpr Columns kTurned{"turned", "_turned"};

  std::string triton(const Node& node, const Columns& columns) const {
    const auto in = [&](std::size_t i) {
      return fmt::format("{}{}", name(node.inputs[i]), columns.suffix);
    };
    const auto result = name(node.outputs[0]);
    const auto out = fmt::format("{}{}", result, columns.suffix);
    const auto alpha = [&] { return factor(node.float_attr("alpha")); };
    std::string before;
    std::string value;
    switch (node.op) {
      case Op::gather_rows:
        before = fmt::format("    {0}_row = tl.load({1}_ptr + row).to(tl.int64)\n", out, in(1));
        before +=
            fmt::format("    {} = {}\n", out,
                        load(node.inputs[0], fmt::format("{}_row * {}_stride + cols", out, in(0))));
        value = factor(node.float_attr("scale")) + out;
        break;
      case Op::rms_norm:
        if (columns.name == kOwn.name)
          before =
              fmt::format("    {0}_factor = tl.rsqrt(tl.sum({1} * {1}, axis=0) / n_cols + {2})\n",
                          out, in(0), eps(node));
        value = fmt::format("{} * {}_factor * {}", in(0), result, in(1));
        break;
      case Op::silu_mul:
        value = fmt::format("{0} / (1.0 + tl.exp(-{0})) * {1}", in(0), in(1));
        break;
      case Op::add:
        value = fmt::format("{} + {}{}", in(0), alpha(), in(1));
        break;
      case Op::rope:
        before = fmt::format(
            "    {0}_angle = tl.load({1}_ptr + token).to(tl.float32) * {2}\n"
            "    {0}_sin = tl.where(cols < half, -tl.sin({0}_angle), tl.sin({0}_angle))\n",
            out, in(1), in(2));
        value = fmt::format("{0} * tl.cos({1}_angle) + {0}_turned * {1}_sin", in(0), out);
        break;
      default:
        value = alpha() + in(0);
    }
    auto text = before;
    if (value != out) text += fmt::format("    {} = {}\n", out, value);
    const auto dtype = body_.value(node.outputs[0]).dtype;
    if (dtype != DType::fp32)
      text += fmt::format("    {0} = {0}.to({1}).to(tl.float32)\n", out, triton_type(dtype));
    return text;
  }

  std::string load(ValueId id, const std::string& at) const {
    return fmt::format("tl.load({}_ptr + {}, mask=mask, other=0.0).to(tl.float32)", name(id), at);
  }

  // Of an operand whose place the row alone decides; nothing for others.
  std::string load_line(ValueId id, const Columns& columns) const {
    std::string at(columns.name);
    if (kind(id) == Kind::rows)
      at = fmt::format("{} * {}_stride + {}", has_heads_ ? "token" : "row", name(id),
                       has_heads_ ? "head + " + at : at);
    else if (kind(id) == Kind::half_vector)
      at = "tl.minimum(cols, turned)";
    else if (kind(id) != Kind::vector)
      return {};
    return fmt::format("    {}{} = {}\n", name(id), columns.suffix, load(id, at));
  }

  std::string numpy(const Node& node) const {
    std::string arguments;
    for (const auto id : node.reads()) arguments += name(id) + ", ";
    if (node.op == Op::rms_norm)
      arguments += "eps=" + eps(node);
    else if (node.op == Op::gather_rows)
      arguments += "scale=" + number(node.float_attr("scale"));
    else if (node.op == Op::add || node.op == Op::scale)
      arguments += "alpha=" + number(node.float_attr("alpha"));
    else
      arguments.resize(arguments.size() - 2);
    return fmt::format("rounded(row_ops.{}({}), \"{}\")", op_row(node.op).name, arguments,
                       type(node.outputs[0]));
  }

  static int flops_of(Op op) {  // an element, as the op's own kernel counts them
    switch (op) {
      case Op::rms_norm:
        return 4;
      case Op::silu_mul:
        return 5;
      case Op::rope:
        return 3;
      case Op::add:
        return 2;
      default:
        return 1;
    }
  }

  // ---- the Spec: parameters as (constructor in kernels/spec.py, role, name, type, shape)

  struct Row {
    std::string_view maker;
    kernel::ParamRole role;
    std::string name;
    std::string type;
    std::vector<std::string> shape;  // of a constexpr: its value
  };

  std::vector<Row> rows() const {
    using Role = kernel::ParamRole;
    std::vector<Row> rows;
    for (const auto id : body_.outputs)
      rows.push_back(
          {"out", Role::out, name(id) + "_ptr", std::string(type(id)), {"n_rows", "n_cols"}});
    for (const auto id : operands_) {
      Row row{"inp", Role::in, name(id) + "_ptr", std::string(type(id)), {"n_rows"}};
      if (has_heads_) row.shape = {"cdiv(n_rows, group)"};
      if (is_matrix(kind(id))) row.shape.push_back(name(id) + "_stride");
      if (kind(id) == Kind::vector) row.shape = {"n_cols"};
      if (kind(id) == Kind::half_vector) row.shape = {"n_cols // 2"};
      rows.push_back(std::move(row));
    }
    rows.push_back({"step_size", Role::size, "n_rows", "i32", {}});
    rows.push_back({"size", Role::size, "n_cols", "i32", {}});
    if (has_heads_) rows.push_back({"size", Role::size, "group", "i32", {}});
    for (const auto id : operands_)
      if (is_matrix(kind(id)))
        rows.push_back({"stride", Role::stride, name(id) + "_stride", "i64", {}});
    if (is_reduction(body_))
      rows.push_back({"derived", Role::constexpr_, "BLOCK", "", {"next_pow2(n_cols)"}});
    else
      rows.push_back({"tuned", Role::constexpr_, "BLOCK", "", {}});
    return rows;
  }

  std::array<std::string, 3> grid() const {
    return {"n_rows", is_reduction(body_) ? "1" : "cdiv(n_cols, BLOCK)", "1"};
  }

  std::string bytes() const {
    std::string of_rows;
    std::string others;
    const auto size = [&](ValueId id) { return fmt::format("sizeof({}_ptr)", name(id)); };
    for (const auto id : body_.outputs) of_rows += (of_rows.empty() ? "" : " + ") + size(id);
    for (const auto id : operands_) {
      if (is_matrix(kind(id)))
        of_rows += " + " + size(id);
      else
        others += fmt::format(" + {} * {}",
                              kind(id) == Kind::vector        ? "n_cols"
                              : kind(id) == Kind::half_vector ? "n_cols // 2"
                              : kind(id) == Kind::positions   ? "cdiv(n_rows, group)"
                                                              : "n_rows",
                              size(id));
    }
    return fmt::format("n_rows * n_cols * ({}){}", of_rows, others);
  }

  std::string flops() const {
    int n = 0;
    for (const auto& node : body_.nodes) n += flops_of(node.op);
    return fmt::format("{} * n_rows * n_cols", n);
  }

  struct Default {
    std::string_view family, block, num_warps;
  };
  std::array<Default, 3> defaults() const {
    if (is_reduction(body_))
      return {{{"cpu", "", "1"},
               {"cuda", "",
                "1 if BLOCK <= 256 else 4 if BLOCK <= 4096 else 8 if BLOCK <= 8192 else 16"},
               {"hip", "", "1 if BLOCK <= 512 else 4 if BLOCK <= 4096 else 8"}}};
    return {{{"cpu", "min(next_pow2(n_cols), 4096)", "1"},
             {"cuda", "1024", "4"},
             {"hip", "1024", "4"}}};
  }

  // Where the planner takes the parameter from: values of the body by their names.
  std::string source_of(const Row& row) const {
    const auto stem = [&](std::string_view suffix) {
      return row.name.substr(0, row.name.size() - suffix.size());
    };
    const auto& result = name(body_.outputs[0]);
    if (row.role == kernel::ParamRole::stride) return stem("_stride") + ".stride";
    if (row.role != kernel::ParamRole::size) return stem("_ptr");
    if (row.name == "n_rows") return result + ".rows";
    return row.name == "n_cols" ? result + "[-1]" : result + ".group";
  }

  kernel::Spec spec(const std::string& kernel_name) const {
    const auto where = "generated kernel " + kernel_name;
    const auto parsed = [&](std::string_view text) {
      return kernel::Expression::parse(text, where);
    };
    kernel::Spec spec;
    spec.name = kernel_name;
    for (const auto& row : rows()) {
      kernel::Param param;
      param.name = row.name;
      param.role = row.role;
      param.is_step = row.maker == "step_size";
      param.is_tuned = row.maker == "tuned";
      if (!row.type.empty()) param.types = {row.type};
      if (!param.is_constexpr()) param.of = kernel::ArgumentSource::parse(source_of(row), where);
      if (param.is_pointer())
        for (const auto& axis : row.shape) param.shape.push_back(parsed(axis));
      else if (param.is_constexpr() && !row.shape.empty())
        param.value = parsed(row.shape[0]);
      spec.params.push_back(std::move(param));
    }
    for (std::size_t i = 0; i < spec.grid.size(); ++i) spec.grid[i] = parsed(grid()[i]);
    spec.bytes = parsed(bytes());
    spec.flops = parsed(flops());
    for (const auto& row : defaults()) {
      auto& choice = spec.defaults[std::string(row.family)];
      if (!row.block.empty()) choice["BLOCK"] = parsed(row.block);
      choice["num_warps"] = parsed(row.num_warps);
      choice["num_stages"] = parsed("1");
    }
    return spec;
  }

  // ---- the file

  std::string source() const {
    return docstring() + imports() + kernel_text() + reference() + spec_text();
  }

  std::string docstring() const {
    std::string text =
        fmt::format("\"\"\"{} operations on the same rows, as one kernel.\n\n", body_.nodes.size());
    for (const auto& node : body_.nodes)
      text += fmt::format("    {}[r, :] = {}\n", name(node.outputs[0]), formula(node));
    text += "\n";
    std::string values;
    for (const auto id : body_.outputs) values += fmt::format("{} {} [R, C]; ", name(id), type(id));
    for (const auto id : operands_)
      values += fmt::format("{} {} {}; ", name(id), type(id),
                            kind(id) == Kind::rows        ? "[R, C]"
                            : kind(id) == Kind::vector    ? "[C]"
                            : kind(id) == Kind::table     ? "[any, C]"
                            : kind(id) == Kind::ids       ? "[R]"
                            : kind(id) == Kind::positions ? "[R / group]"
                                                          : "[C / 2]");
    values.resize(values.size() - 2);
    return text +
           fmt::format(
               "{}.\n{} may lie further apart than C. Grid: one program {}.\n"
               "Arithmetic: fp32; each value is rounded to its type, as if it had been stored: "
               "the\n"
               "result is that of the operations one by one. Written by the graph compiler.\n"
               "\"\"\"\n\n",
               values,
               has_heads_ ? "Rows are heads, `group` a token; tokens of operands"
                          : "Rows of operands",
               is_reduction(body_) ? "a row" : "a part of a row");
  }

  std::string imports() const {
    return fmt::format(
        "import triton\nimport triton.language as tl\n\nfrom kernels.lib import row_ops\n"
        "from kernels.lib.numbers import rounded\n"
        "from kernels.spec import Spec, {}inp, out, size, step_size, stride{}\n\n\n",
        is_reduction(body_) ? "derived, " : "", is_reduction(body_) ? "" : ", tuned");
  }

  std::string kernel_text() const {
    std::string text = fmt::format("@triton.jit\ndef {}(\n", kNameless);
    const auto tables = this->tables();
    for (const auto& row : rows()) {
      std::string shape;
      for (const auto& axis : row.shape) shape += (shape.empty() ? "" : ", ") + axis;
      if (tables.find("\"" + row.name) != std::string::npos) shape = "any, " + row.shape[1];
      text += "    " + row.name;
      if (row.role == kernel::ParamRole::constexpr_)
        text += ": tl.constexpr,\n";
      else if (!shape.empty())
        text += fmt::format(",  # {}[{}]\n", row.type, shape);
      else
        text += ",\n";
    }
    text += "):\n    row = tl.program_id(0).to(tl.int64)\n";
    text += is_reduction(body_) ? "    cols = tl.arange(0, BLOCK)\n"
                                : "    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)\n";
    text += "    mask = cols < n_cols\n";
    if (has_heads_) text += "    token = row // group\n    head = row % group * n_cols\n";
    if (std::ranges::count(is_turned_, true) > 0)
      text +=
          "    half = n_cols // 2\n"
          "    turned = tl.where(cols < half, cols + half, cols - half)\n";
    for (const auto id : operands_) {
      text += load_line(id, kOwn);
      if (is_turned(id)) text += load_line(id, kTurned);
    }
    for (const auto& node : body_.nodes) {
      text += triton(node, kOwn);
      const auto id = node.outputs[0];
      if (is_turned(id)) text += triton(node, kTurned);
      if (std::ranges::find(body_.outputs, id) != body_.outputs.end())
        text +=
            fmt::format("    tl.store({0}_ptr + row * n_cols + cols, {0}, mask=mask)\n", name(id));
    }
    return text + "\n\n";
  }

  // The operations one by one, in numpy.
  std::string reference() const {
    std::string text = "def reference(a):\n";
    for (const auto id : operands_)
      text += fmt::format("    {0} = row_ops.operand(a, \"{0}_ptr\")\n", name(id));
    for (const auto& node : body_.nodes)
      text += fmt::format("    {} = {}\n", name(node.outputs[0]), numpy(node));
    text += "    return row_ops.results(a, ";
    for (const auto id : body_.outputs)
      text += fmt::format("{}{}_ptr={}", id == body_.outputs[0] ? "" : ", ", name(id), name(id));
    return text + ")\n\n\n";
  }

  std::string spec_text() const {
    std::string text = "PARAMS = (\n";
    for (const auto& row : rows()) {
      text += fmt::format("    {}(\"{}\"", row.maker, row.name);
      if (row.role == kernel::ParamRole::out || row.role == kernel::ParamRole::in)
        text += fmt::format(", \"{}\"", row.type);
      for (const auto& axis : row.shape) text += fmt::format(", \"{}\"", axis);
      text += "),\n";
    }
    text += fmt::format(
        ")\n\nSPEC = Spec(\n    fn={},\n    params=PARAMS,\n    grid=(\"{}\", \"{}\", \"{}\"),\n"
        "    bytes=\"{}\",\n    flops=\"{}\",\n    reference=reference,\n"
        "    cases=lambda act: row_ops.cases(PARAMS{}),\n"
        "    draw=lambda d, act: row_ops.draw(d, PARAMS{}),\n",
        kNameless, grid()[0], grid()[1], grid()[2], bytes(), flops(), tables(), tables());
    if (!is_reduction(body_)) text += "    tuned=(\"BLOCK\",),\n";
    text += "    default={\n";
    for (const auto& row : defaults()) {
      text += fmt::format("        \"{}\": {{", row.family);
      if (!row.block.empty()) text += fmt::format("\"BLOCK\": \"{}\", ", row.block);
      text += fmt::format("\"num_warps\": \"{}\", \"num_stages\": 1}},\n", row.num_warps);
    }
    return text + "    },\n)\n";
  }

  // An argument of row_ops.cases and draw; nothing where there are none.
  std::string tables() const {
    std::string names;
    for (const auto id : operands_)
      if (kind(id) == Kind::table) names += fmt::format("\"{}_ptr\", ", name(id));
    return names.empty() ? names : fmt::format(", tables=({})", names.substr(0, names.size() - 1));
  }

  const Graph body_;
  const std::vector<Kind> kinds_;
  const std::vector<bool> is_turned_;
  const bool has_heads_;  // rows are heads: [T, H, Dh]
  std::vector<ValueId> operands_;
};

}  // namespace

bool can_generate(const Graph& body) {
  const auto kinds = kinds_of(body);
  if (!kinds || body.nodes.empty() || body.outputs.empty()) return false;
  const auto& shape = body.value(body.nodes[0].outputs[0]).shape;
  const bool is_rows = (shape.size() == 2 || shape.size() == 3) && shape[1].is_constant() &&
                       shape.back().is_constant() &&
                       (shape[0].is_constant() || shape[0].offset == 0);
  if (!is_rows || (is_reduction(body) && shape.back().offset > kMaxReducedCols)) return false;
  const auto is_turned = turned_values(body);
  for (const auto& node : body.nodes) {
    if (body.value(node.outputs[0]).shape != shape) return false;
    // What is turned once is computed at two columns, what is turned twice would be at four.
    if (node.op == Op::rope &&
        (is_turned[static_cast<std::size_t>(node.outputs[0])] || shape.back().offset % 2 != 0))
      return false;
  }
  std::size_t n_arguments = body.outputs.size() + shape.size();  // n_rows, n_cols, group
  for (std::size_t i = 0; i < body.values.size(); ++i) {
    if (body.values[i].kind != ValueKind::input) continue;
    n_arguments += is_matrix((*kinds)[i]) ? 2 : 1;
  }
  return n_arguments <= kMaxArguments;
}

std::shared_ptr<const kernel::GeneratedKernel> generate_kernel(const Graph& body) {
  NEREID_CHECK(can_generate(body), "{}", body_text(body));
  return Writer(body).write();
}

}  // namespace nereid::graph
