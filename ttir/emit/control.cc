// Loops and branches: carried scalars are variables, carried tensors tiles of vectors or parts of
// the arena.
#include <algorithm>

#include "emitter.h"

namespace nereid::ttir {

namespace {

std::string variable_type(const Value* v) {
  return v->type.is_pointer ? memory_type(v->type.scalar) + "*" : value_type(v->type.scalar);
}

// So many vectors that each row of a matrix is multiplied by take longer to load, even from the
// nearest cache, than memory to give the row's own.
constexpr std::int64_t kManyLoads = 8;

// Whether rows of the loop's matrices have enough in common to be worth taking together: floats
// that are computed for all of them, or many loads.
bool have_much_in_common(const Op& loop) {
  std::int64_t n_loads = 0;
  for (const auto& op : loop.regions[0]->block->ops) {
    if (op->results.empty()) continue;
    const Type& type = op->result()->type;
    const bool is_for_all =
        type.is_tensor() && !type.is_pointer && (type.shape.size() == 1 || type.shape[0] == 1);
    if (!is_for_all) continue;
    if (op->kind == OpKind::load) n_loads += (type.n_elements() + 15) / 16;
    if (op_class(op->kind) == OpClass::elementwise && is_float_type(type.scalar)) return true;
  }
  return n_loads >= kManyLoads;
}

}  // namespace

// All at once: what is read is what was there before.
void Emitter::assign_scalars(const std::vector<const Value*>& to,
                             const std::vector<const Value*>& from) {
  std::vector<std::size_t> changed;
  for (std::size_t i = 0; i < to.size(); ++i)
    if (!to[i]->type.is_tensor() && to[i] != from[i]) changed.push_back(i);
  const auto is_target = [&](const Value* v) {
    return std::any_of(changed.begin(), changed.end(), [&](std::size_t i) { return to[i] == v; });
  };
  std::vector<std::string> texts;
  for (std::size_t i : changed) {
    std::string text = scalar_text(from[i]);
    if (is_target(from[i])) {
      const std::string copy = scope_.names.fresh(text + "_old");
      out_.line(cat("const auto ", copy, " = ", text, ";"));
      text = copy;
    }
    texts.push_back(text);
  }
  for (std::size_t k = 0; k < changed.size(); ++k)
    out_.line(cat(scope_.names.of(to[changed[k]]), " = ", texts[k], ";"));
}

// Tensors `from` become the contents of `to`'s storage, all at once.
void Emitter::carry(const std::vector<const Value*>& to, const std::vector<const Value*>& from) {
  // What is stored elsewhere is copied; what is an expression is computed, all of one shape in one
  // nest.
  std::vector<std::size_t> rest;
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (!to[i]->type.is_tensor() || plan_.place(to[i]) == Place::advance) continue;
    if (plan_.place(from[i]) != Place::lazy && plan_.home(from[i]) == plan_.home(to[i])) continue;
    rest.push_back(i);
  }
  struct Late {
    std::size_t slot;
    std::string copy;
  };
  std::vector<Late> late;
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t i : rest) {
    // Read by another slot's value, in another nest or at another index: computed aside, written at
    // the end.
    bool is_read = false;
    for (std::size_t k : rest) {
      const auto reads = plan_.reads(from[k], plan_.home(to[i]));
      if (reads == Plan::Reads::other_index) is_read = true;
      if (reads != Plan::Reads::no && k != i && to[k]->type.shape != to[i]->type.shape)
        is_read = true;
    }
    const bool is_tile = plan_.place(to[i]) == Place::tile;
    if (is_read && !is_tile) {
      late.push_back({i, ""});
      continue;
    }
    auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
      return to[g[0]]->type.shape == to[i]->type.shape &&
             (plan_.place(to[g[0]]) == Place::tile) == is_tile;
    });
    if (same == groups.end()) groups.push_back({}), same = groups.end() - 1;
    same->push_back(i);
  }
  for (Late& l : late) {
    const Value* v = to[l.slot];
    l.copy = copied(from[l.slot], scope_.names.of(v) + "_next");
  }
  // Tiles last: what is stored may still read them.
  std::stable_partition(groups.begin(), groups.end(),
                        [&](const auto& g) { return plan_.place(to[g[0]]) != Place::tile; });
  for (const auto& g : groups) {
    std::vector<const Value*> storages, values;
    for (std::size_t i : g) storages.push_back(to[i]), values.push_back(from[i]);
    fill(storages, values);
  }
  for (const Late& l : late)
    out_.line(cat("std::memcpy(", scope_.storage_of(to[l.slot]), ", ", l.copy, ", ",
                  std::to_string(to[l.slot]->type.n_elements() * storage_bytes(to[l.slot]->type)),
                  ");"));
}

void Emitter::for_loop(const Op& o) {
  if (const std::int64_t n_rows = plan_.rows_of(&o); n_rows > 0) return row_loop(o, n_rows);
  loop(o);
}

// All of the loop for one row after the other, or for a few at once that share what is the same for
// every row; and at the end of each what it is reduced to.
void Emitter::row_loop(const Op& o, std::int64_t n_rows) {
  std::vector<const Op*> reductions;
  for (const auto& result : o.results)
    for (const Op* user : result->users) reductions.push_back(user);
  std::sort(reductions.begin(), reductions.end(),
            [&](const Op* a, const Op* b) { return plan_.position(a) < plan_.position(b); });
  for (const Op* user : reductions)
    for (const auto& r : user->results) declare_buffer(r.get());
  for (const Op* user : reductions) keep_rows(*user);
  row_ = scope_.names.fresh("row");
  rows_at_once_ = scope_.names.fresh("rows_at_once");
  std::int64_t n_vectors = 0;
  for (const auto& result : o.results) n_vectors += (result->type.shape[1] + 15) / 16;
  // One after the other is how memory is read fastest.
  out_.line(cat("constexpr int ", rows_at_once_, " = ",
                have_much_in_common(o) ? cat("rt::rows_at_once(", std::to_string(n_rows), ", ",
                                             std::to_string(n_vectors), ")")
                                       : "1",
                ";"));
  out_.open(cat("for (std::int64_t ", row_, "_at = 0; ", row_, "_at < ", std::to_string(n_rows),
                "; ", row_, "_at += ", rows_at_once_, ") {"));
  loop(o);
  for (const Op* user : reductions) {
    reduce(*user);
    done_.insert(user);
  }
  out_.close();
  row_.clear();
  for (const Op* user : reductions) reduce_kept_rows(*user);
}

void Emitter::open_rows() {
  if (row_.empty()) return out_.open("{");
  out_.open(cat("rt::unroll<", rows_at_once_, ">([&](auto part) RT_BODY {"));
  out_.line(cat("const std::int64_t ", row_, " = ", row_, "_at + part;"));
}

void Emitter::close_rows() { out_.close(row_.empty() ? "}" : "});"); }

void Emitter::loop(const Op& o) {
  const Block& body = *o.regions[0]->block;
  const Op& yield = *body.ops.back();
  const Value* iv = body.args[0].get();
  std::vector<const Value*> args, inits, yields;
  for (std::size_t i = 0; i < o.results.size(); ++i) {
    args.push_back(body.args[i + 1].get());
    inits.push_back(o.operands[3 + i]);
    yields.push_back(yield.operands[i]);
  }
  std::vector<const Value*> tensor_args, tensor_inits;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const Value* a = args[i];
    if (!a->type.is_tensor()) {
      // The result is what the variable holds at the end: one name for both.
      out_.line(cat(variable_type(a), " ", scope_.names.of(a), " = ", scalar_text(inits[i]), ";"));
    } else if (plan_.place(a) == Place::advance) {
      out_.line(cat("std::int64_t ", *scope_.analysis.advance(a), " = 0;"));
    } else if (plan_.place(a) == Place::tile) {
      const std::string name = scope_.names.fresh(scope_.names.of(a) + "_tile");
      const std::string rows = row_.empty() ? "" : cat("[", rows_at_once_, "]");
      out_.line(cat("rt::Vec<", value_type(a->type.scalar), "> ", name, rows, "[",
                    std::to_string((a->type.shape.back() + 15) / 16), "];"));
      scope_.storage[a] = row_.empty() ? name : cat(name, "[part]");
    } else {
      declare_buffer(a);
    }
  }
  carry(args, inits);
  const std::string type = value_type(iv->type.scalar);
  const std::string& i = scope_.names.of(iv);
  // Counted in 64 bits where the last step could pass the type's end.
  out_.open(cat("for (std::int64_t ", i, "_at = ", scalar_text(o.operands[0]), "; ", i, "_at < ",
                scalar_text(o.operands[1]), "; ", i, "_at += ", scalar_text(o.operands[2]), ") {"));
  out_.line(cat("const ", type, " ", i, " = static_cast<", type, ">(", i, "_at);"));
  const std::size_t before = arena_;
  for (const auto& op_in : body.ops) op(*op_in);
  carry(args, yields);
  for (const Value* a : args)
    if (plan_.place(a) == Place::advance && a->type.is_tensor()) {
      const Linear step = scope_.analysis.advance_step(a);
      if (!step.is_constant(0))
        out_.line(cat(*scope_.analysis.advance(a), " += ", step.text(), ";"));
    }
  assign_scalars(args, yields);
  arena_ = before;
  out_.close();
  for (std::size_t k = 0; k < args.size(); ++k)
    if (!args[k]->type.is_tensor() && !o.results[k]->users.empty())
      out_.line(cat(args[k]->type.is_pointer ? "" : "const ", variable_type(args[k]), " ",
                    args[k]->type.is_pointer ? "const " : "", scope_.names.of(o.results[k].get()),
                    " = ", scope_.names.of(args[k]), ";"));
}

// Variables and parts of the arena that branches, or the returns of a call, write.
void Emitter::declare_results(const Op& o) {
  for (const auto& r : o.results) {
    if (r->type.is_tensor()) {
      declare_buffer(r.get());
    } else {
      out_.line(cat(variable_type(r.get()), " ", scope_.names.of(r.get()), ";"));
    }
  }
}

void Emitter::if_else(const Op& o) {
  declare_results(o);
  std::vector<const Value*> results;
  for (const auto& r : o.results) results.push_back(r.get());
  const auto branch = [&](const Region& region) {
    const std::size_t before = arena_;
    const Block& b = *region.block;
    for (const auto& op_in : b.ops) op(*op_in);
    if (!results.empty() && b.ops.back()->kind == OpKind::scf_yield) {
      const std::vector<const Value*> yields(b.ops.back()->operands.begin(),
                                             b.ops.back()->operands.end());
      carry(results, yields);
      assign_scalars(results, yields);
    }
    arena_ = before;
  };
  out_.open(cat("if (", scalar_text(o.operands[0]), ") {"));
  branch(*o.regions[0]);
  if (o.regions.size() > 1 && (!results.empty() || o.regions[1]->block->ops.size() > 1)) {
    out_.reopen("} else {");
    branch(*o.regions[1]);
  }
  out_.close();
}

// A called function in a block of its own; a return out of a branch goes to the block's end.
void Emitter::call(const Op& o) {
  declare_results(o);
  const std::size_t before = arena_;
  out_.open("{");
  for (const auto& op_in : o.regions[0]->block->ops) op(*op_in);
  out_.close();
  if (const auto end = ends_.find(&o); end != ends_.end()) out_.line(cat(end->second, ":;"));
  arena_ = before;
}

void Emitter::end_function(const Op& o) {
  const Op* owner = o.parent->parent;
  while (owner != nullptr && owner->kind != OpKind::call) owner = owner->parent->parent;
  const bool is_last = o.parent->parent == owner;
  if (owner == nullptr) {
    if (!is_last) out_.line("return;");
    return;
  }
  std::vector<const Value*> results;
  for (const auto& r : owner->results) results.push_back(r.get());
  const std::vector<const Value*> values(o.operands.begin(), o.operands.end());
  carry(results, values);
  assign_scalars(results, values);
  if (is_last) return;
  std::string& label = ends_[owner];
  if (label.empty()) label = scope_.names.fresh("returned");
  out_.line(cat("goto ", label, ";"));
}

void Emitter::while_loop(const Op& o) {
  const Block& before = *o.regions[0]->block;
  const Block& after = *o.regions[1]->block;
  std::vector<const Value*> args, inits(o.operands.begin(), o.operands.end()), results, after_args;
  const auto declare = [&](const Value* v) {
    if (v->type.is_tensor()) {
      declare_buffer(v);
    } else {
      out_.line(cat(variable_type(v), " ", scope_.names.of(v), "{};"));
    }
  };
  for (const auto& a : before.args) args.push_back(a.get());
  for (const auto& r : o.results) results.push_back(r.get());
  for (const auto& a : after.args) after_args.push_back(a.get());
  for (const auto& list : {args, results, after_args})
    for (const Value* v : list) declare(v);
  carry(args, inits);
  assign_scalars(args, inits);
  // A loop that looks at an atomic each time waits for somebody.
  const bool is_waiting = std::any_of(before.ops.begin(), before.ops.end(), [](const auto& each) {
    return each->kind == OpKind::atomic_rmw || each->kind == OpKind::atomic_cas;
  });
  const std::string looks = is_waiting ? scope_.names.fresh("looks") : "";
  if (is_waiting) out_.line(cat("std::uint32_t ", looks, " = 0;"));
  out_.open("for (;;) {");
  const std::size_t mark = arena_;
  for (const auto& op_in : before.ops) op(*op_in);
  const Op& condition = *before.ops.back();
  const std::vector<const Value*> passed(condition.operands.begin() + 1, condition.operands.end());
  carry(results, passed);
  assign_scalars(results, passed);
  out_.line(cat("if (!(", scalar_text(condition.operands[0]), ")) break;"));
  carry(after_args, passed);
  assign_scalars(after_args, passed);
  for (const auto& op_in : after.ops) op(*op_in);
  const std::vector<const Value*> yields(after.ops.back()->operands.begin(),
                                         after.ops.back()->operands.end());
  carry(args, yields);
  assign_scalars(args, yields);
  if (is_waiting) out_.line(cat("rt::give_way(", looks, ");"));
  arena_ = mark;
  out_.close();
}

}  // namespace nereid::ttir
