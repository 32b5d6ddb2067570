#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "verify_op.h"

namespace nereid::ttir {
namespace {

bool is_terminator(OpKind kind) {
  return kind == OpKind::return_ || kind == OpKind::scf_yield || kind == OpKind::scf_condition ||
         kind == OpKind::reduce_return || kind == OpKind::scan_return || kind == OpKind::map_return;
}

class Verifier {
 public:
  explicit Verifier(OpRules rules) : rules_(std::move(rules)) {}

  void function(const Function& function) {
    Op self{};
    self.kind = OpKind::func;
    self.line = function.line;
    rules_.expect(function.arg_divisibility.size() == function.body->args.size(), self,
                  "{} arguments and {} divisibilities", function.body->args.size(),
                  function.arg_divisibility.size());
    for (const auto& arg : function.body->args) {
      rules_.expect(!arg->type.is_tensor(), self, "argument %{} is a tensor", arg->name);
    }
    block(*function.body, self);
  }

 private:
  void block(const Block& block, const Op& parent) {
    const std::size_t n_outer = order_.size();
    for (const auto& arg : block.args) define(*arg);
    rules_.expect(!block.ops.empty() && is_terminator(block.ops.back()->kind), parent,
                  "a region that does not end in a return, a yield or a condition");
    for (const auto& op : block.ops) {
      rules_.expect(op == block.ops.back() || !is_terminator(op->kind), *op,
                    "stands in the middle of a region");
      operation(*op);
      for (const auto& result : op->results) define(*result);
    }
    while (order_.size() > n_outer) {
      visible_.erase(order_.back());
      order_.pop_back();
    }
  }

  void define(const Value& value) {
    visible_.insert(&value);
    order_.push_back(&value);
  }

  void operation(const Op& op) {
    for (const Value* operand : op.operands) {
      rules_.expect(visible_.contains(operand), op, "%{} is not defined before its use",
                    operand->name);
    }
    rules_.check(op);
    for (const auto& region : op.regions) {
      block(*region->block, op);
      terminator(op, *region->block);
    }
  }

  // The values that leave the region of `op`, against what they become.
  void terminator(const Op& op, const Block& block) const {
    const Op& last = *block.ops.back();
    OpKind wanted = OpKind::scf_yield;
    if (op.kind == OpKind::reduce) wanted = OpKind::reduce_return;
    if (op.kind == OpKind::scan) wanted = OpKind::scan_return;
    if (op.kind == OpKind::map_elementwise) wanted = OpKind::map_return;
    if (op.kind == OpKind::call) wanted = OpKind::return_;
    if (op.kind == OpKind::scf_if && last.kind == OpKind::return_) return;
    const bool is_before = op.kind == OpKind::scf_while && &block == op.regions[0]->block.get();
    if (is_before) wanted = OpKind::scf_condition;
    rules_.expect(last.kind == wanted, last, "ends a region of {}; expected {}",
                  op_spelling(op.kind), op_spelling(wanted));
    if (op.kind == OpKind::call) return;  // every return of it is held to its results
    if (is_before) {
      rules_.expect_type(last, "the condition", last.operands[0]->type, scalar_type(Scalar::i1));
      rules_.expect_types(last, "value", operand_types(last, 1), result_types(op));
    } else if (op.kind == OpKind::scf_while) {
      rules_.expect_types(last, "value", operand_types(last), operand_types(op));
    } else if (op.kind == OpKind::map_elementwise) {
      std::vector<Type> elements;
      for (const auto& result : op.results)
        elements.insert(elements.end(), static_cast<std::size_t>(op.int_attr("pack", 1)),
                        element(result->type));
      rules_.expect_types(last, "value", operand_types(last), elements);
      combine_region(op, block);
    } else if (op.kind == OpKind::reduce || op.kind == OpKind::scan) {
      std::vector<Type> elements;
      for (const Value* operand : op.operands) elements.push_back(element(operand->type));
      rules_.expect_types(last, "value", operand_types(last), elements);
      combine_region(op, block);
    } else {
      rules_.expect_types(last, "value", operand_types(last), result_types(op));
    }
  }

  // What combines two elements computes on scalars and touches no memory.
  void combine_region(const Op& op, const Block& block) const {
    for (const auto& inner : block.ops) {
      const OpClass group = op_class(inner->kind);
      rules_.expect(group == OpClass::elementwise || inner->kind == OpKind::constant ||
                        is_terminator(inner->kind) || inner->kind == OpKind::scf_if ||
                        inner->kind == OpKind::call || inner->kind == OpKind::assert_,
                    *inner, "cannot stand in the region of {}", op_spelling(op.kind));
      for (const auto& result : inner->results) {
        rules_.expect(!result->type.is_tensor(), *inner, "a tensor in the region of {}",
                      op_spelling(op.kind));
      }
      for (const auto& region : inner->regions) combine_region(op, *region->block);
    }
  }

  OpRules rules_;
  std::unordered_set<const Value*> visible_;
  std::vector<const Value*> order_;
};

}  // namespace

void verify(const Module& module, const std::string& where) {
  if (module.functions.size() != 1) {
    throw Error("{}:1: {} functions; expected one kernel", where, module.functions.size());
  }
  const Function& function = *module.functions.front();
  Verifier(OpRules(where, function.name)).function(function);
}

}  // namespace nereid::ttir
