// Goal: a formula as lines of a program, in Triton, in numpy or as a person writes it: what is read
// twice, what a statement names and what is one number a row get a line.
// Non-goal: loads, stores, loops (row_kernel.h).
// Rejected: a line for each term. Nobody would read it.
#pragma once

#include <string>
#include <vector>

#include "graph/expression/formula.h"

namespace nereid::graph::expression {

struct Wording {
  Language language = Language::plain;
  std::vector<Piece> operands = {};       // what they are called
  std::vector<bool> is_zero_beyond = {};  // by operand: 0 in the columns behind the row's end
  std::vector<std::string> results = {};  // what they are called; the first begins all other names
  std::string suffix = {};  // of what varies, where a second set of columns is computed:
  bool is_second = false;   // numbers of the row are there already
  bool are_reductions_apart = false;
};

struct Assignment {
  std::string name = {}, text = {};
  bool is_result = false;
  bool varies = true;  // else one number a row
  bool is_zero_beyond = false;
  std::vector<std::string> reads = {};  // names
  // Where reductions are apart: `text` is what is reduced.
  const OperatorRow* reduction = nullptr;
};

// Triton's lines speak of `mask`, `n_cols` and `BLOCK`.
std::vector<Assignment> assignments(const Formula& formula, const Wording& wording);

}  // namespace nereid::graph::expression
