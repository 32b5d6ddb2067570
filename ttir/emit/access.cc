// Memory in a loop nest: addresses from affine forms, masks as counts of lanes, loads, stores, the
// arena.
#include <algorithm>

#include "elementwise.h"
#include "nest.h"

namespace nereid::ttir {

namespace {

bool is_lane(const Coord& c) { return c.kind == Coord::Kind::lane; }

int lane_dim_of(const Coords& coords) {
  for (std::size_t d = 0; d < coords.size(); ++d)
    if (is_lane(coords[d])) return static_cast<int>(d);
  return -1;
}

}  // namespace

Coords Nest::term_coords(const TensorTerm& t, const Coords& coords) const {
  Coords in(t.dims.size());
  for (std::size_t i = 0; i < t.dims.size(); ++i)
    if (t.dims[i] >= 0) in[i] = coords[t.dims[i]];
  return in;
}

// The form at coords, without what depends on lane_dim; `level`: where it is known.
Linear Nest::linear_at(const Affine& a, const Coords& coords, int lane_dim, int& level) {
  Linear sum = a.base;
  for (std::size_t d = 0; d < coords.size(); ++d) {
    if (static_cast<int>(d) == lane_dim || a.stride[d].is_constant(0) ||
        coords[d].kind == Coord::Kind::zero)
      continue;
    const bool is_number = coords[d].text.find_first_not_of("0123456789") == std::string::npos;
    sum = sum + (is_number ? Linear(std::stoll(coords[d].text)) : Linear::term(coords[d].text)) *
                    a.stride[d];
    level = std::max(level, coords[d].level);
  }
  for (const TensorTerm& t : a.terms) {
    const Coords in = term_coords(t, coords);
    if (lane_dim_of(in) >= 0) continue;
    const Expr e = eval(t.tensor, in);
    NEREID_CHECK(!e.is_vector, "index term %{} is a vector", t.tensor->name);
    sum = sum + Linear::term(cat("rt::i64(", e.text, ")")) * t.coef;
    level = std::max(level, e.level);
  }
  return sum;
}

Nest::Address Nest::address(const Value* pointer, const Coords& coords) {
  const Affine a = scope_.analysis.of(pointer);
  const std::string type = memory_type(pointer->type.scalar);
  const int lane_dim = lane_dim_of(coords);
  bool gathers = a.root_tensor && lane_dim_of(term_coords(*a.root_tensor, coords)) >= 0;
  for (const TensorTerm& t : a.terms) gathers |= lane_dim_of(term_coords(t, coords)) >= 0;
  Address out;
  if (gathers) {
    const Expr e = address_vector(pointer, coords);
    return {Address::Kind::gather, e.text, "", e.level};
  }
  const Linear offset = linear_at(a, coords, lane_dim, out.level);
  std::string root;
  if (a.root_tensor) {
    const Expr e = eval(a.root_tensor->tensor, term_coords(*a.root_tensor, coords));
    out.level = std::max(out.level, e.level);
    root = cat("reinterpret_cast<", type, "*>(", e.text, ")");
  } else {
    root = scope_.names.of(a.root);
    if (memory_type(a.root->type.scalar) != type)
      root = cat("reinterpret_cast<", type, "*>(", root, ")");
  }
  std::string text = root;
  if (!offset.is_constant(0)) text += cat(" + (", offset.text(), ")");
  std::string& name = counts_[cat(type, " ", text)];
  if (name.empty()) {
    name = scope_.names.fresh(cat("p", std::to_string(counts_.size())));
    line(out.level, cat(type, "* const ", name, " = ", text, ";"));
  }
  out.pointer = name;
  if (lane_dim < 0 || a.stride[lane_dim].is_constant(0)) return out;
  out.level = lane_level_;
  if (a.stride[lane_dim].is_constant(1)) {
    out.kind = Address::Kind::unit;
    if (lane_text_ != "0") out.pointer = cat(name, " + ", lane_text_);
    return out;
  }
  out.kind = Address::Kind::strided;
  out.stride = a.stride[lane_dim].text();
  if (lane_text_ != "0")
    out.pointer = cat(name, " + (", lane_text_, ") * ", a.stride[lane_dim].factor());
  return out;
}

// The addresses of sixteen lanes, or of one element, as integers.
Expr Nest::address_vector(const Value* pointer, const Coords& coords) {
  const Affine a = scope_.analysis.of(pointer);
  const int lane_dim = lane_dim_of(coords);
  int level = 0;
  const std::string bytes = std::to_string(memory_bytes(pointer->type.scalar));
  const Linear offset = linear_at(a, coords, lane_dim, level);
  std::string base;
  bool is_vector = false;
  if (a.root_tensor) {
    // The tensor itself: an opaque pointer is computed by its own operation.
    const Value* t = a.root_tensor->tensor;
    const Coords in = term_coords(*a.root_tensor, coords);
    Expr e = t == pointer ? (scope_.plan->place(t) == Place::buffer ? eval_buffer(t, in)
                                                                    : eval_elementwise(*t->def, in))
                          : eval(t, in);
    base = e.text;
    is_vector = e.is_vector;
    level = std::max(level, e.level);
  } else {
    base = cat("rt::address(", scope_.names.of(a.root), ")");
  }
  std::string text = offset.is_constant(0) ? "" : cat(offset.factor(), " * ", bytes);
  std::vector<std::string> vectors;
  if (lane_dim >= 0 && !a.stride[lane_dim].is_constant(0)) {
    vectors.push_back(cat("rt::iota<std::int64_t>(", lane_text_, ") * rt::set<std::int64_t>(",
                          a.stride[lane_dim].factor(), " * ", bytes, ")"));
    level = lane_level_;
  }
  for (const TensorTerm& t : a.terms) {
    const Coords in = term_coords(t, coords);
    if (lane_dim_of(in) < 0) continue;
    const Expr e = eval(t.tensor, in);
    vectors.push_back(cat("rt::to<std::int64_t>(",
                          e.is_vector ? e.text : broadcast_text(e.text, t.tensor->type),
                          ") * rt::set<std::int64_t>(", t.coef.factor(), " * ", bytes, ")"));
    level = std::max(level, e.level);
  }
  if (is_vector || !vectors.empty()) {
    if (!is_vector)
      base = cat("rt::set<std::int64_t>(", base, text.empty() ? "" : " + ", text, ")");
    else if (!text.empty())
      base += cat(" + rt::set<std::int64_t>(", text, ")");
    for (const std::string& v : vectors) base += " + " + v;
    return declare(pointer, base, true, level);
  }
  return declare(pointer, cat(base, text.empty() ? "" : " + ", text), false, level);
}

void Nest::collect(const Value* mask, const Coords& where, Active& out,
                   std::vector<std::pair<std::string, int>>& conds,
                   std::vector<std::pair<std::string, int>>& bounds) {
  const Coords coords = canonical(mask, where);
  const int lane_dim = lane_dim_of(coords);
  const Op* op = scope_.plan->place(mask) == Place::lazy ? mask->def : nullptr;
  if (op != nullptr && op->kind == OpKind::constant) {
    const Attr& a = *op->attr("value");
    if (std::holds_alternative<std::int64_t>(a) && std::get<std::int64_t>(a) != 0) return;
  }
  if (op != nullptr && op->kind == OpKind::andi) {
    collect(op->operands[0], coords, out, conds, bounds);
    collect(op->operands[1], coords, out, conds, bounds);
    return;
  }
  if (lane_dim < 0) {
    const Expr e = eval(mask, coords);
    conds.emplace_back(e.text, e.level);
    return;
  }
  if (op != nullptr && op->kind == OpKind::broadcast) {
    Coords in = coords;
    for (std::size_t d = 0; d < in.size(); ++d)
      if (op->operands[0]->type.shape[d] == 1) in[d] = Coord{};
    return collect(op->operands[0], in, out, conds, bounds);
  }
  if (op != nullptr && op->kind == OpKind::expand_dims) {
    Coords in = coords;
    in.erase(in.begin() + op->int_attr("axis", 0));
    return collect(op->operands[0], in, out, conds, bounds);
  }
  if (op != nullptr && op->kind == OpKind::trans) {
    const auto order = std::get<std::vector<std::int64_t>>(*op->attr("order"));
    Coords in(coords.size());
    for (std::size_t d = 0; d < coords.size(); ++d) in[order[d]] = coords[d];
    return collect(op->operands[0], in, out, conds, bounds);
  }
  if (op != nullptr && op->kind == OpKind::cmpi && op->operands[0]->type.scalar != Scalar::i1 &&
      !op->operands[0]->type.is_pointer) {
    const std::string p(op->word_attr("predicate", ""));
    const bool swapped = p == "sgt" || p == "sge";
    if (p == "slt" || p == "sle" || swapped) {
      // index + ... < bound, with the index's factor one: the lanes before bound - ... are on.
      const Affine low = scope_.analysis.of(op->operands[swapped ? 1 : 0]);
      const Affine high = scope_.analysis.of(op->operands[swapped ? 0 : 1]);
      bool simple = low.stride[lane_dim].is_constant() && high.stride[lane_dim].is_constant() &&
                    low.stride[lane_dim].constant() - high.stride[lane_dim].constant() == 1;
      for (const Affine* a : {&low, &high})
        for (const TensorTerm& t : a->terms) simple &= lane_dim_of(term_coords(t, coords)) < 0;
      if (simple) {
        int level = 0;
        Linear count =
            linear_at(high, coords, lane_dim, level) - linear_at(low, coords, lane_dim, level);
        if (p == "sle" || p == "sge") count = count + Linear(1);
        bounds.emplace_back(count.text(), level);
        return;
      }
    }
  }
  const std::string text = vector_text(mask, coords);
  out.mask = out.mask.empty() ? text : cat(out.mask, " & ", text);
}

Active Nest::active(const Value* mask, const Coords& coords) {
  Active out;
  if (mask == nullptr) return out;
  std::vector<std::pair<std::string, int>> conds, bounds;
  collect(mask, coords, out, conds, bounds);
  for (const auto& [text, level] : conds) {
    out.condition += (out.condition.empty() ? "" : " && ") + text;
    out.level = std::max(out.level, level);
  }
  if (lane_dim_of(coords) < 0 || (conds.empty() && bounds.empty())) return out;
  // One count for the row: bounds, or nothing where the condition fails.
  std::string text;
  int level = out.level;
  std::sort(bounds.begin(), bounds.end());
  bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
  const std::string width = cat("std::int64_t{", std::to_string(row_lanes_), "}");
  const bool needs_width = bounds.empty() || lanes_ < 16;
  if (bounds.size() + (needs_width ? 1 : 0) == 1) {
    text = bounds.empty() ? width : bounds[0].first;
  } else {
    text = needs_width ? cat("rt::least(", width) : "rt::least(";
    for (std::size_t i = 0; i < bounds.size(); ++i)
      text += (i == 0 && !needs_width ? "" : ", ") + bounds[i].first;
    text += ")";
  }
  for (const auto& [bound, l] : bounds) level = std::max(level, l);
  if (!out.condition.empty()) text = cat(out.condition, " ? ", text, " : 0");
  // Known only inside the loop over lanes: counted there.
  std::string& name = counts_[cat("n ", text)];
  if (name.empty()) {
    name = scope_.names.fresh("n");
    line(level, cat("const std::int64_t ", name, " = ", text, ";"));
  }
  out.count = name;
  out.count_level = level;
  if (level < lane_level_ && std::find(bounds_.begin(), bounds_.end(), name) == bounds_.end())
    bounds_.push_back(name);
  return out;
}

std::string Nest::mask_count(const Value* mask, const Coords& coords) {
  if (mask == nullptr || lane_level_ < 0) return "";
  const Active a = active(mask, coords);
  return a.count_level < lane_level_ ? a.count : "";
}

// The argument that says which lanes an access touches; empty: all.
std::string Nest::active_text(const Active& a) {
  std::string text;
  const std::string rest = lane_text_ == "0" ? a.count
                                             : cat(a.count, " - ", walk_ == Walk::tile ? "(" : "",
                                                   lane_text_, walk_ == Walk::tile ? ")" : "");
  if (!a.count.empty()) {
    text = a.count_level < lane_level_ ? cat("rt::upto(active, ", rest, ")")
                                       : cat("rt::FirstN{", rest, "}");
  } else if (lanes_ < 16) {
    text = cat("rt::FirstN{", std::to_string(lanes_), "}");
  } else if (walk_ == Walk::lanes) {
    text = cat("rt::upto(active, ", limit_, " - c)");
  }
  if (a.mask.empty()) return text;
  return text.empty() ? a.mask : cat("rt::lanes(", text, ") & (", a.mask, ")");
}

Expr Nest::eval_load(const Op& op, const Coords& coords) {
  const Value* v = op.result();
  const Value* pointer = op.operands[0];
  const Value* mask = op.operands.size() > 1 ? op.operands[1] : nullptr;
  const Value* other = op.operands.size() > 2 ? op.operands[2] : nullptr;
  const std::string type = memory_type(v->type.scalar);
  const bool is_bool = v->type.scalar == Scalar::i1;
  const Address at = address(pointer, coords);
  const bool has_lane = lane_dim_of(coords) >= 0;
  if (!has_lane) {
    const Active a = active(mask, coords);
    std::string text = cat("rt::load_scalar(", at.pointer, ")");
    if (is_bool) text = cat("(", text, " != 0)");
    int level = at.level;
    if (!a.condition.empty()) {
      Expr fallback{is_float_type(v->type.scalar) ? float_literal(0, v->type.scalar)
                                                  : int_literal(0, v->type.scalar),
                    false, 0};
      if (other != nullptr) fallback = eval(other, coords);
      text = cat(a.condition, " ? ", text, " : ", fallback.text);
      level = std::max({level, a.level, fallback.level});
    }
    return declare(v, text, false, level);
  }
  const Active a = active(mask, coords);
  const std::string lanes = active_text(a);
  const std::string comma_lanes = lanes.empty() ? "" : cat(", ", lanes);
  // Lanes that are off are zero unless another value is asked for.
  std::string fallback;
  if (other != nullptr && mask != nullptr) {
    const Expr e = eval(other, coords);
    const bool is_zero =
        !e.is_vector && (e.text == "0" || e.text == "0.0f" || e.text == "0.0" || e.text == "false");
    if (!is_zero) {
      const std::string x = e.is_vector ? e.text : broadcast_text(e.text, v->type);
      fallback = cat(", ", is_bool ? cat("rt::mask_bytes(", x, ")") : x);
    }
  }
  const std::string full_lanes = lanes.empty() ? ", rt::All()" : comma_lanes;
  std::string text;
  switch (at.kind) {
    case Address::Kind::scalar: {
      // One element for all lanes, read where any lane is on.
      const std::string element = cat("rt::load_scalar(", at.pointer, ")");
      const std::string set =
          cat("rt::set<", is_bool ? "std::int8_t" : value_type(v->type.scalar), ">(");
      text = cat("rt::select(rt::lanes(", lanes.empty() ? "rt::All()" : lanes, "), ", set,
                 "rt::any(", lanes.empty() ? "rt::All()" : lanes, ") ? ", element, " : 0), ",
                 fallback.empty() ? cat(set, "0)") : fallback.substr(2), ")");
      break;
    }
    case Address::Kind::unit: {
      if (op.word_attr("evict", "normal") == "evict_first") {
        const std::string ahead = cat("rt::prefetch_ahead(", at.pointer, ");");
        const bool halves =
            memory_bytes(v->type.scalar) * 16 < 64 && walk_ == Walk::tile && lanes_ > 16;
        line(lane_level_,
             halves ? cat("if constexpr (j % ", std::to_string(4 / memory_bytes(v->type.scalar)),
                          " == 0) ", ahead)
                    : ahead);
      }
      text =
          cat("rt::load(", at.pointer, fallback.empty() ? comma_lanes : full_lanes, fallback, ")");
      break;
    }
    case Address::Kind::strided:
      text = cat("rt::load_strided(", at.pointer, ", ", at.stride, full_lanes, fallback, ")");
      break;
    case Address::Kind::gather:
      text = cat("rt::gather<", type, ">(", at.pointer, full_lanes, fallback, ")");
      break;
  }
  if (is_bool) text = cat("rt::bytes_mask(", text, ")");
  return declare(
      v, text, true,
      innermost() > lane_level_ ? std::max({lane_level_, at.level, a.count_level}) : lane_level_);
}

void Nest::store(const Op& op, const Coords& coords) {
  const Value* pointer = op.operands[0];
  const Value* value = op.operands[1];
  const Value* mask = op.operands.size() > 2 ? op.operands[2] : nullptr;
  const std::string type = memory_type(pointer->type.scalar);
  // The store rounds: rounding before it is the same.
  const bool is_lazy = scope_.plan->place(value) == Place::lazy;
  if (is_lazy && value->def != nullptr && value->def->kind == OpKind::truncf &&
      value->def->operands[0]->type.scalar == Scalar::f32)
    value = value->def->operands[0];
  const Expr x = eval(value, coords);
  const Address at = address(pointer, coords);
  const Active a = active(mask, coords);
  const bool is_bool = value->type.scalar == Scalar::i1;
  if (lane_dim_of(coords) < 0) {
    const int level = std::max({x.level, at.level, a.level});
    const std::string text = cat("rt::store_scalar(", at.pointer, ", ",
                                 is_bool ? cat("std::int8_t{", x.text, "}") : x.text, ");");
    line(level, a.condition.empty() ? text : cat("if (", a.condition, ") ", text));
    return;
  }
  std::string vector = x.is_vector ? x.text : broadcast_text(x.text, value->type);
  if (is_bool) vector = cat("rt::mask_bytes(", vector, ")");
  const std::string lanes = active_text(a);
  const std::string all = lanes.empty() ? "rt::All()" : lanes;
  switch (at.kind) {
    case Address::Kind::scalar: {
      // Every lane writes the one element: any order.
      line(innermost(), cat("rt::store_strided(", at.pointer, ", 0, ", vector, ", ", all, ");"));
      break;
    }
    case Address::Kind::unit:
      line(innermost(),
           cat("rt::store(", at.pointer, ", ", vector, lanes.empty() ? "" : ", ", lanes, ");"));
      break;
    case Address::Kind::strided:
      line(innermost(),
           cat("rt::store_strided(", at.pointer, ", ", at.stride, ", ", vector, ", ", all, ");"));
      break;
    case Address::Kind::gather:
      line(innermost(), cat("rt::scatter<", type, ">(", at.pointer, ", ", vector, ", ", all, ");"));
      break;
  }
}

namespace {

std::string atomic_operator(const Op& op, const std::string& old, const std::string& x,
                            const std::string& where) {
  const std::string kind(op.word_attr("rmw_op", ""));
  if (is_float_type(op.operands[1]->type.scalar) && (kind == "max" || kind == "min"))
    return cat("rt::", kind, "num(", old, ", ", x, ")");
  if (kind == "fadd" || kind == "add") return cat(old, " + ", x);
  if (kind == "and") return cat(old, " & ", x);
  if (kind == "or") return cat(old, " | ", x);
  if (kind == "xor") return cat(old, " ^ ", x);
  if (kind == "max") return cat("rt::max_signed(", old, ", ", x, ")");
  if (kind == "min") return cat("rt::min_signed(", old, ", ", x, ")");
  if (kind == "umax") return cat("rt::max_unsigned(", old, ", ", x, ")");
  if (kind == "umin") return cat("rt::min_unsigned(", old, ", ", x, ")");
  if (kind == "exch") return x;
  refuse(where, op, cat("atomic ", kind, " is not supported"));
}

}  // namespace

void Nest::atomic(const Op& op, const Coords& coords, const std::string& result) {
  const Value* pointer = op.operands[0];
  const Value* value = op.operands[1];
  const bool is_cas = op.kind == OpKind::atomic_cas;
  const Value* mask = !is_cas && op.operands.size() > 2 ? op.operands[2] : nullptr;
  const std::string type = memory_type(pointer->type.scalar);
  const std::string element = value_type(value->type.scalar);
  const Active a = active(mask, coords);
  if (lane_dim_of(coords) < 0) {
    const Expr x = eval(value, coords);
    const std::string next = is_cas ? eval(op.operands[2], coords).text : "";
    const Address at = address(pointer, coords);
    const std::string update =
        is_cas ? cat("rt::atomic_cas(", at.pointer, ", ", x.text, ", ", next, ");")
               : cat("rt::atomic_update(", at.pointer, ", [&](", element, " old) -> ", element,
                     " { return ", atomic_operator(op, "old", x.text, scope_.where), "; });");
    const std::string text = result.empty() ? update : cat(result, " = ", update);
    line(innermost(), a.condition.empty() ? text : cat("if (", a.condition, ") ", text));
    return;
  }
  const std::string x = vector_text(value, coords);
  const Expr at = address_vector(pointer, coords);
  const std::string lanes = active_text(a);
  const std::string all = lanes.empty() ? "rt::All()" : lanes;
  const std::string update =
      is_cas ? cat("rt::atomic_cas<", type, ">(", at.text, ", ", x, ", ",
                   vector_text(op.operands[2], coords), ", ", all, ")")
             : cat("rt::atomic_update<", type, ">(", at.text, ", ", x, ", [](", element, " old, ",
                   element, " x) -> ", element, " { return ",
                   atomic_operator(op, "old", "x", scope_.where), "; }, ", all, ")");
  if (result.empty()) {
    line(innermost(), update + ";");
  } else {
    int level = 0;
    line(innermost(),
         cat("rt::store(", buffer_at(op.result(), coords, level), ", ", update,
             lanes_ < 16 ? cat(", rt::FirstN{", std::to_string(lanes_), "}") : "", ");"));
  }
}

// Where coords lie in a value's storage: row-major, no gaps.
std::string Nest::buffer_at(const Value* v, const Coords& coords, int& level) {
  Linear offset;
  std::int64_t stride = 1;
  for (std::size_t d = coords.size(); d-- > 0;) {
    if (coords[d].kind != Coord::Kind::zero) {
      // Lanes along an outer dimension: the stride multiplies the first lane too.
      const std::string text =
          is_lane(coords[d]) && stride != 1 ? cat("(", coords[d].text, ")") : coords[d].text;
      const bool is_number = text.find_first_not_of("0123456789") == std::string::npos;
      offset = offset + (is_number ? Linear(std::stoll(text)) : Linear::term(text)).scaled(stride);
      level = std::max(level, coords[d].level);
    }
    stride *= v->type.shape[d];
  }
  const std::string& name = scope_.storage_of(v);
  return offset.is_constant(0) ? name : cat(name, " + ", offset.text());
}

Expr Nest::eval_buffer(const Value* v, const Coords& coords) {
  int level = 0;
  const std::string at = buffer_at(v, coords, level);
  const int lane_dim = lane_dim_of(coords);
  const bool is_bool = v->type.scalar == Scalar::i1 && !v->type.is_pointer;
  if (lane_dim < 0) return declare(v, cat("*(", at, ")", is_bool ? " != 0" : ""), false, level);
  std::int64_t stride = 1;
  for (std::size_t d = coords.size(); d-- > static_cast<std::size_t>(lane_dim) + 1;)
    stride *= v->type.shape[d];
  std::string text = cat("rt::load(", at, ")");
  if (stride != 1)
    text = cat("rt::load_strided(", at, ", ", std::to_string(stride), ", ",
               lanes_ < 16 ? cat("rt::FirstN{", std::to_string(lanes_), "}") : "rt::All()", ")");
  if (is_bool) text = cat("rt::bytes_mask(", text, ")");
  return declare(v, text, true, std::max(level, lane_level_));
}

void Nest::store_buffer(const Value* buffer, const Coords& coords, const Expr& value) {
  int level = 0;
  const std::string at = buffer_at(buffer, coords, level);
  const int lane_dim = lane_dim_of(coords);
  if (lane_dim < 0) {
    const bool is_vector = value.is_vector;
    NEREID_CHECK(!is_vector, "vector stored at one index");
    line(innermost(), cat("*(", at, ") = ", value.text, ";"));
    return;
  }
  std::int64_t stride = 1;
  for (std::size_t d = coords.size(); d-- > static_cast<std::size_t>(lane_dim) + 1;)
    stride *= buffer->type.shape[d];
  std::string x = value.is_vector ? value.text : broadcast_text(value.text, buffer->type);
  if (buffer->type.scalar == Scalar::i1 && !buffer->type.is_pointer)
    x = cat("rt::mask_bytes(", x, ")");
  const std::string lanes = lanes_ < 16 ? cat(", rt::FirstN{", std::to_string(lanes_), "}") : "";
  if (stride == 1) {
    line(innermost(), cat("rt::store(", at, ", ", x, lanes, ");"));
  } else {
    line(innermost(), cat("rt::store_strided(", at, ", ", std::to_string(stride), ", ", x,
                          lanes.empty() ? ", rt::All()" : lanes, ");"));
  }
}

}  // namespace nereid::ttir
