#include "graph/triton_source.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "graph/cluster.h"
#include "graph/row_kernel.h"

namespace nereid::graph {

namespace {

constexpr std::size_t kMaxArguments = 25;  // of a launch, as for every kernel
constexpr std::size_t kMaxNamedOps = 3;
constexpr std::size_t kHashDigits = 12;
constexpr std::string_view kNameless = "KERNEL";  // stands for the name while the text is hashed

class Writer {
 public:
  explicit Writer(Graph body)
      : body_(with_plain_names(std::move(body))),
        kinds_(row_kinds(body_).value()),
        is_reduction_(reduces_rows(body_)),
        is_loop_(loops_over_rows(body_)),
        has_heads_(body_.value(body_.outputs[0]).shape.size() == 3) {
    for (std::size_t i = 0; i < body_.values.size(); ++i)
      if (body_.values[i].kind == ValueKind::input) operands_.push_back(static_cast<ValueId>(i));
  }

  std::shared_ptr<const kernel::GeneratedKernel> write() {
    const auto nameless = source();
    std::string stem;
    for (std::size_t i = 0; i < std::min(body_.nodes.size(), kMaxNamedOps); ++i)
      stem += std::string(body_.nodes[i].row().name) + "_";
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
  RowKind kind(ValueId id) const { return kinds_[static_cast<std::size_t>(id)]; }
  std::string_view type(ValueId id) const { return dtype_name(body_.value(id).dtype); }

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
      if (kind(id) == RowKind::vector) row.shape = {"n_cols"};
      if (kind(id) == RowKind::half_vector) row.shape = {"n_cols // 2"};
      rows.push_back(std::move(row));
    }
    rows.push_back({"step_size", Role::size, "n_rows", "i32", {}});
    rows.push_back({"size", Role::size, "n_cols", "i32", {}});
    if (has_heads_) rows.push_back({"size", Role::size, "group", "i32", {}});
    for (const auto id : operands_)
      if (is_matrix(kind(id)))
        rows.push_back({"stride", Role::stride, name(id) + "_stride", "i64", {}});
    if (is_reduction_)
      rows.push_back({"derived", Role::constexpr_, "BLOCK", "", {std::string(block())}});
    else
      rows.push_back({"tuned", Role::constexpr_, "BLOCK", "", {}});
    return rows;
  }

  // Of a row that is reduced: all of it, or a part.
  std::string_view block() const { return is_loop_ ? "4096" : "next_pow2(n_cols)"; }

  std::array<std::string, 3> grid() const {
    return {"n_rows", is_reduction_ ? "1" : "cdiv(n_cols, BLOCK)", "1"};
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
                              kind(id) == RowKind::vector        ? "n_cols"
                              : kind(id) == RowKind::half_vector ? "n_cols // 2"
                              : kind(id) == RowKind::positions   ? "cdiv(n_rows, group)"
                                                                 : "n_rows",
                              size(id));
    }
    return fmt::format("n_rows * n_cols * ({}){}", of_rows, others);
  }

  std::string flops() const {
    int n = 0;
    for (const auto& node : body_.nodes) n += formula_of(node).flops();
    return fmt::format("{} * n_rows * n_cols", n);
  }

  struct Default {
    std::string_view family, block, num_warps;
  };
  std::array<Default, 3> defaults() const {
    if (is_reduction_)
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
    return docstring() + imports() + kernel_text() + row_reference(body_) + "\n\n" + spec_text();
  }

  std::string docstring() const {
    auto text = body_.nodes.size() == 1
                    ? "\"\"\"An operation on rows that is given as an expression.\n\n"
                    : fmt::format("\"\"\"{} operations on the same rows, as one kernel.\n\n",
                                  body_.nodes.size());
    text += row_formulas(body_) + "\n";
    std::string values;
    for (const auto id : body_.outputs) values += fmt::format("{} {} [R, C]; ", name(id), type(id));
    for (const auto id : operands_)
      values += fmt::format("{} {} {}; ", name(id), type(id),
                            kind(id) == RowKind::rows        ? "[R, C]"
                            : kind(id) == RowKind::vector    ? "[C]"
                            : kind(id) == RowKind::table     ? "[any, C]"
                            : kind(id) == RowKind::ids       ? "[R]"
                            : kind(id) == RowKind::positions ? "[R / group]"
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
               !is_reduction_ ? "a part of a row"
               : is_loop_     ? "a row, which is read in parts"
                              : "a row");
  }

  std::string imports() const {
    return fmt::format(
        "import numpy as np\nimport triton\nimport triton.language as tl\n\n"
        "from kernels.lib import expressions, row_ops\n"
        "from kernels.spec import Spec, {}inp, out, size, step_size, stride{}\n\n\n",
        is_reduction_ ? "derived, " : "", is_reduction_ ? "" : ", tuned");
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
    return text + "):\n" + row_kernel_text(body_) + "\n\n";
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
        kNameless, grid()[0], grid()[1], grid()[2], bytes(), flops(), drawn(), drawn());
    if (!is_reduction_) text += "    tuned=(\"BLOCK\",),\n";
    if (const auto coarsest = coarser_than_results(); coarsest != DType::fp32)
      text += fmt::format("    tolerance=row_ops.tolerance(\"{}\"),\n", dtype_name(coarsest));
    text += "    default={\n";
    for (const auto& row : defaults()) {
      text += fmt::format("        \"{}\": {{", row.family);
      if (!row.block.empty()) text += fmt::format("\"BLOCK\": \"{}\", ", row.block);
      text += fmt::format("\"num_warps\": \"{}\", \"num_stages\": 1}},\n", row.num_warps);
    }
    return text + "    },\n)\n";
  }

  // What is rounded on the way to fewer digits than a result has: the result has no more of them
  // right. fp32 where nothing is.
  DType coarser_than_results() const {
    constexpr auto kByDigits = std::to_array({DType::bf16, DType::fp16, DType::fp32});
    const auto place = [&](DType dtype) { return std::ranges::find(kByDigits, dtype); };
    const auto* coarsest = std::end(kByDigits) - 1;
    const auto* finest = kByDigits.begin();
    for (const auto& node : body_.nodes) {
      for (const auto id : node.outputs)
        coarsest = std::min(coarsest, place(body_.value(id).dtype));
      for (const auto& term : formula_of(node).terms) {
        if (term.kind != expression::Term::Kind::operation) continue;
        if (term.op == expression::Operator::fp16)
          coarsest = std::min(coarsest, place(DType::fp16));
        if (term.op == expression::Operator::bf16)
          coarsest = std::min(coarsest, place(DType::bf16));
      }
    }
    for (const auto id : body_.outputs) finest = std::max(finest, place(body_.value(id).dtype));
    return coarsest < finest ? *coarsest : DType::fp32;
  }

  // Arguments of row_ops.cases and draw.
  std::string drawn() const {
    std::string text = tables().empty() ? "" : fmt::format(", tables=({})", tables());
    return is_loop_ ? text + ", is_long=True" : text;
  }

  std::string tables() const {
    std::string names;
    for (const auto id : operands_)
      if (kind(id) == RowKind::table)
        names += fmt::format("{}\"{}_ptr\",", names.empty() ? "" : " ", name(id));
    return names;
  }

  const Graph body_;
  const std::vector<RowKind> kinds_;
  const bool is_reduction_;
  const bool is_loop_;
  const bool has_heads_;  // rows are heads: [T, H, Dh]
  std::vector<ValueId> operands_;
};

}  // namespace

bool can_generate(const Graph& body) {
  const auto kinds = row_kinds(body);
  if (!kinds || body.nodes.empty() || body.outputs.empty()) return false;
  const auto& shape = body.value(body.nodes[0].outputs[0]).shape;
  const bool is_rows = (shape.size() == 2 || shape.size() == 3) && shape[1].is_constant() &&
                       shape.back().is_constant() &&
                       (shape[0].is_constant() || shape[0].offset == 0);
  if (!is_rows) return false;
  const auto is_turned = turned_values(body);
  // A row in parts has no other half at hand.
  if (loops_over_rows(body) && std::ranges::count(is_turned, true) > 0) return false;
  std::size_t n_terms = 0;
  for (const auto& node : body.nodes) {
    n_terms += formula_of(node).terms.size();
    for (const auto id : node.outputs)
      if (body.value(id).shape != shape) return false;
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
  return n_arguments <= kMaxArguments && n_terms <= expression::kMaxTerms;
}

std::shared_ptr<const kernel::GeneratedKernel> generate_kernel(const Graph& body) {
  NEREID_CHECK(can_generate(body), "{}", body_text(body));
  return Writer(body).write();
}

}  // namespace nereid::graph
