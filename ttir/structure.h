// Goal: blocks that branch to each other (early returns, `if` in a mapped function) as one block
// with scf.if in it: what comes after the parser knows nested control flow only.
// Non-goal: loops made of branches: Triton makes scf.for and scf.while of loops; others are
// refused. Rejected: labels and gotos in the emitted C++: no analysis here would see through them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ir.h"

namespace nereid::ttir {

// ^label(%a, %b : T, U)
struct Edge {
  std::string label;
  std::vector<Value*> values;
  std::size_t to = 0;  // which block: found by `structured`
};

struct BasicBlock {
  std::string label;  // empty: the entry
  std::unique_ptr<Block> block = std::make_unique<Block>();
  Value* condition = nullptr;  // with two edges: the first where it holds
  std::vector<Edge> edges;     // none: the block ends in an operation of its own
  int line = 0;                // of the branch
};

// `fail(line, message)` throws. Operations, arguments of the first block and parents stay as they
// are where there is one block.
std::unique_ptr<Block> structured(
    std::vector<BasicBlock> blocks,
    const std::function<void(int line, const std::string& message)>& fail);

}  // namespace nereid::ttir
