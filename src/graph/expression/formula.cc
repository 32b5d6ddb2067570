#include "graph/expression/formula.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "base/error.h"

namespace nereid::graph::expression {

namespace {

class Expansion {
 public:
  explicit Expansion(const std::string& where) : where_(where) {}

  Formula run(const Body& body) {
    formula_.n_operands = body.n_operands;
    std::vector<std::uint32_t> operands;
    for (std::uint32_t i = 0; i < body.n_operands; ++i)
      operands.push_back(add({.kind = Term::Kind::operand, .operand = i, .varies = true}));
    formula_.results = results_of(body, operands);
    for (const auto result : formula_.results)
      if (formula_.terms[result].kind == Term::Kind::number)
        throw Error("{}: a result is {} whatever the operands are; expected one that reads them",
                    where_, number_piece(formula_.terms[result].number).text);
    return read_only();
  }

 private:
  // Without what no result reads, such as the branch that a constant comparison leaves out.
  Formula read_only() const {
    std::vector<bool> is_read(formula_.terms.size(), false);
    for (const auto result : formula_.results) is_read[result] = true;
    for (auto i = formula_.terms.size(); i-- > 0;)
      if (is_read[i])
        for (const auto operand : formula_.terms[i].reads()) is_read[operand] = true;
    Formula kept{.n_operands = formula_.n_operands};
    std::vector<std::uint32_t> place(formula_.terms.size(), 0);
    for (std::size_t i = 0; i < formula_.terms.size(); ++i) {
      if (!is_read[i]) continue;
      place[i] = static_cast<std::uint32_t>(kept.terms.size());
      auto term = formula_.terms[i];
      for (std::size_t j = 0; j < term.n_operands; ++j) term.operands[j] = place[term.operands[j]];
      kept.terms.push_back(term);
      kept.names.push_back(formula_.names[i]);
    }
    for (const auto result : formula_.results) kept.results.push_back(place[result]);
    return kept;
  }

  // Helpers call only such as stand above them: this ends.
  std::vector<std::uint32_t> results_of(const Body& body, std::span<const std::uint32_t> operands) {
    std::vector<std::uint32_t> named(operands.begin(), operands.end());
    std::vector<std::uint32_t> terms;  // by node
    std::size_t next = 0;              // statement
    const auto define = [&] {
      const auto& statement = body.statements[next++];
      const auto term = terms[statement.value];
      named.push_back(term);
      auto& name = formula_.names[term];
      if (name.empty() && formula_.terms[term].kind == Term::Kind::operation)
        name = body.names[statement.name];
    };
    for (std::size_t i = 0; i < body.nodes.size(); ++i) {
      // Nodes are in the order of the text: a statement is complete where its value is.
      while (next < body.statements.size() && body.statements[next].value < i) define();
      terms.push_back(term_of(body.nodes[i], named, terms));
    }
    std::vector<std::uint32_t> results;
    for (const auto result : body.results) results.push_back(terms[result]);
    return results;
  }

  std::uint32_t term_of(const Body::Node& node, std::span<const std::uint32_t> named,
                        std::span<const std::uint32_t> terms) {
    if (node.kind == Body::Kind::number) return number(node.number);
    if (node.kind == Body::Kind::name) return named[node.index];
    std::vector<std::uint32_t> operands;
    for (const auto operand : node.operands) operands.push_back(terms[operand]);
    if (node.kind == Body::Kind::helper)
      return results_of(helper_table()[node.index].body, operands)[0];
    return operation(operator_row(static_cast<Operator>(node.index)), operands);
  }

  // fp32 holds no more than that.
  std::uint32_t number(double value) {
    if (std::abs(value) > std::numeric_limits<float>::max())
      value = std::copysign(std::numeric_limits<double>::infinity(), value);
    return add({.kind = Term::Kind::number, .number = value});
  }

  std::uint32_t operation(const OperatorRow& row, std::span<const std::uint32_t> operands) {
    const auto& terms = formula_.terms;
    const auto is_number = [&](std::uint32_t term) {
      return terms[term].kind == Term::Kind::number;
    };
    if (row.is_reduction() && !terms[operands[0]].varies)
      throw Error("{}: {} of what is the same in all of a row", where_, row.text);
    if (std::ranges::all_of(operands, is_number)) {
      std::array<double, 3> values{};
      for (std::size_t i = 0; i < operands.size(); ++i) values[i] = terms[operands[i]].number;
      return number(row.value(values[0], values[1], values[2]));
    }
    if (row.op == Operator::where && is_number(operands[0]))
      return terms[operands[0]].number != 0 ? operands[1] : operands[2];
    if (row.op == Operator::mul)
      for (const std::size_t one : {0, 1})
        if (is_number(operands[one]) && terms[operands[one]].number == 1.0)
          return operands[1 - one];
    Term term{.kind = Term::Kind::operation, .op = row.op};
    term.n_operands = static_cast<std::uint32_t>(operands.size());
    std::ranges::copy(operands, term.operands.begin());
    term.varies = !row.is_reduction() && std::ranges::any_of(operands, [&](std::uint32_t operand) {
      return terms[operand].varies;
    });
    return add(term);
  }

  std::uint32_t add(const Term& term) {
    const auto key = std::tuple(term.kind, std::bit_cast<std::uint64_t>(term.number), term.operand,
                                term.op, term.operands);
    const auto [it, is_new] = made_.emplace(key, static_cast<std::uint32_t>(formula_.terms.size()));
    if (!is_new) return it->second;
    if (formula_.terms.size() == kMaxTerms)
      throw Error("{}: more than {} operations, helpers written out", where_, kMaxTerms);
    formula_.terms.push_back(term);
    formula_.names.emplace_back();
    return it->second;
  }

  using Key =
      std::tuple<Term::Kind, std::uint64_t, std::uint32_t, Operator, std::array<std::uint32_t, 3>>;
  const std::string& where_;
  Formula formula_;
  std::map<Key, std::uint32_t> made_;
};

}  // namespace

bool Formula::has_reduction() const {
  return std::ranges::any_of(terms, [](const Term& term) {
    return term.kind == Term::Kind::operation && operator_row(term.op).is_reduction();
  });
}

int Formula::flops() const {
  int n = 0;
  for (const auto& term : terms)
    if (term.kind == Term::Kind::operation && (term.varies || operator_row(term.op).is_reduction()))
      n += operator_row(term.op).flops;
  return n;
}

Formula expand(const Body& body, const std::string& where) { return Expansion(where).run(body); }

}  // namespace nereid::graph::expression
