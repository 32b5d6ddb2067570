// Goal: what each integer and pointer tensor is as a function of its indices: base + sum(stride_d *
// index_d) + sum(coef * other tensor), with symbolic scalars; which of its dimensions any tensor
// varies along; masks as bounds.
// Non-goal: deciding what is materialised (plan.h), writing loops (nest.h).
// Rejected: Triton's own AxisInfo (contiguity and divisibility as numbers): it knows no symbolic
// bounds, so that no mask ever becomes the end of a loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir.h"
#include "names.h"

namespace nereid::ttir {

// A polynomial over C++ expressions of type int64: constant + sum(coefficient * term).
class Linear {
 public:
  Linear() = default;
  explicit Linear(std::int64_t constant) : constant_(constant) {}
  static Linear term(const std::string& text) {
    Linear l;
    l.terms_[text] = 1;
    return l;
  }

  bool is_constant() const { return terms_.empty(); }
  bool is_constant(std::int64_t value) const { return terms_.empty() && constant_ == value; }
  std::int64_t constant() const { return constant_; }
  std::string text() const;    // canonical: equal forms have equal texts
  std::string factor() const;  // in parentheses where a product needs them

  Linear operator+(const Linear& o) const;
  Linear operator-(const Linear& o) const { return *this + o.scaled(-1); }
  Linear operator*(const Linear& o) const;
  Linear scaled(std::int64_t by) const;
  bool operator==(const Linear& o) const = default;

 private:
  std::int64_t constant_ = 0;
  std::map<std::string, std::int64_t> terms_;
};

// `coef` * tensor[...], where dimension i of the tensor is indexed by dimension dims[i] of the
// owner; -1: by zero.
struct TensorTerm {
  const Value* tensor = nullptr;
  Linear coef;
  std::vector<int> dims;
  bool operator==(const TensorTerm& o) const = default;
};

struct Affine {
  const Value* root = nullptr;            // scalar pointer (pointer tensors)
  std::optional<TensorTerm> root_tensor;  // or a tensor of addresses
  Linear base;
  std::vector<Linear> stride;  // one a dimension
  std::vector<TensorTerm> terms;

  bool is_uniform() const;  // the same for every index
  bool operator==(const Affine& o) const = default;
};

class AffineAnalysis {
 public:
  AffineAnalysis(Names& names, std::string where) : names_(names), where_(std::move(where)) {}

  const Affine& of(const Value* v);
  // Bit d: the value's elements differ along dimension d, or may.
  std::uint32_t varies(const Value* v);
  // Carried tensors of scf.for that only move by a scalar each time: the name of the C++ variable
  // that has moved so far.
  const std::string* advance(const Value* v) const;
  Linear advance_step(const Value* arg) const { return steps_.at(arg); }
  // Decides for the carried values of one scf.for; outer loops first.
  void analyse_loop(const Op& loop);

  Linear scalar(const Value* v);  // a scalar integer as a term

  // Counts such that a mask is false wherever its index along `dim` reaches one of them. `is_exact`
  // is cleared where the mask says anything else.
  void prefix_bounds(const Value* mask, int dim, std::vector<Linear>& counts, bool& is_exact);
  // Counts such that v is zero wherever its index along `dim` reaches one of them: v is made of one
  // masked load.
  std::vector<Linear> zero_from(const Value* v, int dim);
  // v is a plain load of fp32 rows that tt.dot can read where they lie: nothing is masked but rows
  // beyond zero_from.
  bool is_plain_rows(const Value* v);

 private:
  Affine compute(const Value* v);
  Affine opaque(const Value* v);
  static Affine reindexed(const Affine& a, std::size_t rank, const std::vector<int>& new_dim);

  Names& names_;
  std::string where_;
  std::unordered_map<const Value*, Affine> memo_;
  std::unordered_map<const Value*, std::uint32_t> varies_;
  std::unordered_map<const Value*, std::string> advances_;
  std::unordered_map<const Value*, Linear> steps_;
};

// For a reshape that only adds or drops dimensions of size 1: for each dimension of the result the
// source's, or -1.
std::optional<std::vector<int>> trivial_reshape(const Type& from, const Type& to);

}  // namespace nereid::ttir
