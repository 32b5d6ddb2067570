// Operations that consume tensors: stores, what is kept in the arena.
#include <algorithm>
#include <set>

#include "elementwise.h"
#include "emitter.h"

namespace nereid::ttir {

namespace {

// Votes of the memory that a value's expression reads: contiguous along which dimension of the
// nest?
class Vote {
 public:
  Vote(const Plan& plan, AffineAnalysis& analysis, std::size_t rank)
      : votes(rank, 0), plan_(plan), analysis_(analysis) {}

  // dims[d]: the dimension of the nest that indexes dimension d of v; -1: none.
  void visit(const Value* v, const std::vector<int>& dims, bool is_root) {
    if (!v->type.is_tensor() || !seen_.insert({v, dims}).second) return;
    const Place place = is_root ? Place::lazy : plan_.place(v);
    if (place == Place::tile) {
      has_tile = true;
      tile_dim = dims.back();
      return;
    }
    if (place == Place::buffer) {
      int n_varying = 0;
      for (std::size_t d = 0; d < dims.size(); ++d)
        n_varying += dims[d] >= 0 && v->type.shape[d] > 1;
      for (std::size_t d = dims.size(); d-- > 0;) {
        if (v->type.shape[d] == 1) continue;
        if (dims[d] >= 0) votes[dims[d]] += 2 * weight_of(n_varying);
        break;
      }
      return;
    }
    if (v->def == nullptr || place == Place::advance) return;
    const Op& op = *v->def;
    switch (op.kind) {
      case OpKind::load:
        return pointer(op.operands[0], dims, 2);
      case OpKind::expand_dims: {
        std::vector<int> in = dims;
        in.erase(in.begin() + op.int_attr("axis", 0));
        return visit(op.operands[0], in, false);
      }
      case OpKind::broadcast: {
        std::vector<int> in = dims;
        for (std::size_t d = 0; d < in.size(); ++d)
          if (op.operands[0]->type.shape[d] == 1) in[d] = -1;
        return visit(op.operands[0], in, false);
      }
      case OpKind::trans: {
        const auto order = std::get<std::vector<std::int64_t>>(*op.attr("order"));
        std::vector<int> in(dims.size());
        for (std::size_t d = 0; d < dims.size(); ++d) in[order[d]] = dims[d];
        return visit(op.operands[0], in, false);
      }
      case OpKind::reshape: {
        const auto map = trivial_reshape(op.operands[0]->type, v->type);
        if (!map) return;
        std::vector<int> in(op.operands[0]->type.shape.size(), -1);
        for (std::size_t d = 0; d < dims.size(); ++d)
          if ((*map)[d] >= 0) in[(*map)[d]] = dims[d];
        return visit(op.operands[0], in, false);
      }
      default:
        if (op_class(op.kind) != OpClass::elementwise) return;
        for (const Value* o : op.operands) visit(o, dims, false);
    }
  }

  void pointer(const Value* p, const std::vector<int>& dims, int weight) {
    const Affine& a = analysis_.of(p);
    const auto varies = [&](std::size_t d) {
      return dims[d] >= 0 && p->type.shape[d] > 1 && !a.stride[d].is_constant(0);
    };
    int n_varying = 0;
    for (std::size_t d = 0; d < dims.size(); ++d) n_varying += varies(d);
    for (std::size_t d = 0; d < dims.size(); ++d)
      if (varies(d) && a.stride[d].is_constant(1)) votes[dims[d]] += weight * weight_of(n_varying);
  }

  std::vector<int> votes;
  bool has_tile = false;
  int tile_dim = -1;

 private:
  // What varies along one dimension alone is read once for all of the others if it is no lane: a
  // column of factors must not outvote the matrix that they scale.
  static int weight_of(int n_varying) { return n_varying > 1 ? 16 : 1; }

  const Plan& plan_;
  AffineAnalysis& analysis_;
  std::set<std::pair<const Value*, std::vector<int>>> seen_;
};

}  // namespace

Emitter::Lanes Emitter::lanes_of(const std::vector<const Value*>& values,
                                 const std::vector<const Value*>& pointers) const {
  const auto& shape = (values.empty() ? pointers[0] : values[0])->type.shape;
  std::vector<int> dims(shape.size());
  for (std::size_t d = 0; d < dims.size(); ++d) dims[d] = static_cast<int>(d);
  Vote vote(plan_, const_cast<AffineAnalysis&>(scope_.analysis), shape.size());
  for (const Value* v : values) vote.visit(v, dims, false);
  for (const Value* p : pointers) vote.pointer(p, dims, 3);
  int best = -1;
  for (std::size_t d = shape.size(); d-- > 0;)
    if (shape[d] > 1 && (best < 0 || vote.votes[d] > vote.votes[best])) best = static_cast<int>(d);
  if (vote.has_tile) best = vote.tile_dim;
  return {best, vote.has_tile};
}

Coord Emitter::index(Nest& nest, const std::vector<std::int64_t>& shape, std::size_t d) const {
  if (row_.empty() || d != 0) return nest.add_index(shape[d]);
  return {Coord::Kind::index, 0, row_};
}

Coords Emitter::loops(Nest& nest, const std::vector<std::int64_t>& shape, int lane, Walk walk) {
  Coords coords(shape.size());
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (static_cast<int>(d) != lane) coords[d] = index(nest, shape, d);
  if (lane >= 0) coords[lane] = nest.add_lanes(shape[lane], walk);
  return coords;
}

void Emitter::materialise(const Value* v) {
  declare_buffer(v);
  fill({v}, {v});
}

std::string Emitter::copied(const Value* v, const std::string& stem) {
  const std::string name =
      temporary(stem, storage_type(v->type),
                static_cast<std::size_t>(v->type.n_elements()) * storage_bytes(v->type));
  copy_to(name, v);
  return name;
}

std::string Emitter::stored(const Value* v) {
  return plan_.place(v) == Place::buffer ? scope_.storage_of(v) : copied(v, "operand");
}

void Emitter::copy_to(const std::string& storage, const Value* v) {
  Value stand_in;
  stand_in.name = v->name;
  stand_in.type = v->type;
  scope_.storage[&stand_in] = storage;
  fill({&stand_in}, {v});
  scope_.storage.erase(&stand_in);
}

// Computes values (all of one shape) and then writes them to storages, element by element.
void Emitter::fill(const std::vector<const Value*>& storages,
                   const std::vector<const Value*>& values) {
  const auto& shape = storages[0]->type.shape;
  const bool to_tile = plan_.place(storages[0]) == Place::tile;
  const bool is_definition = storages[0] == values[0];
  std::vector<const Value*> voters;
  for (const Value* v : values) {
    if (is_definition && v->def != nullptr) {
      // The value's own storage is what is being filled: its operands vote.
      std::vector<int> dims(shape.size());
      voters = {v};
    } else {
      voters.push_back(v);
    }
  }
  Lanes lanes;
  if (is_definition) {
    std::vector<int> dims(shape.size());
    for (std::size_t d = 0; d < dims.size(); ++d) dims[d] = static_cast<int>(d);
    Vote vote(plan_, scope_.analysis, shape.size());
    vote.visit(values[0], dims, true);
    for (std::size_t d = shape.size(); d-- > 0;)
      if (shape[d] > 1 && (lanes.dim < 0 || vote.votes[d] > vote.votes[lanes.dim]))
        lanes.dim = static_cast<int>(d);
    lanes.has_tile = vote.has_tile;
    if (vote.has_tile) lanes.dim = vote.tile_dim;
  } else {
    lanes = lanes_of(voters, {});
  }
  if (to_tile) lanes.dim = static_cast<int>(shape.size()) - 1;
  const Scalar scalar = storages[0]->type.scalar;
  const bool is_float =
      !storages[0]->type.is_pointer && (scalar == Scalar::f32 || is_narrow(scalar));
  if (is_definition && shape.size() == 2 && lanes.dim == 0 && shape[1] > 1 && !lanes.has_tile &&
      (is_float || may_be_quads(values[0])))
    return fill_transposed(storages[0], values[0]);
  open_rows();
  Nest nest(scope_);
  // An operand of tt.dot only: rows that are zero are not read.
  const bool only_dots =
      is_definition && shape.size() == 2 && lanes.dim == 1 &&
      std::all_of(values[0]->users.begin(), values[0]->users.end(), [&](const Op* user) {
        return user->kind == OpKind::dot && user->operands[0] == values[0] &&
               user->operands[1] != values[0] && user->operands[2] != values[0];
      });
  const std::string rows = only_dots ? extent(values[0], 0) : "";
  Coords coords;
  if (rows.empty() || rows == std::to_string(shape[0])) {
    coords = loops(nest, shape, lanes.dim, to_tile || lanes.has_tile ? Walk::tile : Walk::row);
  } else {
    coords = {nest.add_index(shape[0], rows)};
    coords.push_back(nest.add_lanes(shape[1], lanes.has_tile ? Walk::tile : Walk::row));
  }
  std::vector<Expr> results;
  for (const Value* v : values)
    results.push_back(is_definition ? nest.eval_definition(v, coords) : nest.eval(v, coords));
  for (std::size_t i = 0; i < storages.size(); ++i) {
    if (to_tile) {
      const std::string x = results[i].is_vector
                                ? results[i].text
                                : broadcast_text(results[i].text, storages[i]->type);
      nest.line(nest.innermost(), cat(scope_.storage_of(storages[i]), "[",
                                      shape.back() <= 16 ? "0" : "j", "] = ", x, ";"));
    } else {
      nest.store_buffer(storages[i], coords, results[i]);
    }
  }
  nest.write(out_);
  close_rows();
}

void Emitter::store(const Op& o) {
  const Value* pointer = o.operands[0];
  const Value* value = o.operands[1];
  const Value* mask = o.operands.size() > 2 ? o.operands[2] : nullptr;
  if (!pointer->type.is_tensor()) {
    const std::string x = scalar_text(value);
    const std::string text =
        cat("rt::store_scalar(", scalar_text(pointer), ", ",
            value->type.scalar == Scalar::i1 ? cat("std::int8_t{", x, "}") : x, ");");
    out_.line(mask == nullptr ? text : cat("if (", scalar_text(mask), ") ", text));
    return;
  }
  const Lanes lanes = lanes_of({value}, {pointer});
  out_.open("{");
  Nest nest(scope_);
  const Coords coords =
      loops(nest, pointer->type.shape, lanes.dim, lanes.has_tile ? Walk::tile : Walk::row);
  if (!lanes.has_tile) {
    const std::string count = nest.mask_count(mask, coords);
    if (!count.empty()) nest.limit_lanes(count);
  }
  nest.store(o, coords);
  nest.write(out_);
  out_.close();
}

void Emitter::atomic(const Op& o) {
  const Value* pointer = o.operands[0];
  const Value* result = o.results.empty() || o.result()->users.empty() ? nullptr : o.result();
  if (!pointer->type.is_tensor()) {
    std::string name;
    if (result != nullptr) {
      name = scope_.names.of(result);
      out_.line(cat(value_type(result->type.scalar), " ", name, "{};"));
    }
    out_.open("{");
    Nest nest(scope_);
    nest.atomic(o, {}, name);
    nest.write(out_);
    return out_.close();
  }
  if (result != nullptr) declare_buffer(result);
  const Lanes lanes = lanes_of({o.operands[1]}, {pointer});
  out_.open("{");
  Nest nest(scope_);
  const Coords coords =
      loops(nest, pointer->type.shape, lanes.dim, lanes.has_tile ? Walk::tile : Walk::row);
  std::string name;
  if (result != nullptr) {
    int level = 0;
    name = lanes.dim < 0 ? cat("*(", nest.buffer_at(result, coords, level), ")") : "result";
  }
  nest.atomic(o, coords, name);
  nest.write(out_);
  out_.close();
}

// [..., 2]: the two operands' elements side by side.
void Emitter::join(const Op& o) {
  const Value* d = o.result();
  declare_buffer(d);
  const Lanes lanes = lanes_of({o.operands[0], o.operands[1]}, {});
  out_.open("{");
  Nest nest(scope_);
  Coords coords =
      loops(nest, o.operands[0]->type.shape, lanes.dim, lanes.has_tile ? Walk::tile : Walk::row);
  for (int side = 0; side < 2; ++side) {
    const Expr e = nest.eval(o.operands[side], coords);
    Coords to = coords;
    to.push_back(side == 0 ? Coord{} : Coord{Coord::Kind::index, 0, "1"});
    nest.store_buffer(d, to, e);
  }
  nest.write(out_);
  out_.close();
}

}  // namespace nereid::ttir
