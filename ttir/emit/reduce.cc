// tt.reduce by one operation that has an identity: sums and extrema, in several accumulators. Any
// other function: tree.cc.
#include <algorithm>

#include "combine.h"
#include "elementwise.h"
#include "emitter.h"

namespace nereid::ttir {

namespace {

std::string across_lanes(const Op& op) {
  if (memory_bytes(op.result()->type.scalar) < 4 && !is_narrow(op.result()->type.scalar)) return "";
  switch (op.kind) {
    case OpKind::addf:
    case OpKind::addi:
      return "rt::sum_lanes";
    case OpKind::maxnumf:
    case OpKind::maxsi:
      return "rt::max_lanes";
    case OpKind::minnumf:
    case OpKind::minsi:
      return "rt::min_lanes";
    default:
      return "";
  }
}

}  // namespace

std::string Emitter::rows_of_sixteen(const Op& o) {
  const Type& type = o.operands[0]->type;
  if (o.operands.size() != 1 || type.shape.size() != 2 || o.int_attr("axis", 0) != 1 ||
      type.shape[0] % 16 != 0 || value_type(type.scalar) != "float" || reduce_identity(o).empty() ||
      across_lanes(*single_combine(o)).empty())
    return "";
  return scope_.names.fresh("rows");
}

void Emitter::keep_rows(const Op& o) {
  const std::string rows = kept_rows_[&o] = rows_of_sixteen(o);
  if (!rows.empty())
    out_.line(
        cat("rt::Vec<float> ", rows, "[", std::to_string(o.operands[0]->type.shape[0]), "];"));
}

void Emitter::reduce_kept_rows(const Op& o) {
  const std::string& rows = kept_rows_.at(&o);
  if (rows.empty()) return;
  out_.line(cat("for (std::int64_t i0 = 0; i0 < ", std::to_string(o.operands[0]->type.shape[0]),
                "; i0 += 16) rt::store(", scope_.storage_of(o.result()), " + i0, ",
                rounded_text(cat(across_lanes(*single_combine(o)), "(", rows, " + i0)"),
                             o.operands[0]->type.scalar),
                ");"));
}

void Emitter::reduce(const Op& o) {
  const int axis = static_cast<int>(o.int_attr("axis", 0));
  const std::vector<const Value*> values(o.operands.begin(), o.operands.end());
  for (const Value* v : values)
    if (v->type.is_pointer)
      refuse(scope_.where, o, cat("reducing ", type_text(v->type), " is not supported"));
  for (const auto& r : o.results) {
    if (r->type.is_tensor()) {
      declare_buffer(r.get());
    } else {
      out_.line(cat(value_type(r->type.scalar), " ", scope_.names.of(r.get()), ";"));
    }
  }
  if (reduce_identity(o).empty()) return reduce_tree(o, axis);
  const Lanes lanes = lanes_of(values, {});
  open_rows();
  if (lanes.dim == axis) {
    reduce_lanes(o, axis);
  } else {
    reduce_rows(o, axis, lanes.dim);
  }
  close_rows();
}

// Along the lanes: vectors are combined into accumulators, and those across their lanes once a row.
void Emitter::reduce_lanes(const Op& o, int axis) {
  const Value* v = o.operands[0];
  const Lanes lanes = lanes_of({v}, {});
  const auto& shape = v->type.shape;
  const std::int64_t width = shape[axis];
  const std::string identity = reduce_identity(o);
  const Op* single = single_combine(o);
  const std::string type = value_type(v->type.scalar);
  Nest nest(scope_);
  Coords coords(shape.size());
  // Sixteen rows at a time leave the sixteen lanes of one vector.
  const std::string rows = row_.empty() ? rows_of_sixteen(o) : kept_rows_[&o];
  int block = 0;
  if (!rows.empty() && row_.empty()) {
    block = nest.add_loop(
        cat("for (std::int64_t i0 = 0; i0 < ", std::to_string(shape[0]), "; i0 += 16) {"));
    nest.line(block, cat("rt::Vec<float> ", rows, "[16];"));
    const int level = nest.add_loop("for (std::int64_t r = 0; r < 16; ++r) {");
    const std::string at = scope_.names.fresh("row");
    nest.line(level, cat("const std::int64_t ", at, " = i0 + r;"));
    coords[0] = {Coord::Kind::index, level, at};
  } else {
    for (std::size_t d = 0; d < shape.size(); ++d)
      if (static_cast<int>(d) != axis) coords[d] = index(nest, shape, d);
  }
  const int row = nest.innermost();
  const std::int64_t n_vectors = (width + 15) / 16;
  const int n_acc = static_cast<int>(std::min<std::int64_t>(n_vectors, 4));
  const bool tile = lanes.has_tile;
  coords[axis] = nest.add_lanes(width, tile ? Walk::tile : Walk::row, tile ? 1 : n_acc);
  std::string x = nest.vector_text(v, coords);
  const std::string accs = scope_.names.fresh("acc");
  const int at = nest.innermost();
  const auto result = [&]() -> std::string {
    const Value* r = o.result();
    if (!r->type.is_tensor()) return scope_.names.of(r);
    Coords to = coords;
    to.erase(to.begin() + axis);
    int level = 0;
    return cat("*(", nest.buffer_at(r, to, level), ")");
  };
  std::string init;
  for (int i = 0; i < n_acc; ++i)
    init += cat(i == 0 ? "" : ", ", "rt::set<", type, ">(", identity, ")");
  nest.line(row,
            cat("rt::Vec<", type, "> ", accs, "[", std::to_string(n_acc), "] = {", init, "};"));
  const std::string u = n_acc == 1 ? "0" : tile ? cat("j % ", std::to_string(n_acc)) : "u";
  const std::string acc = cat(accs, "[", u, "]");
  if (width < 16)
    x = cat("rt::select(rt::first_n(", std::to_string(width), "), ", x, ", rt::set<", type, ">(",
            identity, "))");
  std::vector<std::string> lines;
  if (single->kind == OpKind::maxnumf) {
    nest.line(at, cat(acc, " = rt::running_max(", acc, ", ", x, ");"));
  } else {
    const auto sum = combine(o, {acc, x}, {}, lines);
    lines.push_back(cat(acc, " = ", sum[0], ";"));
    for (const std::string& l : lines) nest.line(at, l);
  }
  lines.clear();
  for (int step = 1; step < n_acc; step *= 2)
    for (int i = 0; i + step < n_acc; i += 2 * step) {
      const std::string left = cat(accs, "[", std::to_string(i), "]");
      const auto sum = combine(o, {left, cat(accs, "[", std::to_string(i + step), "]")}, {}, lines);
      lines.push_back(cat(left, " = ", sum[0], ";"));
    }
  const std::string across = across_lanes(*single);
  const auto whole = [&](const std::string& text) {
    return rounded_text(text, v->type.scalar);  // narrow floats: once a reduction
  };
  if (!rows.empty()) {
    lines.push_back(cat(rows, "[", row_.empty() ? "r" : row_, "] = ", accs, "[0];"));
    if (block > 0)
      nest.after(block, cat("rt::store(", scope_.storage_of(o.result()), " + i0, ",
                            whole(cat(across, "(", rows, ")")), ");"));
  } else if (!across.empty()) {
    lines.push_back(cat(result(), " = ", whole(cat(across, "(", accs, "[0])")), ";"));
  } else {
    // Left to right: the operation is associative.
    const std::string lane = scope_.names.fresh("lane"), left = scope_.names.fresh("left");
    lines.push_back(cat("alignas(64) ", type, " ", lane, "[rt::kVec];"));
    lines.push_back(cat("rt::to_array(", accs, "[0], ", lane, ");"));
    lines.push_back(cat(type, " ", left, " = ", lane, "[0];"));
    lines.push_back(
        cat("for (int l = 1; l < ", std::to_string(std::min<std::int64_t>(width, 16)), "; ++l) {"));
    std::vector<std::string> inner;
    const auto sum = combine(o, {left, lane + "[l]"}, {.is_vector = false}, inner);
    for (const std::string& l : inner) lines.push_back(cat("  ", l));
    lines.push_back(cat("  ", left, " = ", sum[0], ";"));
    lines.push_back("}");
    lines.push_back(cat(result(), " = ", whole(left), ";"));
  }
  for (const std::string& l : lines) nest.after(row, l);
  nest.write(out_);
}

// Across rows of vectors: a strip of lanes is kept in registers while the rows go by.
void Emitter::reduce_rows(const Op& o, int axis, int lane) {
  const Value* v = o.operands[0];
  const bool has_tile = lanes_of({v}, {}).has_tile;
  const auto& shape = v->type.shape;
  const std::string identity = reduce_identity(o);
  const std::int64_t width = lane < 0 ? 1 : shape[lane];
  const std::int64_t n_vectors = (width + 15) / 16;
  const std::int64_t strip = has_tile ? n_vectors : std::min<std::int64_t>(n_vectors, 8);
  Nest nest(scope_);
  Coords coords(shape.size());
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (static_cast<int>(d) != axis && static_cast<int>(d) != lane)
      coords[d] = nest.add_index(shape[d]);
  if (strip < n_vectors)
    nest.add_loop(cat("for (std::int64_t c0 = 0; c0 < ", std::to_string(width),
                      "; c0 += ", std::to_string(strip * 16), ") {"));
  const int outer = nest.innermost();
  coords[axis] = nest.add_index(shape[axis]);
  if (lane >= 0)
    coords[lane] = strip < n_vectors ? nest.add_strip(width, strip * 16, "c0")
                                     : nest.add_lanes(width, Walk::tile);
  const bool is_vector = lane >= 0;
  const std::string x = is_vector ? nest.vector_text(v, coords) : nest.eval(v, coords).text;
  const std::string accs = scope_.names.fresh("acc");
  nest.line(outer, is_vector ? cat(vector_type(v->type.scalar), " ", accs, "[",
                                   std::to_string(strip), "];")
                             : cat(value_type(v->type.scalar), " ", accs, "[1];"));
  const std::string acc = cat(accs, "[", is_vector && strip > 1 ? "j" : "0", "]");
  const int at = nest.innermost();
  if (shape[axis] == 1) {
    nest.line(at, cat(acc, " = ", x, ";"));
  } else {
    // More than one element of them are along a dimension of lanes, if not along this one.
    NEREID_CHECK(is_vector, "rows without lanes");
    std::vector<std::string> lines;
    nest.line(outer,
              cat("for (auto& a : ", accs, ") a = ", broadcast_text(identity, v->type), ";"));
    const auto sum = combine(o, {acc, x}, {}, lines);
    lines.push_back(cat(acc, " = ", sum[0], ";"));
    for (const std::string& l : lines) nest.line(at, l);
  }
  const Value* r = o.result();
  const auto whole = [&](const std::string& text) {
    return rounded_text(text, v->type.scalar);  // narrow floats: once a reduction
  };
  if (!r->type.is_tensor()) {
    nest.after(outer, cat(scope_.names.of(r), " = ", accs, "[0];"));
    return nest.write(out_);
  }
  Coords to = coords;
  to.erase(to.begin() + axis);
  int level = 0;
  const std::string target = nest.buffer_at(r, to, level);
  if (!is_vector) {
    nest.after(outer, cat("*(", target, ") = ", accs, "[0];"));
  } else {
    nest.after(outer,
               cat("rt::unroll<", std::to_string(strip), ">([&](auto j) RT_BODY { rt::store(",
                   target, ", ", whole(cat(accs, "[j]")),
                   width < 16 ? cat(", rt::FirstN{", std::to_string(width), "}") : "", "); });"));
  }
  nest.write(out_);
}

}  // namespace nereid::ttir
