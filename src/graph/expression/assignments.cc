#include "graph/expression/assignments.h"

#include <algorithm>

#include <fmt/format.h>

namespace nereid::graph::expression {

namespace {

// What stands in one another on a line: more is hard to read, and Python's own parser has an end.
constexpr int kMaxInline = 8;

class Lines {
 public:
  Lines(const Formula& formula, const Wording& wording)
      : formula_(formula), wording_(wording), names_(formula.terms.size()) {
    choose_names();
    find_zeros();
  }

  std::vector<Assignment> write() {
    for (std::uint32_t i = 0; i < formula_.terms.size(); ++i)
      if (!names_[i].empty() && (formula_.terms[i].varies || !wording_.is_second)) write(i);
    for (std::size_t i = 0; i < formula_.results.size(); ++i) {
      const auto term = formula_.results[i];
      auto line = begin(wording_.results[i] + wording_.suffix, term);
      line.is_result = true;
      line.text = piece(term, line).text;
      if (wording_.language == Language::triton && !formula_.terms[term].varies)
        line.text = fmt::format("tl.broadcast_to({}, [BLOCK])", line.text);
      line.varies = true;
      lines_.push_back(std::move(line));
    }
    return std::move(lines_);
  }

 private:
  bool is_operation(std::uint32_t term) const {
    return formula_.terms[term].kind == Term::Kind::operation;
  }
  const OperatorRow& row(std::uint32_t term) const { return operator_row(formula_.terms[term].op); }

  void choose_names() {
    const auto& terms = formula_.terms;
    std::vector<int> n_readers(terms.size(), 0);
    std::vector<bool> is_of_varying(terms.size(), false);  // or a result
    for (const auto& term : terms)
      for (const auto operand : term.reads()) {
        ++n_readers[operand];
        if (term.varies) is_of_varying[operand] = true;
      }
    for (const auto result : formula_.results) {
      n_readers[result] += is_operation(result) && n_readers[result] > 0 ? 1 : 0;
      is_of_varying[result] = true;
    }
    std::vector<int> depths(terms.size(), 0);
    int n_nameless = 0;
    for (std::uint32_t i = 0; i < terms.size(); ++i) {
      if (!is_operation(i)) continue;
      for (const auto operand : terms[i].reads())
        if (names_[operand].empty()) depths[i] = std::max(depths[i], depths[operand] + 1);
      const bool is_named = !formula_.names[i].empty() && n_readers[i] > 0;
      const bool is_of_row = !terms[i].varies && is_of_varying[i];
      const bool is_apart = wording_.are_reductions_apart && row(i).is_reduction();
      if (!is_named && n_readers[i] < 2 && !is_of_row && !is_apart && depths[i] < kMaxInline)
        continue;
      const auto& hint = formula_.names[i];
      const auto local = is_local(hint) ? hint : fmt::format("{}", ++n_nameless);
      names_[i] = fmt::format("{}_{}{}", wording_.results[0], local,
                              terms[i].varies ? wording_.suffix : "");
    }
  }

  // Names that end otherwise are the kernel's, or another term's for the second set of columns.
  static bool is_local(const std::string& hint) {
    constexpr std::string_view kEnds[] = {"ptr", "stride", "row",   "read", "turned",
                                          "cos", "sin",    "angle", "part"};
    return !hint.empty() && hint.find('_') == std::string::npos &&
           std::ranges::find(kEnds, hint) == std::end(kEnds);
  }

  // Only what numbers cannot make inexact: 0 of zeros and of constants.
  void find_zeros() {
    is_zero_.resize(formula_.terms.size(), false);
    for (std::uint32_t i = 0; i < formula_.terms.size(); ++i) {
      const auto& term = formula_.terms[i];
      if (term.kind == Term::Kind::operand) is_zero_[i] = wording_.is_zero_beyond[term.operand];
      if (!is_operation(i) || !term.varies) continue;
      std::array<double, 3> values{};
      bool is_known = true;
      for (std::size_t j = 0; j < term.n_operands; ++j) {
        const auto& operand = formula_.terms[term.operands[j]];
        const bool is_number = operand.kind == Term::Kind::number;
        is_known = is_known && (is_number || is_zero_[term.operands[j]]);
        values[j] = is_number ? operand.number : 0.0;
      }
      is_zero_[i] = is_known && row(i).value(values[0], values[1], values[2]) == 0.0;
    }
  }

  Assignment begin(std::string name, std::uint32_t term) const {
    Assignment line{.name = std::move(name)};
    line.varies = formula_.terms[term].varies;
    line.is_zero_beyond = is_zero_[term];
    return line;
  }

  void write(std::uint32_t term) {
    auto line = begin(names_[term], term);
    if (wording_.are_reductions_apart && row(term).is_reduction()) {
      line.reduction = &row(term);
      const auto reads = reduced(term, line);
      line.text = reads.form < Form::product ? "(" + reads.text + ")" : reads.text;
    } else {
      line.text = operation(term, line).text;
    }
    lines_.push_back(std::move(line));
  }

  Piece piece(std::uint32_t at, Assignment& line) const {
    const auto& term = formula_.terms[at];
    if (term.kind == Term::Kind::number) return number_piece(term.number);
    if (names_[at].empty() && term.kind == Term::Kind::operation) return operation(at, line);
    const auto& known =
        term.kind == Term::Kind::operand ? wording_.operands[term.operand] : Piece{names_[at]};
    line.reads.push_back(known.text);
    return known;
  }

  Piece operation(std::uint32_t term, Assignment& line) const {
    if (row(term).is_reduction()) {
      const Piece operand = reduced(term, line);
      return apply(row(term), wording_.language, {&operand, 1});
    }
    std::vector<Piece> operands;
    for (const auto operand : formula_.terms[term].reads())
      operands.push_back(piece(operand, line));
    return apply(row(term), wording_.language, operands);
  }

  // Columns behind the row's end count as what the reduction begins with.
  Piece reduced(std::uint32_t term, Assignment& line) const {
    const auto operand = formula_.terms[term].operands[0];
    auto text = piece(operand, line);
    if (wording_.language != Language::triton ||
        (row(term).begin == number_piece(0.0).text && is_zero_[operand]))
      return text;
    return {fmt::format("tl.where(mask, {}, {})", text.text, row(term).begin)};
  }

  const Formula& formula_;
  const Wording& wording_;
  std::vector<std::string> names_;  // by term: of those with a line of their own
  std::vector<bool> is_zero_;       // by term
  std::vector<Assignment> lines_;
};

}  // namespace

std::vector<Assignment> assignments(const Formula& formula, const Wording& wording) {
  return Lines(formula, wording).write();
}

}  // namespace nereid::graph::expression
