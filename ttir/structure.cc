#include "structure.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "forms.h"

namespace nereid::ttir {
namespace {

constexpr std::size_t kMaxBlocks = 1000;
constexpr std::size_t kNone = static_cast<std::size_t>(-1);

class Structurer {
 public:
  using Fail = std::function<void(int, const std::string&)>;

  Structurer(std::vector<BasicBlock> blocks, const Fail& fail)
      : blocks_(std::move(blocks)), fail_(fail) {}

  std::unique_ptr<Block> run() {
    connect();
    find_dominators();
    auto whole = std::make_unique<Block>();
    whole->args = std::move(blocks_[0].block->args);
    for (const auto& arg : whole->args) arg->block = whole.get();
    append(0, kNone, *whole);
    return whole;
  }

 private:
  void connect() {
    if (blocks_.size() > kMaxBlocks)
      fail_(blocks_[kMaxBlocks].line, fmt::format("more than {} blocks", kMaxBlocks));
    std::unordered_map<std::string, std::size_t> labels;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      if (!labels.emplace(blocks_[i].label, i).second)
        fail_(blocks_[i].line, fmt::format("a second block ^{}", blocks_[i].label));
    }
    predecessors_.resize(blocks_.size());
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      for (Edge& edge : blocks_[i].edges) {
        const auto found = labels.find(edge.label);
        if (found == labels.end() || edge.label.empty())
          fail_(blocks_[i].line, fmt::format("a branch to ^{}, which does not exist", edge.label));
        edge.to = found->second;
        if (edge.to <= i)
          fail_(blocks_[i].line, fmt::format("a loop made of branches, back to ^{}; expected "
                                             "scf.for or scf.while",
                                             edge.label));
        const auto& args = blocks_[edge.to].block->args;
        bool fits = args.size() == edge.values.size();
        for (std::size_t k = 0; fits && k < args.size(); ++k)
          fits = args[k]->type == edge.values[k]->type;
        if (!fits)
          fail_(blocks_[i].line, fmt::format("values for ^{} are not of its types", edge.label));
        predecessors_[edge.to].push_back(i);
      }
    }
    for (std::size_t i = 1; i < blocks_.size(); ++i) {
      if (predecessors_[i].empty())
        fail_(blocks_[i].line, fmt::format("nothing branches to ^{}", blocks_[i].label));
    }
  }

  // All edges lead onwards, so one pass in order finds them.
  void find_dominators() {
    dominator_.assign(blocks_.size(), 0);
    for (std::size_t i = 1; i < blocks_.size(); ++i) {
      std::size_t d = predecessors_[i][0];
      for (std::size_t p : predecessors_[i]) {
        while (d != p) {
          if (d > p)
            d = dominator_[d];
          else
            p = dominator_[p];
        }
      }
      dominator_[i] = d;
    }
  }

  bool reaches(std::size_t from, std::size_t to) const {
    if (to == kNone || from > to) return false;
    std::vector<char> seen(blocks_.size(), 0);
    std::vector<std::size_t> work{from};
    while (!work.empty()) {
      const std::size_t at = work.back();
      work.pop_back();
      if (at == to) return true;
      for (const Edge& edge : blocks_[at].edges) {
        if (edge.to <= to && seen[edge.to]++ == 0) work.push_back(edge.to);
      }
    }
    return false;
  }

  // Where the two ways out of a block come together; kNone: not before `stop`.
  std::size_t meeting_point(std::size_t at) const {
    std::size_t found = kNone;
    for (std::size_t i = at + 1; i < blocks_.size(); ++i) {
      if (dominator_[i] != at || predecessors_[i].size() < 2) continue;
      if (found != kNone) fail_(blocks_[at].line, "branches that cross; expected nested ones");
      found = i;
    }
    return found;
  }

  // The blocks from `at` on, until they end or reach `stop`, whose arguments are then yielded.
  void append(std::size_t at, std::size_t stop, Block& out) {
    for (;;) {
      BasicBlock& here = blocks_[at];
      for (auto& op : here.block->ops) {
        op->parent = &out;
        out.ops.push_back(std::move(op));
      }
      if (here.edges.empty()) return;
      if (here.edges.size() == 1) {
        if (here.edges[0].to == stop) return yield(here.edges[0], here.line, out);
        at = follow(here.edges[0]);
        continue;
      }
      const std::size_t meeting = meeting_point(at);
      const std::size_t target = meeting != kNone ? meeting : stop;
      const bool both = reaches(here.edges[0].to, target) && reaches(here.edges[1].to, target);
      Op& branch = add_if(here, out);
      if (both) {
        for (const Edge& edge : here.edges) side(branch, edge, target, here.line);
        for (const auto& arg : blocks_[target].block->args) add_result(branch, *arg);
        if (target == stop) {
          Edge onwards;
          for (const auto& result : branch.results) onwards.values.push_back(result.get());
          return yield(onwards, here.line, out);
        }
        for (std::size_t i = 0; i < branch.results.size(); ++i)
          replace(blocks_[target].block->args[i].get(), branch.result(i));
        at = target;
        continue;
      }
      // One side ends the program: what follows is the other's alone.
      const std::size_t ending = reaches(here.edges[0].to, target) ? 1 : 0;
      if (ending == 1) {
        yield({}, here.line, add_region(branch));
      }
      side(branch, here.edges[ending], kNone, here.line);
      const Edge& other = here.edges[1 - ending];
      if (other.to == stop) return yield(other, here.line, out);
      at = follow(other);
    }
  }

  // One region of scf.if.
  void side(Op& branch, const Edge& edge, std::size_t target, int line) {
    if (++depth_ > kMaxNesting)
      fail_(line, fmt::format("branches nested deeper than {}", kMaxNesting));
    Block& block = add_region(branch);
    if (edge.to == target)
      yield(edge, line, block);
    else
      append(follow(edge), target, block);
    --depth_;
  }

  // The only way into a block: its arguments are what the edge brings.
  std::size_t follow(const Edge& edge) {
    if (predecessors_[edge.to].size() != 1)
      fail_(blocks_[edge.to].line, "branches that cross; expected nested ones");
    const auto& args = blocks_[edge.to].block->args;
    for (std::size_t i = 0; i < args.size(); ++i) replace(args[i].get(), edge.values[i]);
    return edge.to;
  }

  Op& add_if(const BasicBlock& here, Block& out) {
    auto op = std::make_unique<Op>();
    op->kind = OpKind::scf_if;
    op->parent = &out;
    op->line = here.line;
    add_operand(*op, latest(here.condition));
    out.ops.push_back(std::move(op));
    return *out.ops.back();
  }

  static Block& add_region(Op& op) {
    op.regions.push_back(std::make_unique<Region>());
    op.regions.back()->block = std::make_unique<Block>();
    op.regions.back()->block->parent = &op;
    return *op.regions.back()->block;
  }

  void add_result(Op& op, const Value& like) {
    auto value = std::make_unique<Value>();
    value->name = fmt::format("{}_at{}", like.name, n_results_++);
    value->type = like.type;
    value->def = &op;
    value->index = static_cast<int>(op.results.size());
    op.results.push_back(std::move(value));
  }

  void yield(const Edge& edge, int line, Block& out) {
    auto op = std::make_unique<Op>();
    op->kind = OpKind::scf_yield;
    op->parent = &out;
    op->line = line;
    for (Value* value : edge.values) add_operand(*op, latest(value));
    out.ops.push_back(std::move(op));
  }

  Value* latest(Value* value) const {
    for (auto it = replaced_.find(value); it != replaced_.end(); it = replaced_.find(value))
      value = it->second;
    return value;
  }

  void replace(Value* old, Value* by) {
    by = latest(by);
    replaced_[old] = by;
    for (Op* user : old->users) {
      for (Value*& operand : user->operands) {
        if (operand == old) operand = by;
      }
      by->users.push_back(user);
    }
    old->users.clear();
  }

  std::vector<BasicBlock> blocks_;
  const Fail& fail_;
  std::vector<std::vector<std::size_t>> predecessors_;
  std::vector<std::size_t> dominator_;  // the nearest; 0 for the entry too
  std::unordered_map<Value*, Value*> replaced_;
  std::size_t n_results_ = 0;
  int depth_ = 0;
};

}  // namespace

std::unique_ptr<Block> structured(std::vector<BasicBlock> blocks,
                                  const std::function<void(int, const std::string&)>& fail) {
  if (blocks.size() == 1 && blocks[0].edges.empty()) return std::move(blocks[0].block);
  return Structurer(std::move(blocks), fail).run();
}

}  // namespace nereid::ttir
