#include "affine.h"

#include <algorithm>

namespace nereid::ttir {

std::string Linear::text() const {
  std::string out;
  for (const auto& [term, coef] : terms_) {
    const std::string sign = coef < 0 ? (out.empty() ? "-" : " - ") : (out.empty() ? "" : " + ");
    const std::int64_t size = coef < 0 ? -coef : coef;
    out += sign + (size == 1 ? term : cat(std::to_string(size), " * ", term));
  }
  if (out.empty()) return std::to_string(constant_);
  if (constant_ > 0) out += cat(" + ", std::to_string(constant_));
  if (constant_ < 0) out += cat(" - ", std::to_string(-constant_));
  return out;
}

std::string Linear::factor() const {
  const bool simple = terms_.empty() || (terms_.size() == 1 && constant_ == 0);
  return simple && !(terms_.empty() && constant_ < 0) ? text() : cat("(", text(), ")");
}

Linear Linear::operator+(const Linear& o) const {
  Linear sum = *this;
  sum.constant_ += o.constant_;
  for (const auto& [term, coef] : o.terms_)
    if ((sum.terms_[term] += coef) == 0) sum.terms_.erase(term);
  return sum;
}

Linear Linear::scaled(std::int64_t by) const {
  if (by == 0) return Linear();
  Linear out = *this;
  out.constant_ *= by;
  for (auto& [term, coef] : out.terms_) coef *= by;
  return out;
}

Linear Linear::operator*(const Linear& o) const {
  if (is_constant()) return o.scaled(constant_);
  if (o.is_constant()) return scaled(o.constant_);
  // Few terms are multiplied out, so that equal forms stay equal; more stay a product.
  if (terms_.size() + o.terms_.size() > 4) {
    std::string a = factor(), b = o.factor();
    if (b < a) std::swap(a, b);
    return term(cat(a, " * ", b));
  }
  Linear out = scaled(o.constant_) + o.scaled(constant_);
  out.constant_ = constant_ * o.constant_;
  for (const auto& [ta, ca] : terms_)
    for (const auto& [tb, cb] : o.terms_)
      out = out + term(ta < tb ? cat(ta, " * ", tb) : cat(tb, " * ", ta)).scaled(ca * cb);
  return out;
}

bool Affine::is_uniform() const {
  if (root_tensor) return false;
  for (const Linear& s : stride)
    if (!s.is_constant(0)) return false;
  for (const TensorTerm& t : terms)
    for (int d : t.dims)
      if (d >= 0) return false;
  return true;
}

std::optional<std::vector<int>> trivial_reshape(const Type& from, const Type& to) {
  std::vector<int> map(to.shape.size(), -1);
  std::size_t s = 0;
  for (std::size_t d = 0; d < to.shape.size(); ++d) {
    if (to.shape[d] == 1) continue;
    while (s < from.shape.size() && from.shape[s] == 1) ++s;
    if (s == from.shape.size() || from.shape[s] != to.shape[d]) return std::nullopt;
    map[d] = static_cast<int>(s++);
  }
  while (s < from.shape.size() && from.shape[s] == 1) ++s;
  if (s != from.shape.size()) return std::nullopt;
  return map;
}

Linear AffineAnalysis::scalar(const Value* v) {
  if (v->def != nullptr && v->def->kind == OpKind::constant) {
    const Attr* a = v->def->attr("value");
    if (a != nullptr && std::holds_alternative<std::int64_t>(*a))
      return Linear(std::get<std::int64_t>(*a));
  }
  if (v->def != nullptr && v->def->kind == OpKind::extsi &&
      v->def->operands[0]->type.scalar != Scalar::i1)
    return scalar(v->def->operands[0]);
  const std::string& name = names_.of(v);
  return Linear::term(v->type.scalar == Scalar::i64 ? name : cat("rt::i64(", name, ")"));
}

const std::string* AffineAnalysis::advance(const Value* v) const {
  const auto it = advances_.find(v);
  return it == advances_.end() ? nullptr : &it->second;
}

Affine AffineAnalysis::opaque(const Value* v) {
  Affine a;
  a.stride.resize(v->type.shape.size());
  TensorTerm t{v, Linear(1), {}};
  const std::uint32_t mask = varies(v);
  for (std::size_t d = 0; d < v->type.shape.size(); ++d)
    t.dims.push_back((mask >> d & 1) != 0 ? static_cast<int>(d) : -1);
  if (v->type.is_pointer) {
    a.root_tensor = t;
  } else {
    a.terms.push_back(t);
  }
  return a;
}

// Dimension d of `a` becomes new_dim[d]; -1 drops it (its index is always zero).
Affine AffineAnalysis::reindexed(const Affine& a, std::size_t rank,
                                 const std::vector<int>& new_dim) {
  Affine out;
  out.root = a.root;
  out.base = a.base;
  out.stride.resize(rank);
  for (std::size_t d = 0; d < a.stride.size(); ++d)
    if (new_dim[d] >= 0) out.stride[new_dim[d]] = a.stride[d];
  const auto rename = [&](TensorTerm t) {
    for (int& d : t.dims)
      if (d >= 0) d = new_dim[d];
    return t;
  };
  for (const TensorTerm& t : a.terms) out.terms.push_back(rename(t));
  if (a.root_tensor) out.root_tensor = rename(*a.root_tensor);
  return out;
}

namespace {

void add_terms(Affine& out, const std::vector<TensorTerm>& terms, std::int64_t sign) {
  for (const TensorTerm& t : terms) {
    auto same = std::find_if(out.terms.begin(), out.terms.end(), [&](const TensorTerm& o) {
      return o.tensor == t.tensor && o.dims == t.dims;
    });
    if (same == out.terms.end()) {
      out.terms.push_back({t.tensor, t.coef.scaled(sign), t.dims});
    } else {
      same->coef = same->coef + t.coef.scaled(sign);
      if (same->coef.is_constant(0)) out.terms.erase(same);
    }
  }
}

Affine added(const Affine& a, const Affine& b, std::int64_t sign) {
  Affine out = a;
  out.base = a.base + b.base.scaled(sign);
  for (std::size_t d = 0; d < a.stride.size(); ++d)
    out.stride[d] = a.stride[d] + b.stride[d].scaled(sign);
  add_terms(out, b.terms, sign);
  return out;
}

Affine times(const Affine& a, const Linear& by) {
  Affine out = a;
  out.base = a.base * by;
  for (Linear& s : out.stride) s = s * by;
  for (TensorTerm& t : out.terms) t.coef = t.coef * by;
  return out;
}

}  // namespace

const Affine& AffineAnalysis::of(const Value* v) {
  const auto it = memo_.find(v);
  if (it != memo_.end()) return it->second;
  Affine a = compute(v);
  // Indices along dimensions of size 1 are zero: equal forms must be equal texts.
  for (std::size_t d = 0; d < a.stride.size(); ++d)
    if (v->type.shape[d] == 1) a.stride[d] = Linear();
  return memo_.emplace(v, std::move(a)).first->second;
}

Affine AffineAnalysis::compute(const Value* v) {
  const std::size_t rank = v->type.shape.size();
  if (rank == 0) {
    Affine a;
    if (v->type.is_pointer) {
      a.root = v;
    } else {
      a.base = scalar(v);
    }
    return a;
  }
  if (const std::string* name = advance(v)) {
    const Op& loop = v->def != nullptr ? *v->def : *v->block->parent;
    const std::size_t slot = v->def != nullptr ? v->index : v->index - 1;
    Affine a = of(loop.operands[3 + slot]);
    a.base = a.base + Linear::term(*name);
    return a;
  }
  if (v->def == nullptr) return opaque(v);
  const Op& op = *v->def;
  const auto operand = [&](std::size_t i) -> const Affine& { return of(op.operands[i]); };
  switch (op.kind) {
    case OpKind::make_range: {
      Affine a;
      a.base = Linear(op.int_attr("start", 0));
      a.stride = {Linear(1)};
      return a;
    }
    case OpKind::constant: {
      const Attr* value = op.attr("value");
      if (value == nullptr || !std::holds_alternative<std::int64_t>(*value)) return opaque(v);
      Affine a;
      a.base = Linear(std::get<std::int64_t>(*value));
      a.stride.resize(rank);
      return a;
    }
    case OpKind::splat: {
      Affine a = operand(0);
      a.stride.assign(rank, Linear());
      return a;
    }
    case OpKind::expand_dims: {
      const std::int64_t axis = op.int_attr("axis", 0);
      std::vector<int> to(rank - 1);
      for (std::size_t d = 0; d + 1 < rank; ++d)
        to[d] = static_cast<int>(d) + (static_cast<std::int64_t>(d) >= axis);
      return reindexed(operand(0), rank, to);
    }
    case OpKind::broadcast: {
      std::vector<int> to(rank);
      for (std::size_t d = 0; d < rank; ++d)
        to[d] = op.operands[0]->type.shape[d] == 1 ? -1 : static_cast<int>(d);
      return reindexed(operand(0), rank, to);
    }
    case OpKind::trans: {
      const auto order = std::get<std::vector<std::int64_t>>(*op.attr("order"));
      std::vector<int> to(rank);
      for (std::size_t d = 0; d < rank; ++d) to[order[d]] = static_cast<int>(d);
      return reindexed(operand(0), rank, to);
    }
    case OpKind::reshape: {
      const auto map = trivial_reshape(op.operands[0]->type, v->type);
      if (!map) return opaque(v);
      std::vector<int> to(op.operands[0]->type.shape.size(), -1);
      for (std::size_t d = 0; d < rank; ++d)
        if ((*map)[d] >= 0) to[(*map)[d]] = static_cast<int>(d);
      return reindexed(operand(0), rank, to);
    }
    case OpKind::addptr:
      return added(operand(0), operand(1), 1);
    case OpKind::addi:
      if (v->type.scalar == Scalar::i1) return opaque(v);
      return added(operand(0), operand(1), 1);
    case OpKind::subi:
      if (v->type.scalar == Scalar::i1) return opaque(v);
      return added(operand(0), operand(1), -1);
    case OpKind::muli:
      if (v->type.scalar == Scalar::i1) return opaque(v);
      if (operand(1).is_uniform() && operand(1).terms.empty())
        return times(operand(0), operand(1).base);
      if (operand(0).is_uniform() && operand(0).terms.empty())
        return times(operand(1), operand(0).base);
      return opaque(v);
    case OpKind::shli:
      if (operand(1).is_uniform() && operand(1).terms.empty() && operand(1).base.is_constant() &&
          operand(1).base.constant() >= 0 && operand(1).base.constant() < 31)
        return times(operand(0), Linear(std::int64_t{1} << operand(1).base.constant()));
      return opaque(v);
    case OpKind::extsi:
      if (op.operands[0]->type.scalar == Scalar::i1) return opaque(v);
      return operand(0);
    case OpKind::index_cast:
      return operand(0);
    case OpKind::bitcast_tt:
      if (v->type.is_pointer && op.operands[0]->type.is_pointer &&
          memory_bytes(v->type.scalar) == memory_bytes(op.operands[0]->type.scalar))
        return operand(0);
      return opaque(v);
    default:
      return opaque(v);
  }
}

std::uint32_t AffineAnalysis::varies(const Value* v) {
  if (!v->type.is_tensor()) return 0;
  const auto it = varies_.find(v);
  if (it != varies_.end()) return it->second;
  const std::size_t rank = v->type.shape.size();
  std::uint32_t all = 0;
  for (std::size_t d = 0; d < rank; ++d)
    if (v->type.shape[d] > 1) all |= 1u << d;
  std::uint32_t mask = all;
  const Op* op = v->def;
  if (const std::string* name = advance(v); name != nullptr) {
    const Op& loop = op != nullptr ? *op : *v->block->parent;
    mask = varies(loop.operands[3 + (op != nullptr ? v->index : v->index - 1)]);
  } else if (op != nullptr) {
    switch (op->kind) {
      case OpKind::splat:
      case OpKind::constant:
      case OpKind::poison:
        mask = 0;
        break;
      case OpKind::expand_dims: {
        const std::int64_t axis = op->int_attr("axis", 0);
        const std::uint32_t in = varies(op->operands[0]);
        const std::uint32_t low = in & ((1u << axis) - 1);
        mask = low | ((in & ~((1u << axis) - 1)) << 1);
        break;
      }
      case OpKind::broadcast:
        mask = varies(op->operands[0]);
        break;
      case OpKind::trans: {
        const auto order = std::get<std::vector<std::int64_t>>(*op->attr("order"));
        const std::uint32_t in = varies(op->operands[0]);
        mask = 0;
        for (std::size_t d = 0; d < rank; ++d) mask |= (in >> order[d] & 1) << d;
        break;
      }
      case OpKind::reshape: {
        const auto map = trivial_reshape(op->operands[0]->type, v->type);
        if (!map) break;
        const std::uint32_t in = varies(op->operands[0]);
        mask = 0;
        for (std::size_t d = 0; d < rank; ++d)
          if ((*map)[d] >= 0) mask |= (in >> (*map)[d] & 1) << d;
        break;
      }
      case OpKind::load:
      default:
        if (op->kind == OpKind::load || op_class(op->kind) == OpClass::elementwise) {
          mask = 0;
          for (const Value* o : op->operands) mask |= varies(o);
        }
    }
  }
  return varies_[v] = mask & all;
}

void AffineAnalysis::analyse_loop(const Op& loop) {
  const Block& body = *loop.regions[0]->block;
  const Op& yield = *body.ops.back();
  for (std::size_t slot = 0; slot < loop.results.size(); ++slot) {
    const Value* arg = body.args[slot + 1].get();
    if (!arg->type.is_tensor()) continue;
    const bool is_int = !is_float_type(arg->type.scalar) && arg->type.scalar != Scalar::i1;
    if (!arg->type.is_pointer && !is_int) continue;
    // A trial with the argument opaque, on tables of its own: nested loops are not decided yet.
    AffineAnalysis trial(names_, where_);
    trial.advances_ = advances_;
    trial.steps_ = steps_;
    Affine after = trial.of(yield.operands[slot]);
    Affine before = trial.opaque(arg);
    Affine difference = after;
    if (arg->type.is_pointer) {
      if (after.root_tensor != before.root_tensor) continue;
      difference.root_tensor.reset();
    } else {
      add_terms(difference, before.terms, -1);
    }
    if (!difference.is_uniform() || !difference.terms.empty() || difference.root != nullptr)
      continue;
    const std::string name = names_.fresh(names_.of(arg) + "_moved");
    advances_[arg] = name;
    advances_[loop.results[slot].get()] = name;
    steps_.emplace(arg, difference.base);
  }
}

void AffineAnalysis::prefix_bounds(const Value* mask, int dim, std::vector<Linear>& counts,
                                   bool& is_exact) {
  const Op* op = mask->def;
  if (op == nullptr) {
    is_exact = false;
    return;
  }
  switch (op->kind) {
    case OpKind::andi:
      prefix_bounds(op->operands[0], dim, counts, is_exact);
      prefix_bounds(op->operands[1], dim, counts, is_exact);
      return;
    case OpKind::broadcast:
      if (op->operands[0]->type.shape[dim] != mask->type.shape[dim]) break;
      return prefix_bounds(op->operands[0], dim, counts, is_exact);
    case OpKind::expand_dims: {
      const int axis = static_cast<int>(op->int_attr("axis", 0));
      if (axis == dim) break;
      return prefix_bounds(op->operands[0], axis < dim ? dim - 1 : dim, counts, is_exact);
    }
    case OpKind::cmpi: {
      const std::string p(op->word_attr("predicate", ""));
      const bool swapped = p == "sgt" || p == "sge";
      const Scalar s = op->operands[0]->type.scalar;
      if ((p != "slt" && p != "sle" && !swapped) || (s != Scalar::i32 && s != Scalar::i64)) break;
      const Affine low = of(op->operands[swapped ? 1 : 0]);
      const Affine high = of(op->operands[swapped ? 0 : 1]);
      bool simple = low.terms.empty() && high.terms.empty();
      for (std::size_t d = 0; d < low.stride.size(); ++d)
        simple &= (low.stride[d] - high.stride[d]).is_constant(static_cast<int>(d) == dim ? 1 : 0);
      if (!simple) break;
      counts.push_back(high.base - low.base + Linear(p == "sle" || p == "sge" ? 1 : 0));
      return;
    }
    default:
      break;
  }
  is_exact = false;
}

std::vector<Linear> AffineAnalysis::zero_from(const Value* v, int dim) {
  std::vector<Linear> counts;
  const Op* op = v->def;
  if (op == nullptr) return counts;
  switch (op->kind) {
    case OpKind::extf:
    case OpKind::truncf:
      return zero_from(op->operands[0], dim);
    case OpKind::trans:
      return zero_from(
          op->operands[0],
          static_cast<int>(std::get<std::vector<std::int64_t>>(*op->attr("order"))[dim]));
    case OpKind::load: {
      if (op->operands.size() < 2) return counts;
      if (op->operands.size() > 2) {
        const Op* other = op->operands[2]->def;
        if (other == nullptr || other->kind != OpKind::constant) return counts;
        const Attr& a = *other->attr("value");
        if (std::holds_alternative<double>(a) ? std::get<double>(a) != 0.0
                                              : std::get<std::int64_t>(a) != 0)
          return counts;
      }
      bool is_exact = true;
      prefix_bounds(op->operands[1], dim, counts, is_exact);
      return counts;
    }
    default:
      return counts;
  }
}

bool AffineAnalysis::is_plain_rows(const Value* v) {
  const Op* op = v->def;
  if (op == nullptr || op->kind != OpKind::load ||
      (v->type.scalar != Scalar::f32 && v->type.scalar != Scalar::i8) || v->type.shape.size() != 2)
    return false;
  const Affine& a = of(op->operands[0]);
  if (a.root == nullptr || !a.terms.empty() || !a.stride[1].is_constant(1)) return false;
  if (op->operands.size() < 2) return true;
  std::vector<Linear> counts;
  bool is_exact = true;
  prefix_bounds(op->operands[1], 0, counts, is_exact);
  return is_exact && !zero_from(v, 0).empty();
}

}  // namespace nereid::ttir
