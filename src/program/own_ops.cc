#include "program/own_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nereid::program {

namespace {

using Kind = kernel::ArgumentSource::Kind;

std::string names_text(const graph::OpRow& row) {
  std::string text = fmt::format("{}; results {}", graph::roles_text(row.operands),
                                 graph::roles_text(row.results));
  for (std::size_t i = 0; i < row.attrs.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? "; attributes " : ", ", row.attrs[i].name);
  return text;
}

const std::string& line_of(const kernel::OwnOp& op, const kernel::Param& param) {
  const auto it = op.lines.find(param.name);
  return it == op.lines.end() ? op.where : it->second;
}

// What a parameter is of must be in the row.
void check_source(const kernel::OwnOp& op, const graph::OpRow& row, const kernel::Param& param) {
  const auto fail = [&](const std::string& expected) {
    throw Error("{}: parameter {}: expected {}; the row has the operands {}", line_of(op, param),
                param.name, expected, names_text(row));
  };
  const auto& of = param.of;
  if (of.is_of_value() || of.kind == Kind::presence) {
    if (!row.find_operand(of.name) && !row.find_result(of.name))
      fail(fmt::format("an operand or a result, got {}", of.name));
  } else if (of.is_of_attribute()) {
    if (row.find_attr(of.name) == nullptr) fail(fmt::format("an attribute, got {}", of.name));
  } else if (of.kind == Kind::none && (param.is_given() || !param.is_constexpr())) {
    fail("what it is of");
  }
  const bool is_memory = of.kind == Kind::scratch || of.kind == Kind::counter;
  if (param.is_pointer() && !is_memory && of.kind != Kind::value)
    fail("a pointer that is of an operand or a result");
}

// A result that no parameter writes would be whatever lay there.
void check_result(const kernel::OwnOp& op, const graph::OpRow& row, const graph::Role& result) {
  const auto& params = op.kernel->spec.params;
  const auto writes = [&](const kernel::Param& param) {
    const bool is_written =
        param.role == kernel::ParamRole::out || param.role == kernel::ParamRole::inout;
    if (!is_written || param.of.kind != Kind::value) return false;
    if (param.of.name == result.name) return true;
    return std::ranges::any_of(row.aliases, [&](const auto& alias) {
      return row.results[alias.first].name == result.name &&
             row.operands[alias.second].name == param.of.name;
    });
  };
  if (std::ranges::none_of(params, writes))
    throw Error(
        "{}: result {}: no parameter of the kernel writes it; expected out(\"{}_ptr\", ...)",
        op.row.results.where, result.name, result.name);
}

}  // namespace

void check_own_op(const kernel::OwnOp& op, const graph::OpRow& row) {
  for (const auto& param : op.kernel->spec.params) check_source(op, row, param);
  for (const auto& result : row.results) check_result(op, row, result);
  for (const auto& operand : row.operands)
    if (row.find_result(operand.name) && std::ranges::none_of(row.aliases, [&](const auto& alias) {
          return row.operands[alias.second].name == operand.name &&
                 row.results[alias.first].name == operand.name;
        }))
      throw Error("{}: {} is the name of an operand and of a result; expected {}={} in in_place",
                  op.row.results.where, operand.name, operand.name, operand.name);
}

void add_own_ops(std::span<const std::filesystem::path> files,
                 const std::filesystem::path& bundle_dir, graph::OpTable& ops,
                 kernel::SpecTable& specs) {
  for (const auto& file : files) {
    const auto op = kernel::load_own_op(file, bundle_dir);
    ops.add(op.row);
    check_own_op(op, ops.find(op.row.name.text)->row());
    specs.add(op.kernel);
  }
}

}  // namespace nereid::program
