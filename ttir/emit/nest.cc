#include "nest.h"

#include <algorithm>

#include "elementwise.h"
#include "quads.h"

namespace nereid::ttir {

void Writer::line(const std::string& text) {
  // Preprocessor lines and blank lines stand at the margin.
  if (!text.empty() && text[0] != '#') text_.append(2 * depth_, ' ');
  text_ += text + "\n";
}

const std::string& Scope::storage_of(const Value* v) const {
  const auto it = storage.find(plan->home(v));
  NEREID_CHECK(it != storage.end(), "value %{} has no storage yet", v->name);
  return it->second;
}

std::string Scope::scalar_text(const Value* v) {
  if (v->def != nullptr && v->def->kind == OpKind::constant) {
    const Attr& a = *v->def->attr("value");
    if (std::holds_alternative<std::int64_t>(a)) {
      if (is_float_type(v->type.scalar))
        return float_literal(static_cast<double>(std::get<std::int64_t>(a)), v->type.scalar);
      return int_literal(std::get<std::int64_t>(a), v->type.scalar);
    }
    return float_literal(std::get<double>(a), v->type.scalar);
  }
  return names.of(v);
}

int Nest::add_loop(const std::string& open, const std::string& close) {
  levels_.push_back({open, close, {}, {}});
  return innermost();
}

Coord Nest::add_index(std::int64_t count, const std::string& limit) {
  if (count == 1 && limit.empty()) return {};
  const std::string i = cat("i", std::to_string(levels_.size() - 1));
  const int level = add_loop(cat("for (std::int64_t ", i, " = 0; ", i, " < ",
                                 limit.empty() ? std::to_string(count) : limit, "; ++", i, ") {"));
  return {Coord::Kind::index, level, i};
}

Coord Nest::add_lanes(std::int64_t lanes, Walk walk, int accumulators) {
  if (lanes == 1) return {};
  levels_.push_back({"", "});", {}, {}});
  lane_level_ = innermost();
  lanes_ = row_lanes_ = lanes;
  walk_ = walk;
  accumulators_ = accumulators;
  lane_text_ = walk != Walk::tile ? "c" : lanes <= 16 ? "0" : "j * 16";
  return {Coord::Kind::lane, lane_level_, lane_text_};
}

Coord Nest::add_strip(std::int64_t row_lanes, std::int64_t lanes, const std::string& first) {
  Coord lane = add_lanes(lanes, Walk::tile);
  row_lanes_ = row_lanes;
  first_ = first;
  lane.text = lane_text_ = cat(first, " + ", lane_text_);
  return lane;
}

void Nest::write(Writer& out) {
  if (lane_level_ >= 0) {
    std::vector<std::string> counts = bounds_;
    if (walk_ == Walk::lanes) counts.insert(counts.begin(), limit_);
    std::sort(counts.begin() + (walk_ == Walk::lanes), counts.end());
    counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
    if (walk_ == Walk::lanes)
      counts.erase(std::remove(counts.begin() + 1, counts.end(), limit_), counts.end());
    std::string full = counts.empty() ? "rt::All()" : counts[0];
    if (counts.size() > 1) {
      full = "rt::least(";
      for (std::size_t i = 0; i < counts.size(); ++i) full += (i == 0 ? "" : ", ") + counts[i];
      full += ")";
    }
    const std::string with = accumulators_ > 1 ? "_with" : "";
    const std::string width = std::to_string(lanes_);
    const std::string u = accumulators_ > 1 ? cat(", ", std::to_string(accumulators_)) : "";
    std::string open;
    if (walk_ == Walk::row) {
      open =
          cat("rt::for_row", with, "<", width, u, ">(", full, ", [&](auto active, std::int64_t c",
              accumulators_ > 1 ? ", auto u" : "", ") RT_BODY {");
    } else if (walk_ == Walk::lanes) {
      open = cat("rt::for_lanes", with, "<", width, u, ">(", limit_, ", ", full,
                 ", [&](auto active, std::int64_t c", accumulators_ > 1 ? ", auto u" : "",
                 ") RT_BODY {");
    } else {
      if (counts.empty() && lanes_ < 16) full = "rt::Some()";
      if (!counts.empty() && !first_.empty()) full = cat(full, " - ", first_);
      open = cat("rt::for_tile<", std::to_string((lanes_ + 15) / 16), ">(", full,
                 ", [&](auto active, auto j) RT_BODY {");
    }
    levels_[lane_level_].open = open;
  }
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    if (!levels_[l].open.empty()) out.open(levels_[l].open);
    for (const std::string& s : levels_[l].before) out.line(s);
  }
  for (std::size_t l = levels_.size(); l-- > 0;) {
    for (const std::string& s : levels_[l].after) out.line(s);
    if (!levels_[l].open.empty()) out.close(levels_[l].close);
  }
}

Coords Nest::canonical(const Value* v, Coords coords) {
  const std::uint32_t varies = scope_.analysis.varies(v);
  for (std::size_t d = 0; d < coords.size(); ++d)
    if ((varies >> d & 1) == 0) coords[d] = Coord{};
  return coords;
}

Expr Nest::declare(const Value* v, const std::string& text, bool is_vector, int level) {
  const std::string name = scope_.names.fresh(v);
  const std::string type = is_vector            ? "auto"
                           : v->type.is_pointer ? "std::int64_t"
                                                : value_type(v->type.scalar);
  line(level, cat("const ", type, " ", name, " = ", text, ";"));
  return {name, is_vector, level};
}

Expr Nest::eval(const Value* v, Coords coords) {
  if (!v->type.is_tensor()) {
    if (v->def != nullptr && v->def->kind == OpKind::constant) {
      const Attr& a = *v->def->attr("value");
      if (std::holds_alternative<std::int64_t>(a))
        return {int_literal(std::get<std::int64_t>(a), v->type.scalar), false, 0};
      return {float_literal(std::get<double>(a), v->type.scalar), false, 0};
    }
    if (v->type.is_pointer) return {cat("rt::address(", scope_.names.of(v), ")"), false, 0};
    return {scope_.names.of(v), false, 0};
  }
  coords = canonical(v, std::move(coords));
  std::string key = fmt::format("{}", static_cast<const void*>(v));
  for (const Coord& c : coords) key += cat("|", c.kind == Coord::Kind::lane ? "~" : "", c.text);
  const auto it = memo_.find(key);
  if (it != memo_.end()) return it->second;
  const Place place = scope_.plan->place(v);
  Expr e = place == Place::lazy ? compute(v, coords) : compute_stored(v, place, coords);
  memo_[key] = e;
  return e;
}

std::string Nest::vector_text(const Value* v, const Coords& coords) {
  const Expr e = eval(v, coords);
  return e.is_vector ? e.text : broadcast_text(e.text, v->type);
}

Expr Nest::eval_definition(const Value* v, Coords coords) {
  return compute(v, canonical(v, std::move(coords)));
}

Expr Nest::compute_stored(const Value* v, Place place, const Coords& coords) {
  if (place == Place::buffer) return eval_buffer(v, coords);
  if (place == Place::tile) {
    NEREID_CHECK(walk_ == Walk::tile, "tile %{} outside of an unrolled nest", v->name);
    return {cat(scope_.storage_of(v), "[", lanes_ <= 16 ? "0" : "j", "]"), true, lane_level_};
  }
  if (v->type.is_pointer) return address_vector(v, coords);
  const Op& loop = v->def != nullptr ? *v->def : *v->block->parent;
  const Value* init = loop.operands[3 + (v->def != nullptr ? v->index : v->index - 1)];
  const Expr first = eval(init, coords);
  const std::string moved =
      cat("static_cast<", value_type(v->type.scalar), ">(", *scope_.analysis.advance(v), ")");
  if (!first.is_vector) return declare(v, cat(first.text, " + ", moved), false, first.level);
  return declare(v, cat(first.text, " + ", broadcast_text(moved, v->type)), true, first.level);
}

Expr Nest::compute(const Value* v, const Coords& coords) {
  const auto lane = std::find_if(coords.begin(), coords.end(),
                                 [](const Coord& c) { return c.kind == Coord::Kind::lane; });
  if (v->def == nullptr)
    refuse(scope_.where, *v->block->parent, "this carried tensor is not supported");
  const Op& op = *v->def;
  switch (op.kind) {
    case OpKind::splat:
      return eval(op.operands[0], {});
    case OpKind::constant: {
      const Attr& a = *op.attr("value");
      if (std::holds_alternative<std::int64_t>(a))
        return {int_literal(std::get<std::int64_t>(a), v->type.scalar), false, 0};
      return {float_literal(std::get<double>(a), v->type.scalar), false, 0};
    }
    case OpKind::poison:
      return {is_float_type(v->type.scalar) ? float_literal(0, v->type.scalar)
                                            : int_literal(0, v->type.scalar),
              false, 0};
    case OpKind::make_range: {
      const std::int64_t start = op.int_attr("start", 0);
      std::string text = coords[0].text;
      if (text == "0")
        text = std::to_string(start);
      else if (start != 0)
        text += cat(" + ", std::to_string(start));
      if (lane == coords.end())
        return {cat("static_cast<std::int32_t>(", text, ")"), false, coords[0].level};
      return declare(v, cat("rt::iota<std::int32_t>(static_cast<std::int32_t>(", text, "))"), true,
                     lane_level_);
    }
    case OpKind::expand_dims: {
      Coords in = coords;
      in.erase(in.begin() + op.int_attr("axis", 0));
      return eval(op.operands[0], in);
    }
    case OpKind::broadcast: {
      Coords in = coords;
      for (std::size_t d = 0; d < in.size(); ++d)
        if (op.operands[0]->type.shape[d] == 1) in[d] = Coord{};
      return eval(op.operands[0], in);
    }
    case OpKind::trans: {
      const auto order = std::get<std::vector<std::int64_t>>(*op.attr("order"));
      Coords in(coords.size());
      for (std::size_t d = 0; d < coords.size(); ++d) in[order[d]] = coords[d];
      return eval(op.operands[0], in);
    }
    case OpKind::reshape: {
      const auto map = trivial_reshape(op.operands[0]->type, v->type);
      Coords in(op.operands[0]->type.shape.size());
      for (std::size_t d = 0; d < coords.size(); ++d)
        if ((*map)[d] >= 0) in[(*map)[d]] = coords[d];
      return eval(op.operands[0], in);
    }
    case OpKind::split: {
      Coords in = coords;
      in.push_back({Coord::Kind::index, 0, std::to_string(v->index)});
      if (v->index == 0) in.back() = Coord{};
      return eval(op.operands[0], in);
    }
    case OpKind::load:
      return eval_load(op, coords);
    default:
      break;
  }
  if (op_class(op.kind) != OpClass::elementwise)
    refuse(scope_.where, op, "the CPU target does not support this operation here");
  if (v->type.is_pointer && op.kind == OpKind::addptr) return address_vector(v, coords);
  return eval_elementwise(op, coords);
}

// A sum of products of bytes that one instruction computes; nothing where op is no such.
std::optional<Expr> Nest::eval_quads(const Op& op, const Coords& coords) {
  const auto quads = quads_of(op);
  if (!quads) return std::nullopt;
  const Expr a = eval(quads->a, coords), b = eval(quads->b, coords);
  if (!a.is_vector && !b.is_vector) return std::nullopt;
  const Expr sum =
      quads->sum == nullptr ? Expr{int_literal(0, Scalar::i32)} : eval(quads->sum, coords);
  std::string text = cat("rt::add_quads<Quads>(");
  for (const Expr* e : {&sum, &a, &b})
    text += cat(e == &sum ? "" : ", ",
                e->is_vector ? e->text : broadcast_text(e->text, op.result()->type));
  scope_.has_quads = true;
  return declare(op.result(), text + ")", true, std::max({sum.level, a.level, b.level}));
}

Expr Nest::eval_elementwise(const Op& op, const Coords& coords) {
  if (const auto quads = eval_quads(op, coords)) return *quads;
  std::vector<Expr> parts;
  bool is_vector = false;
  int level = 0;
  for (const Value* o : op.operands) {
    parts.push_back(eval(o, coords));
    is_vector |= parts.back().is_vector;
    level = std::max(level, parts.back().level);
  }
  std::vector<std::string> args;
  for (std::size_t i = 0; i < parts.size(); ++i)
    args.push_back(is_vector && !parts[i].is_vector
                       ? broadcast_text(parts[i].text, op.operands[i]->type)
                       : parts[i].text);
  // One condition for all lanes chooses between whole vectors.
  if (is_vector && op.kind == OpKind::select && !parts[0].is_vector)
    return declare(op.result(), cat(parts[0].text, " ? ", args[1], " : ", args[2]), true, level);
  const std::string text = elementwise_text(op, args, is_vector, scope_.where);
  if (text == parts[0].text && op.operands.size() == 1) return parts[0];
  return declare(op.result(), text, is_vector, level);
}

}  // namespace nereid::ttir
