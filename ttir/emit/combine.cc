// The functions of tt.reduce, tt.scan and tt.map_elementwise: their bodies on vectors or scalars.
// Branches become choices: nothing in them touches memory.
#include "combine.h"

#include "elementwise.h"
#include "emitter.h"

namespace nereid::ttir {

const Op* single_combine(const Op& reduce) {
  const Block& b = *reduce.regions[0]->block;
  if (b.ops.size() != 2 || b.args.size() != 2) return nullptr;
  const Op& op = *b.ops[0];
  if (op.operands.size() != 2 || op.results.size() != 1 || b.ops[1]->operands[0] != op.result())
    return nullptr;
  const bool straight = op.operands[0] == b.args[0].get() && op.operands[1] == b.args[1].get();
  const bool crossed = op.operands[1] == b.args[0].get() && op.operands[0] == b.args[1].get();
  return straight || crossed ? &op : nullptr;
}

std::string reduce_identity(const Op& reduce) {
  const Op* op = single_combine(reduce);
  if (op == nullptr) return "";
  const Scalar s = op->result()->type.scalar;
  if (s == Scalar::i1) return "";
  const std::string type = value_type(s);
  const auto extreme = [&](bool low) {
    if (is_float_type(s)) return cat(low ? "-" : "", "std::numeric_limits<", type, ">::infinity()");
    return cat("std::numeric_limits<", type, ">::", low ? "min()" : "max()");
  };
  const auto number = [&](int x) {
    return is_float_type(s) ? float_literal(x, s) : int_literal(x, s);
  };
  switch (op->kind) {
    case OpKind::addf:
    case OpKind::addi:
    case OpKind::ori:
    case OpKind::xori:
    case OpKind::maxui:
      return number(0);
    case OpKind::mulf:
    case OpKind::muli:
      return number(1);
    case OpKind::andi:
    case OpKind::minui:
      return number(-1);
    case OpKind::maxnumf:
    case OpKind::maximumf:
    case OpKind::maxsi:
      return extreme(true);
    case OpKind::minnumf:
    case OpKind::minimumf:
    case OpKind::minsi:
      return extreme(false);
    default:
      return "";
  }
}

namespace {

using Texts = std::vector<std::string>;

class Body {
 public:
  Body(Scope& scope, const Op& owner, const Combining& how, Texts& lines)
      : scope_(scope), owner_(owner), how_(how), lines_(lines) {}

  Texts run(const Texts& args) {
    const Block& b = *owner_.regions[0]->block;
    for (std::size_t i = 0; i < args.size(); ++i) texts_[b.args[i].get()] = args[i];
    return values(b, 0, how_.lanes);
  }

 private:
  // What leaves a block, from operation `first` on; `guard`: where it is reached, empty everywhere.
  Texts values(const Block& block, std::size_t first, const std::string& guard) {
    for (std::size_t i = first; i < block.ops.size(); ++i) {
      const Op& op = *block.ops[i];
      if (op.kind == OpKind::constant) continue;
      if (i + 1 == block.ops.size()) return all_of(op.operands);
      if (op.kind == OpKind::scf_if && has_return(op)) {
        const std::string c = text(op.operands[0]);
        const auto side = [&](std::size_t r) {
          const std::string where = both(guard, r == 0 ? c : cat("!", c));
          const Block* const own = r < op.regions.size() ? op.regions[r]->block.get() : nullptr;
          if (own != nullptr && own->ops.back()->kind == OpKind::return_)
            return values(*own, 0, where);
          if (own != nullptr && own->ops.size() > 1)
            refuse(scope_.where, op,
                   cat("a return out of nested branches of a function called in ",
                       op_spelling(owner_.kind), " is not supported; return at its end"));
          return values(block, i + 1, where);
        };
        const Texts on = side(0), off = side(1);
        Texts out;
        for (std::size_t k = 0; k < on.size(); ++k) out.push_back(choice(c, on[k], off[k]));
        return out;
      }
      operation(op, guard);
    }
    return {};
  }

  void operation(const Op& op, const std::string& guard) {
    switch (op.kind) {
      case OpKind::scf_if: {
        const std::string c = text(op.operands[0]);
        Texts sides[2];
        for (std::size_t r = 0; r < op.regions.size(); ++r)
          sides[r] = values(*op.regions[r]->block, 0, both(guard, r == 0 ? c : cat("!", c)));
        for (std::size_t i = 0; i < op.results.size(); ++i)
          define(op.result(i), choice(c, sides[0][i], sides[1][i]));
        return;
      }
      case OpKind::call: {
        const Texts results = values(*op.regions[0]->block, 0, guard);
        for (std::size_t i = 0; i < op.results.size(); ++i) texts_[op.result(i)] = results[i];
        return;
      }
      case OpKind::assert_: {
        const std::string holds = text(op.operands[0]);
        const std::string fails = both(cat("!", holds), guard);
        lines_.push_back(cat("if (", how_.is_vector ? cat("rt::any(", fails, ")") : fails, ") ",
                             assertion_failed_text(op)));
        return;
      }
      default:
        break;
    }
    if (op_class(op.kind) != OpClass::elementwise)
      refuse(scope_.where, op, "the CPU target does not support this operation on single elements");
    define(op.result(), elementwise_text(op, all_of(op.operands), how_.is_vector, scope_.where,
                                         how_.rounds ? Rounds::always : Rounds::conversions));
  }

  // Whether some way through a branch ends the function that it stands in.
  static bool has_return(const Op& branch) {
    for (const auto& region : branch.regions)
      for (const auto& inner : region->block->ops)
        if (inner->kind == OpKind::return_ || (inner->kind == OpKind::scf_if && has_return(*inner)))
          return true;
    return false;
  }

  std::string text(const Value* v) {
    const auto it = texts_.find(v);
    if (it != texts_.end()) return it->second;
    const std::string scalar = scope_.scalar_text(v);
    return how_.is_vector ? broadcast_text(scalar, v->type) : scalar;
  }
  Texts all_of(const std::vector<Value*>& list) {
    Texts out;
    for (const Value* v : list) out.push_back(text(v));
    return out;
  }
  std::string both(const std::string& a, const std::string& b) const {
    if (a.empty() || b.empty()) return cat(a, b);
    return cat("(", a, ")", how_.is_vector ? " & (" : " && (", b, ")");
  }
  std::string choice(const std::string& c, const std::string& a, const std::string& b) const {
    return how_.is_vector ? cat("rt::select(", c, ", ", a, ", ", b, ")")
                          : cat("(", c, " ? ", a, " : ", b, ")");
  }
  void define(const Value* v, const std::string& value) {
    const std::string name = scope_.names.fresh(v);
    const std::string type = how_.is_vector ? "auto" : value_type(v->type.scalar);
    lines_.push_back(cat("const ", type, " ", name, " = ", value, ";"));
    texts_[v] = name;
  }

  Scope& scope_;
  const Op& owner_;
  const Combining& how_;
  Texts& lines_;
  std::unordered_map<const Value*, std::string> texts_;
};

}  // namespace

// The region applied to args; its results. What it computes on the way is written to `lines`.
std::vector<std::string> Emitter::combine(const Op& o, const std::vector<std::string>& args,
                                          const Combining& how, std::vector<std::string>& lines) {
  return Body(scope_, o, how, lines).run(args);
}

}  // namespace nereid::ttir
