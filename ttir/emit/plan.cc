#include "plan.h"

#include <algorithm>

#include "combine.h"

namespace nereid::ttir {

namespace {

// Registers that a loop may keep carried tiles in; the rest of the 32 compute.
constexpr int kTileVectors = 24;
// Recomputing is cheaper than storing and reading back below this many operations.
constexpr int kCheap = 12;

// Rows that are computed one at a time may have more, though some then lie on the stack.
constexpr int kRowVectors = 64;

// A body with more operations is not worth unrolling for its accumulators: it would take seconds to
// compile.
constexpr int kUnrolledWork = 64;

bool is_shape_op(OpKind k) {
  return k == OpKind::expand_dims || k == OpKind::broadcast || k == OpKind::trans ||
         k == OpKind::splat || k == OpKind::reshape || k == OpKind::make_range ||
         k == OpKind::constant || k == OpKind::split || k == OpKind::poison;
}

// Of the operations that move elements, those after which a row is still that row.
bool keeps_rows(OpKind k) {
  return k == OpKind::expand_dims || k == OpKind::broadcast || k == OpKind::splat ||
         k == OpKind::make_range || k == OpKind::constant;
}

bool is_transcendental(OpKind k) {
  switch (k) {
    case OpKind::exp:
    case OpKind::exp2:
    case OpKind::log:
    case OpKind::log2:
    case OpKind::sin:
    case OpKind::cos:
    case OpKind::erf:
    case OpKind::extern_elementwise:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool encloses(const Op* outer, const Op* inner) {
  for (const Op* o = inner->parent->parent; o != nullptr; o = o->parent->parent)
    if (o == outer) return true;
  return false;
}

Plan::Plan(const Function& function, AffineAnalysis& analysis, std::string where)
    : analysis_(analysis), where_(std::move(where)) {
  number(*function.body);
  place_block(*function.body);
}

Place Plan::place(const Value* v) const {
  const auto it = places_.find(v);
  return it == places_.end() ? Place::lazy : it->second;
}

const Value* Plan::home(const Value* v) const {
  for (auto it = homes_.find(v); it != homes_.end(); it = homes_.find(v)) v = it->second;
  return v;
}

void Plan::number(const Block& block) {
  for (const auto& op : block.ops) {
    const int here = static_cast<int>(position_.size());
    position_[op.get()] = here;
    if (op->kind == OpKind::store || op->kind == OpKind::atomic_rmw ||
        op->kind == OpKind::atomic_cas)
      writes_.push_back(here);
    if (op->kind == OpKind::scf_for) {
      analysis_.analyse_loop(*op);
      place_loop(*op);
    }
    for (const auto& region : op->regions) number(*region->block);
    if (op->kind == OpKind::scf_if || op->kind == OpKind::scf_while || op->kind == OpKind::call)
      for (const auto& r : op->results)
        if (r->type.is_tensor()) places_[r.get()] = Place::buffer;
    if (op->kind == OpKind::scf_while)
      for (const auto& region : op->regions)
        for (const auto& a : region->block->args)
          if (a->type.is_tensor()) places_[a.get()] = Place::buffer;
    end_[op.get()] = static_cast<int>(position_.size());
  }
}

std::int64_t Plan::rows_of(const Op* loop) const {
  const auto it = row_loops_.find(loop);
  return it == row_loops_.end() ? 0 : it->second;
}

// Whether all that becomes of a carried matrix in the loop is computed row by row.
bool Plan::stays_in_rows(const Value* v, const Op* loop) const {
  const Block* body = loop->regions[0]->block.get();
  return std::all_of(v->users.begin(), v->users.end(), [&](const Op* user) {
    if (user->parent != body) return false;
    if (user->kind == OpKind::scf_yield) return true;
    return op_class(user->kind) == OpClass::elementwise &&
           user->result()->type.shape == v->type.shape && stays_in_rows(user->result(), loop);
  });
}

// A loop that adds to matrices and whose results are only reduced along their rows: the rows know
// nothing of each other, so one after the other goes through the whole loop, in registers.
bool Plan::place_row_loop(const Op& loop) {
  const Block& body = *loop.regions[0]->block;
  if (loop.results.empty()) return false;
  for (const auto& op : body.ops)
    if (op_class(op->kind) != OpClass::elementwise && !keeps_rows(op->kind) &&
        op->kind != OpKind::load && op->kind != OpKind::scf_yield)
      return false;
  int vectors = 0;
  for (std::size_t slot = 0; slot < loop.results.size(); ++slot) {
    const Value* arg = body.args[slot + 1].get();
    const auto& type = arg->type;
    if (!type.is_tensor() || type.is_pointer || type.scalar != Scalar::f32 ||
        type.shape.size() != 2 || type.shape[0] < 2 ||
        type.shape[0] != body.args[1]->type.shape[0] || !stays_in_rows(arg, &loop))
      return false;
    vectors += static_cast<int>((type.shape[1] + 15) / 16);
    for (const Op* user : loop.results[slot]->users)
      if (user->kind != OpKind::reduce || user->int_attr("axis", 0) != 1 ||
          reduce_identity(*user).empty() || user->parent != loop.parent)
        return false;
  }
  if (vectors > kRowVectors) return false;
  for (std::size_t slot = 0; slot < loop.results.size(); ++slot) {
    const Value* arg = body.args[slot + 1].get();
    places_[arg] = places_[loop.results[slot].get()] = Place::tile;
    homes_[loop.results[slot].get()] = arg;
  }
  row_loops_[&loop] = body.args[1]->type.shape[0];
  return true;
}

// Carried tensors: moved by scalars, in registers, or in the arena.
void Plan::place_loop(const Op& loop) {
  if (place_row_loop(loop)) return;
  const Block& body = *loop.regions[0]->block;
  int vectors = 0;
  int work = 0;
  for (const auto& op : body.ops)
    for (const auto& r : op->results)
      work += r->type.is_tensor() && op_class(op->kind) == OpClass::elementwise;
  for (std::size_t slot = 0; slot < loop.results.size(); ++slot) {
    const Value* arg = body.args[slot + 1].get();
    const Value* result = loop.results[slot].get();
    if (!arg->type.is_tensor()) continue;
    Place place = Place::buffer;
    if (analysis_.advance(arg) != nullptr) {
      place = Place::advance;
    } else if (work <= kUnrolledWork && !arg->type.is_pointer && arg->type.scalar != Scalar::i1 &&
               arg->type.n_elements() == arg->type.shape.back()) {
      const auto lanes = arg->type.shape.back();
      const int size =
          static_cast<int>((lanes + 15) / 16) * std::max(1, storage_bytes(arg->type) / 4);
      std::unordered_set<const Value*> seen;
      if (lanes <= 16 * kTileVectors && vectors + size <= kTileVectors && fits_tile(arg, seen) &&
          fits_tile(result, seen)) {
        vectors += size;
        place = Place::tile;
      }
    }
    places_[arg] = places_[result] = place;
    homes_[result] = arg;
  }
}

// Whether every use of v walks its last dimension by vectors.
bool Plan::fits_tile(const Value* v, std::unordered_set<const Value*>& seen) const {
  if (!seen.insert(v).second) return true;
  for (const Op* user : v->users) {
    switch (user->kind) {
      case OpKind::expand_dims:
        if (user->int_attr("axis", 0) == static_cast<std::int64_t>(v->type.shape.size()))
          return false;
        break;
      case OpKind::broadcast:
        if (v->type.shape.back() == 1 && user->result()->type.shape.back() != 1) return false;
        break;
      case OpKind::reduce:
      case OpKind::store:
      case OpKind::scf_yield:
      case OpKind::atomic_rmw:
        continue;
      case OpKind::scf_for:
      case OpKind::load:
        break;
      default:
        if (op_class(user->kind) != OpClass::elementwise) return false;
    }
    if (user->kind != OpKind::scf_for)
      for (const auto& r : user->results)
        if (!fits_tile(r.get(), seen)) return false;
  }
  return true;
}

int Plan::own_cost(const Op& op) const {
  if (is_shape_op(op.kind)) return 0;
  if (is_transcendental(op.kind)) return 16;
  switch (op.kind) {
    case OpKind::addptr:
      return 0;
    case OpKind::divf:
    case OpKind::sqrt:
    case OpKind::rsqrt:
    case OpKind::precise_divf:
    case OpKind::precise_sqrt:
      return 6;
    case OpKind::remf:
    case OpKind::divsi:
    case OpKind::remsi:
    case OpKind::divui:
    case OpKind::remui:
    case OpKind::mulhiui:
      return 8;
    default:
      return 1;
  }
}

int Plan::cost(const Value* v) {
  const auto it = costs_.find(v);
  if (it != costs_.end()) return it->second;
  int sum = 1;
  if (v->def != nullptr && v->type.is_tensor() &&
      (is_shape_op(v->def->kind) || op_class(v->def->kind) == OpClass::elementwise ||
       v->def->kind == OpKind::load)) {
    sum = own_cost(*v->def);
    const bool is_int = !is_float_type(v->type.scalar) || v->type.is_pointer;
    // Index arithmetic is analysed, not computed: only what is not affine costs.
    if (is_int && analysis_.of(v).terms.empty() && !analysis_.of(v).root_tensor) {
      sum = 0;
    } else {
      for (const Value* o : v->def->operands) sum += cost(o);
    }
  }
  return costs_[v] = std::min(sum, 1000);
}

// Each root evaluates v once, whatever paths lead there, but for loops around it and rows that it
// is repeated for.
int Plan::uses(const Value* v) const {
  int n = 0;
  for (const Op* root : roots_.at(v)) {
    int one = 1;
    for (const Op* o = root->parent->parent;
         o != nullptr && v->def != nullptr && o != v->def->parent->parent; o = o->parent->parent)
      if (o->kind == OpKind::scf_for || o->kind == OpKind::scf_while) one *= 4;
    n = std::min(n + one, 1 << 20);
  }
  return is_repeated_.count(v) != 0 ? 2 * n : n;
}

// A load evaluated at `root` must not see what was written since.
bool Plan::crosses_write(const Op& load, const Value* v) const {
  const int from = position_.at(&load);
  for (const Op* root : roots_.at(v)) {
    int to = position_.at(root);
    for (const Op* o = root->parent->parent; o != nullptr; o = o->parent->parent)
      if ((o->kind == OpKind::scf_for || o->kind == OpKind::scf_while) && !encloses(o, &load))
        to = end_.at(o);
    for (int w : writes_)
      if (w > from && w < to) return true;
    // Fused into a store through the same pointer: harmless where both touch the same elements.
    if (root->kind == OpKind::store) {
      const Affine& a = analysis_.of(load.operands[0]);
      const Affine& b = analysis_.of(root->operands[0]);
      const bool shares_root = a.root_tensor || b.root_tensor || a.root == b.root;
      if (shares_root && !(a == b)) return true;
    }
  }
  return false;
}

// A vector whose elements lie apart, read again for each row of a matrix.
bool Plan::is_gathered_again(const Op& load, const Value* v) const {
  if (v->type.shape.size() != 1 || is_repeated_.count(v) == 0) return false;
  const Affine& a = analysis_.of(load.operands[0]);
  return !a.stride[0].is_constant(1) && !a.stride[0].is_constant(0);
}

void Plan::place_block(const Block& block) {
  for (auto it = block.ops.rbegin(); it != block.ops.rend(); ++it) {
    const Op& op = **it;
    const bool has_own_region =
        op.kind == OpKind::reduce || op.kind == OpKind::scan || op.kind == OpKind::map_elementwise;
    if (!has_own_region)
      for (auto r = op.regions.rbegin(); r != op.regions.rend(); ++r) place_block(*(*r)->block);
    if (op.kind == OpKind::scf_for) alias_loop(op);
    for (const auto& r : op.results)
      if (r->type.is_tensor()) place_result(op, r.get());
  }
}

void Plan::place_result(const Op& op, const Value* v) {
  auto& roots = roots_[v];
  bool is_dot_operand = false;
  bool is_reshaped = false;
  for (const Op* user : v->users) {
    if (user->kind == OpKind::dot && (user->operands[0] == v || user->operands[1] == v))
      is_dot_operand |= user->operands[1] == v || !analysis_.is_plain_rows(v);
    if (user->kind == OpKind::dot_scaled)
      for (std::size_t i = 0; i < user->operands.size(); ++i)
        is_dot_operand |= i != 2 && user->operands[i] == v;
    if (user->kind == OpKind::reshape && !trivial_reshape(v->type, user->result()->type))
      is_reshaped = true;
    if (user->kind == OpKind::scan) is_reshaped = true;
    if (user->kind == OpKind::gather && user->operands[0] == v) is_reshaped = true;
    bool is_lazy = user->kind != OpKind::scf_for && !user->results.empty();
    for (const auto& r : user->results) {
      if (!r->type.is_tensor() || place(r.get()) != Place::lazy) {
        is_lazy = false;
      } else if (is_lazy) {
        const auto& more = roots_[r.get()];
        roots.insert(more.begin(), more.end());
        if (user->kind == OpKind::broadcast || is_repeated_.count(r.get()) != 0)
          is_repeated_.insert(v);
      }
    }
    if (!is_lazy) roots.insert(user);
  }
  if (places_.count(v) != 0) return;  // carried
  switch (op.kind) {
    case OpKind::dot:
    case OpKind::dot_scaled:
    case OpKind::inline_asm:
    case OpKind::reduce:
    case OpKind::scan:
    case OpKind::join:
    case OpKind::cat:
    case OpKind::gather:
    case OpKind::histogram:
    case OpKind::map_elementwise:
    case OpKind::atomic_rmw:
    case OpKind::atomic_cas:
      places_[v] = Place::buffer;
      return;
    case OpKind::reshape:
      if (!trivial_reshape(op.operands[0]->type, v->type)) {
        places_[v] = Place::buffer;
        homes_[v] = op.operands[0];
        return;
      }
      break;
    default:
      break;
  }
  if (is_dot_operand || is_reshaped) {
    places_[v] = Place::buffer;
    return;
  }
  // Only a row of it is wanted at a time.
  if (roots.empty() || (op.parent->parent != nullptr && rows_of(op.parent->parent) > 0)) return;
  if (op.kind == OpKind::load) {
    if (crosses_write(op, v) || is_gathered_again(op, v)) places_[v] = Place::buffer;
    return;
  }
  if (v->type.is_pointer || op_class(op.kind) != OpClass::elementwise) return;
  const int threshold = v->type.scalar == Scalar::i1 ? 2 * kCheap : kCheap;
  if (uses(v) >= 2 && cost(v) >= threshold) places_[v] = Place::buffer;
}

Plan::Reads Plan::reads(const Value* v, const Value* storage) const {
  if (!v->type.is_tensor()) return Reads::no;
  if (place(v) == Place::buffer || place(v) == Place::tile)
    return home(v) == storage ? Reads::same_index : Reads::no;
  if (v->def == nullptr || v->def->kind == OpKind::scf_for) return Reads::no;
  Reads out = Reads::no;
  for (const Value* o : v->def->operands) {
    Reads r = reads(o, storage);
    if (r == Reads::same_index && op_class(v->def->kind) == OpClass::shape) r = Reads::other_index;
    out = std::max(out, r);
  }
  return out;
}

// What the loop yields is written over what it carries, where nothing reads the old value later.
void Plan::alias_loop(const Op& loop) {
  const Block& body = *loop.regions[0]->block;
  const Op& yield = *body.ops.back();
  for (std::size_t slot = 0; slot < loop.results.size(); ++slot) {
    const Value* arg = body.args[slot + 1].get();
    const Value* y = yield.operands[slot];
    if (!arg->type.is_tensor() || place(arg) != Place::buffer) continue;
    if (place(y) != Place::buffer || y->def == nullptr || y->def->parent != &body ||
        homes_.count(y) != 0)
      continue;
    // An argument's roots, as place_result finds them for results.
    const int written = position_.at(y->def);
    bool safe = true;
    std::set<const Op*> ends;
    std::vector<const Value*> work{arg};
    while (!work.empty()) {
      const Value* v = work.back();
      work.pop_back();
      for (const Op* user : v->users) {
        bool is_lazy = user->kind != OpKind::scf_for && !user->results.empty();
        for (const auto& r : user->results)
          if (!r->type.is_tensor() || place(r.get()) != Place::lazy) is_lazy = false;
        if (is_lazy) {
          for (const auto& r : user->results) work.push_back(r.get());
        } else {
          ends.insert(user);
        }
      }
    }
    for (const Op* end : ends) {
      int at = position_.at(end);
      for (const Op* o = end->parent->parent; o != &loop; o = o->parent->parent) at = end_.at(o);
      if (at > written) safe = false;
    }
    if (op_class(y->def->kind) == OpClass::matmul) {
      if (reads(y->def->operands[2], arg) == Reads::other_index) safe = false;
      for (std::size_t i = 0; i < y->def->operands.size(); ++i)
        if (i != 2 && home(y->def->operands[i]) == arg) safe = false;
    } else if (op_class(y->def->kind) == OpClass::elementwise) {
      for (const Value* o : y->def->operands)
        if (reads(o, arg) == Reads::other_index) safe = false;
    } else {
      safe = false;
    }
    // A second slot with the same value keeps its own storage.
    if (safe) homes_[y] = arg;
  }
}

}  // namespace nereid::ttir
