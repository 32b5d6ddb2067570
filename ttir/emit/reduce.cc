// tt.reduce and tt.scan. Any combine region is evaluated on vectors, lane by lane, and at the end
// across the lanes; sums and extrema start from an identity and use several accumulators.
#include <algorithm>
#include <functional>

#include "elementwise.h"
#include "emitter.h"

namespace nereid::ttir {

namespace {

// The one operation of a combine region, or null.
const Op* single_combine(const Op& reduce) {
  const Block& b = *reduce.regions[0]->block;
  if (b.ops.size() != 2 || b.args.size() != 2) return nullptr;
  const Op& op = *b.ops[0];
  if (op.operands.size() != 2 || b.ops[1]->operands[0] != op.result()) return nullptr;
  const bool straight = op.operands[0] == b.args[0].get() && op.operands[1] == b.args[1].get();
  const bool crossed = op.operands[1] == b.args[0].get() && op.operands[0] == b.args[1].get();
  return straight || crossed ? &op : nullptr;
}

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
                across_lanes(*single_combine(o)), "(", rows, " + i0));"));
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

// The region applied to args (all left operands, then all right ones); its results.
std::vector<std::string> Emitter::combine(const Op& o, const std::vector<std::string>& args,
                                          bool is_vector, std::vector<std::string>& lines) {
  const Block& b = *o.regions[0]->block;
  std::unordered_map<const Value*, std::string> names;
  for (std::size_t i = 0; i < args.size(); ++i) names[b.args[i].get()] = args[i];
  const auto text = [&](const Value* v) -> std::string {
    const auto it = names.find(v);
    if (it != names.end()) return it->second;
    const std::string scalar = scalar_text(v);
    return is_vector ? broadcast_text(scalar, v->type) : scalar;
  };
  const auto define = [&](const Value* v, const std::string& value) {
    const std::string name = scope_.names.fresh(v);
    const std::string type = is_vector ? "auto" : value_type(v->type.scalar);
    lines.push_back(cat("const ", type, " ", name, " = ", value, ";"));
    names[v] = name;
  };
  const std::function<void(const Block&)> walk = [&](const Block& block) {
    for (const auto& inner : block.ops) {
      if (inner->kind == OpKind::constant) continue;
      if (inner == block.ops.back()) return;
      if (inner->kind == OpKind::scf_if && inner->regions.size() == 2) {
        // Both sides touch no memory: computed, then chosen between.
        for (const auto& region : inner->regions) walk(*region->block);
        for (std::size_t i = 0; i < inner->results.size(); ++i) {
          const auto side = [&](int r) {
            return text(inner->regions[r]->block->ops.back()->operands[i]);
          };
          const std::string c = text(inner->operands[0]);
          define(inner->result(i), is_vector
                                       ? cat("rt::select(", c, ", ", side(0), ", ", side(1), ")")
                                       : cat(c, " ? ", side(0), " : ", side(1)));
        }
        continue;
      }
      if (op_class(inner->kind) != OpClass::elementwise)
        refuse(scope_.where, *inner,
               "the CPU target does not support this operation on single elements");
      std::vector<std::string> in;
      for (const Value* operand : inner->operands) in.push_back(text(operand));
      define(inner->result(), elementwise_text(*inner, in, is_vector, scope_.where));
    }
  };
  walk(b);
  std::vector<std::string> out;
  for (const Value* v : b.ops.back()->operands) out.push_back(text(v));
  return out;
}

void Emitter::reduce(const Op& o) {
  const int axis = static_cast<int>(o.int_attr("axis", 0));
  const std::vector<const Value*> values(o.operands.begin(), o.operands.end());
  for (const Value* v : values)
    if (v->type.is_pointer)
      refuse(scope_.where, o, cat("reducing ", type_text(v->type), " is not supported"));
  const Lanes lanes = lanes_of(values, {});
  for (const auto& r : o.results) {
    if (r->type.is_tensor()) {
      declare_buffer(r.get());
    } else {
      out_.line(cat(value_type(r->type.scalar), " ", scope_.names.of(r.get()), ";"));
    }
  }
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
  const std::vector<const Value*> values(o.operands.begin(), o.operands.end());
  const Lanes lanes = lanes_of(values, {});
  const auto& shape = values[0]->type.shape;
  const std::int64_t width = shape[axis];
  const std::string identity = reduce_identity(o);
  const Op* single = identity.empty() ? nullptr : single_combine(o);
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
  const int n_acc = single == nullptr ? 1 : static_cast<int>(std::min<std::int64_t>(n_vectors, 4));
  const bool tile = lanes.has_tile;
  coords[axis] = nest.add_lanes(width, tile ? Walk::tile : Walk::row, tile ? 1 : n_acc);
  std::vector<std::string> accs, xs, types;
  for (const Value* v : values) {
    xs.push_back(nest.vector_text(v, coords));
    accs.push_back(scope_.names.fresh("acc"));
    types.push_back(value_type(v->type.scalar));
  }
  const int at = nest.innermost();
  const auto result_at = [&](std::size_t i) -> std::string {
    const Value* r = o.results[i].get();
    if (!r->type.is_tensor()) return scope_.names.of(r);
    Coords to = coords;
    to.erase(to.begin() + axis);
    int level = 0;
    return cat("*(", nest.buffer_at(r, to, level), ")");
  };
  std::vector<std::string> lines;
  if (single != nullptr) {
    std::string init;
    for (int i = 0; i < n_acc; ++i)
      init += cat(i == 0 ? "" : ", ", "rt::set<", types[0], ">(", identity, ")");
    nest.line(row, cat("rt::Vec<", types[0], "> ", accs[0], "[", std::to_string(n_acc), "] = {",
                       init, "};"));
    const std::string u = n_acc == 1 ? "0" : tile ? cat("j % ", std::to_string(n_acc)) : "u";
    const std::string acc = cat(accs[0], "[", u, "]");
    std::string x = xs[0];
    if (width < 16)
      x = cat("rt::select(rt::first_n(", std::to_string(width), "), ", x, ", rt::set<", types[0],
              ">(", identity, "))");
    if (single->kind == OpKind::maxnumf) {
      nest.line(at, cat(acc, " = rt::running_max(", acc, ", ", x, ");"));
    } else {
      for (const std::string& r : combine(o, {acc, x}, true, lines))
        lines.push_back(cat(acc, " = ", r, ";"));
      for (const std::string& l : lines) nest.line(at, l);
    }
    lines.clear();
    for (int step = 1; step < n_acc; step *= 2)
      for (int i = 0; i + step < n_acc; i += 2 * step) {
        const std::string left = cat(accs[0], "[", std::to_string(i), "]");
        const auto r =
            combine(o, {left, cat(accs[0], "[", std::to_string(i + step), "]")}, true, lines);
        lines.push_back(cat(left, " = ", r[0], ";"));
      }
    const std::string across = across_lanes(*single);
    if (!across.empty()) {
      lines.push_back(rows.empty()
                          ? cat(result_at(0), " = ", across, "(", accs[0], "[0]);")
                          : cat(rows, "[", row_.empty() ? "r" : row_, "] = ", accs[0], "[0];"));
      for (const std::string& l : lines) nest.after(row, l);
      if (block > 0)
        nest.after(block, cat("rt::store(", scope_.storage_of(o.result()), " + i0, ", across, "(",
                              rows, "));"));
      nest.write(out_);
      return;
    }
    accs[0] += "[0]";
  } else {
    std::string first, next;
    std::vector<std::string> args = accs;
    args.insert(args.end(), xs.begin(), xs.end());
    for (std::size_t i = 0; i < accs.size(); ++i) {
      nest.line(row, cat(vector_type(values[i]->type.scalar), " ", accs[i], ";"));
      first += cat(accs[i], " = ", xs[i], "; ");
    }
    if (n_vectors > 1) {
      nest.line(at, cat(tile ? "if constexpr (j == 0) { " : "if (c == 0) { ", first, "} else {"));
      const auto r = combine(o, args, true, lines);
      for (std::size_t i = 0; i < accs.size(); ++i)
        lines.push_back(cat("const auto ", accs[i], "_next = ", r[i], ";"));
      for (std::size_t i = 0; i < accs.size(); ++i)
        lines.push_back(cat(accs[i], " = ", accs[i], "_next;"));
      for (const std::string& l : lines) nest.line(at, cat("  ", l));
      nest.line(at, "}");
    } else {
      nest.line(at, first);
    }
    lines.clear();
  }
  // Across the lanes, left to right.
  std::vector<std::string> lefts, rights;
  for (std::size_t i = 0; i < accs.size(); ++i) {
    const std::string lane = scope_.names.fresh("lane");
    const std::string left = scope_.names.fresh("left");
    lines.push_back(cat("alignas(64) ", types[i], " ", lane, "[rt::kVec];"));
    lines.push_back(cat("rt::to_array(", accs[i], ", ", lane, ");"));
    lines.push_back(cat(types[i], " ", left, " = ", lane, "[0];"));
    lefts.push_back(left);
    rights.push_back(lane + "[l]");
  }
  lines.push_back(
      cat("for (int l = 1; l < ", std::to_string(std::min<std::int64_t>(width, 16)), "; ++l) {"));
  std::vector<std::string> args = lefts, inner;
  args.insert(args.end(), rights.begin(), rights.end());
  const auto r = combine(o, args, false, inner);
  for (const std::string& l : inner) lines.push_back(cat("  ", l));
  for (std::size_t i = 0; i < lefts.size(); ++i)
    lines.push_back(cat("  const ", types[i], " ", lefts[i], "_next = ", r[i], ";"));
  for (const std::string& l : lefts) lines.push_back(cat("  ", l, " = ", l, "_next;"));
  lines.push_back("}");
  for (std::size_t i = 0; i < lefts.size(); ++i)
    lines.push_back(cat(result_at(i), " = ", lefts[i], ";"));
  for (const std::string& l : lines) nest.after(row, l);
  nest.write(out_);
}

// Across rows of vectors: a strip of lanes is kept in registers while the rows go by.
void Emitter::reduce_rows(const Op& o, int axis, int lane) {
  const std::vector<const Value*> values(o.operands.begin(), o.operands.end());
  const bool has_tile = lanes_of(values, {}).has_tile;
  const auto& shape = values[0]->type.shape;
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
  std::vector<std::string> accs, xs, lefts;
  for (const Value* v : values) {
    const std::string x = is_vector ? nest.vector_text(v, coords) : nest.eval(v, coords).text;
    const std::string acc = scope_.names.fresh("acc");
    const std::string type = value_type(v->type.scalar);
    nest.line(outer, is_vector ? cat(vector_type(v->type.scalar), " ", acc, "[",
                                     std::to_string(strip), "];")
                               : cat(type, " ", acc, "[1];"));
    xs.push_back(x);
    accs.push_back(acc);
    lefts.push_back(cat(acc, "[", is_vector && strip > 1 ? "j" : "0", "]"));
  }
  const int at = nest.innermost();
  std::vector<std::string> lines, args = lefts;
  args.insert(args.end(), xs.begin(), xs.end());
  const bool has_loop = shape[axis] > 1;
  if (!identity.empty() && is_vector && has_loop) {
    nest.line(outer, cat("for (auto& a : ", accs[0],
                         ") a = ", broadcast_text(identity, values[0]->type), ";"));
    const auto r = combine(o, args, true, lines);
    lines.push_back(cat(lefts[0], " = ", r[0], ";"));
    for (const std::string& l : lines) nest.line(at, l);
  } else {
    std::string start;
    for (std::size_t i = 0; i < accs.size(); ++i) start += cat(lefts[i], " = ", xs[i], "; ");
    if (!has_loop) {
      nest.line(at, start);
    } else {
      nest.line(at, cat("if (", coords[axis].text, " == 0) { ", start, "} else {"));
      const auto r = combine(o, args, is_vector, lines);
      for (std::size_t i = 0; i < accs.size(); ++i)
        lines.push_back(cat("const auto ", accs[i], "_next = ", r[i], ";"));
      for (std::size_t i = 0; i < accs.size(); ++i)
        lines.push_back(cat(lefts[i], " = ", accs[i], "_next;"));
      for (const std::string& l : lines) nest.line(at, cat("  ", l));
      nest.line(at, "}");
    }
  }
  for (std::size_t i = 0; i < accs.size(); ++i) {
    const Value* v = o.results[i].get();
    if (!v->type.is_tensor()) {
      nest.after(outer, cat(scope_.names.of(v), " = ", accs[i], "[0];"));
      continue;
    }
    Coords to = coords;
    to.erase(to.begin() + axis);
    int level = 0;
    const std::string target = nest.buffer_at(v, to, level);
    if (!is_vector) {
      nest.after(outer, cat("*(", target, ") = ", accs[i], "[0];"));
    } else {
      nest.after(outer,
                 cat("rt::unroll<", std::to_string(strip), ">([&](auto j) RT_BODY { rt::store(",
                     target, ", ", accs[i], "[j]",
                     width < 16 ? cat(", rt::FirstN{", std::to_string(width), "}") : "", "); });"));
    }
  }
  nest.write(out_);
}

// One element after the other along the axis.
void Emitter::scan(const Op& o) {
  const int axis = static_cast<int>(o.int_attr("axis", 0));
  const bool reverse = o.int_attr("reverse", 0) != 0;
  const auto& shape = o.operands[0]->type.shape;
  for (const auto& r : o.results) declare_buffer(r.get());
  out_.open("{");
  Nest nest(scope_);
  Coords coords(shape.size());
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (static_cast<int>(d) != axis) coords[d] = nest.add_index(shape[d]);
  const int row = nest.innermost();
  const std::string last = std::to_string(shape[axis] - 1);
  const int level = nest.add_loop(cat("for (std::int64_t s = 0; s <= ", last, "; ++s) {"));
  coords[axis] = {Coord::Kind::index, level, reverse ? cat("(", last, " - s)") : "s"};
  std::vector<std::string> running, elements;
  for (std::size_t i = 0; i < o.operands.size(); ++i) {
    const Value* v = o.operands[i];
    if (v->type.is_pointer)
      refuse(scope_.where, o, cat("scanning ", type_text(v->type), " is not supported"));
    const std::string name = scope_.names.fresh("running");
    nest.line(row, cat(value_type(v->type.scalar), " ", name, "{};"));
    running.push_back(name);
    elements.push_back(nest.eval(v, coords).text);
  }
  std::vector<std::string> args = running, lines;
  args.insert(args.end(), elements.begin(), elements.end());
  const auto r = combine(o, args, false, lines);
  nest.line(level, "if (s == 0) {");
  for (std::size_t i = 0; i < running.size(); ++i)
    nest.line(level, cat("  ", running[i], " = ", elements[i], ";"));
  nest.line(level, "} else {");
  for (const std::string& l : lines) nest.line(level, cat("  ", l));
  for (std::size_t i = 0; i < running.size(); ++i)
    nest.line(level, cat("  const auto ", running[i], "_next = ", r[i], ";"));
  for (const std::string& name : running) nest.line(level, cat("  ", name, " = ", name, "_next;"));
  nest.line(level, "}");
  for (std::size_t i = 0; i < running.size(); ++i)
    nest.store_buffer(o.results[i].get(), coords, {running[i], false, level});
  nest.write(out_);
  out_.close();
}

}  // namespace nereid::ttir
