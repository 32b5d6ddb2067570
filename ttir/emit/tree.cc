// Elements combined in the order of a tree: reductions by any function, which need not be
// associative (argmax over NaN), and scans. The order is that of a GPU's lanes: a reduction adds
// the upper half of what is left to the lower half; a scan doubles what is scanned, each right half
// taking on the last element of its left half. Both work in the arena, on vectors whatever the
// axis: elements of a [outer, n, inner] tensor that are combined at a time lie side by side.
#include "elementwise.h"
#include "emitter.h"

namespace nereid::ttir {

namespace {

struct View {
  std::int64_t outer = 1, n = 1, inner = 1;
};

View view_of(const Type& type, int axis) {
  View v;
  v.n = type.shape[axis];
  for (int d = 0; d < static_cast<int>(type.shape.size()); ++d)
    (d < axis ? v.outer : d > axis ? v.inner : v.n) *= d == axis ? 1 : type.shape[d];
  return v;
}

std::string text_of(std::int64_t x) { return std::to_string(x); }

// The elements from `at` on.
std::string loaded(const Type& type, const std::string& at) {
  const std::string text = cat("rt::load(", at, ")");
  return type.scalar == Scalar::i1 ? cat("rt::bytes_mask(", text, ")") : text;
}

// One stored element in every lane.
std::string repeated(const Type& type, const std::string& element) {
  return broadcast_text(type.scalar == Scalar::i1 ? cat(element, " != 0") : element, type);
}

}  // namespace

void Emitter::combine_stored(const Op& o, const std::vector<std::string>& left,
                             const std::vector<std::string>& right,
                             const std::vector<std::string>& to, const std::string& lanes) {
  std::vector<std::string> args, lines;
  const auto define = [&](const std::string& stem, const std::string& text) {
    args.push_back(scope_.names.fresh(stem));
    out_.line(cat("const auto ", args.back(), " = ", text, ";"));
  };
  for (const std::string& text : left) define("left", text);
  for (std::size_t i = 0; i < right.size(); ++i)
    define("right", loaded(o.operands[i]->type, right[i]));
  const auto results = combine(o, args, {.lanes = cat("rt::lanes(", lanes, ")")}, lines);
  for (const std::string& line : lines) out_.line(line);
  for (std::size_t i = 0; i < to.size(); ++i)
    out_.line(cat("rt::store(", to[i], ", ", results[i], ", ", lanes, ");"));
}

void Emitter::reduce_tree(const Op& o, int axis) {
  const View view = view_of(o.operands[0]->type, axis);
  const std::string inner = text_of(view.inner);
  const std::size_t mark = arena_;
  out_.open("{");
  std::vector<std::string> at;
  for (const Value* v : o.operands) at.push_back(copied(v, "elements"));
  std::vector<std::string> to;
  if (view.outer > 1) {
    const std::string row = scope_.names.fresh("row");
    out_.open(cat("for (std::int64_t ", row, " = 0; ", row, " < ", text_of(view.outer), "; ++", row,
                  ") {"));
    for (std::string& name : at) name += cat(" + ", row, " * ", text_of(view.n * view.inner));
    for (const auto& r : o.results)
      to.push_back(cat(scope_.storage_of(r.get()), " + ", row, " * ", inner));
  } else {
    for (const auto& r : o.results)
      to.push_back(r->type.is_tensor() ? scope_.storage_of(r.get()) : "");
  }
  // Whatever is left: an odd one in the middle waits for the next round.
  out_.open(cat("for (std::int64_t rest = ", text_of(view.n), ", half; rest > 1; rest = half) {"));
  out_.line("half = (rest + 1) / 2;");
  out_.line(cat("const std::int64_t span = (rest - half) * ", inner, ";"));
  out_.open(cat("rt::for_lanes<", text_of(view.n * view.inner),
                ">(span, span, [&](auto active, std::int64_t c) RT_BODY {"));
  std::vector<std::string> left, right, target;
  for (std::size_t i = 0; i < at.size(); ++i) {
    left.push_back(loaded(o.operands[i]->type, cat(at[i], " + c")));
    right.push_back(cat(at[i], " + half * ", inner, " + c"));
    target.push_back(cat(at[i], " + c"));
  }
  combine_stored(o, left, right, target, "rt::upto(active, span - c)");
  out_.close("});");
  out_.close();
  // Narrow floats are rounded once a reduction.
  for (std::size_t i = 0; i < at.size(); ++i) {
    const Value* r = o.results[i].get();
    if (!r->type.is_tensor()) {
      const std::string first = cat("*(", at[i], ")", r->type.scalar == Scalar::i1 ? " != 0" : "");
      out_.line(cat(scope_.names.of(r), " = ", rounded_text(first, r->type.scalar), ";"));
      continue;
    }
    const std::string x = rounded_text(cat("rt::load(", at[i], " + c)"), r->type.scalar);
    out_.line(cat("rt::for_lanes<", inner, ">(", inner, ", ", inner,
                  ", [&](auto active, std::int64_t c) RT_BODY { rt::store(", to[i], " + c, ", x,
                  ", rt::upto(active, ", inner, " - c)); });"));
  }
  if (view.outer > 1) out_.close();
  out_.close();
  arena_ = mark;
}

void Emitter::scan(const Op& o) {
  const int axis = static_cast<int>(o.int_attr("axis", 0));
  const bool reverse = o.int_attr("reverse", 0) != 0;
  for (const Value* v : o.operands)
    if (v->type.is_pointer)
      refuse(scope_.where, o, cat("scanning ", type_text(v->type), " is not supported"));
  const View view = view_of(o.operands[0]->type, axis);
  const std::string inner = text_of(view.inner), n = text_of(view.n);
  std::vector<std::string> at;
  for (std::size_t i = 0; i < o.operands.size(); ++i) {
    at.push_back(declare_buffer(o.result(i)));
    copy_to(at.back(), o.operands[i]);
  }
  if (view.n == 1) return;
  out_.open("{");
  if (view.outer > 1) {
    const std::string row = scope_.names.fresh("row");
    out_.open(cat("for (std::int64_t ", row, " = 0; ", row, " < ", text_of(view.outer), "; ++", row,
                  ") {"));
    for (std::string& name : at) name += cat(" + ", row, " * ", text_of(view.n * view.inner));
  }
  out_.open(cat("for (std::int64_t half = 1; half < ", n, "; half *= 2) {"));
  out_.open(cat("for (std::int64_t begin = half; begin < ", n, "; begin += 2 * half) {"));
  out_.line(cat("const std::int64_t count = rt::least(half, ", n, " - begin);"));
  // Mirrored where the scan goes backwards.
  out_.line(cat("const std::int64_t last = ", reverse ? cat(n, " - begin") : "begin - 1", ";"));
  out_.line(
      cat("const std::int64_t first = ", reverse ? cat(n, " - begin - count") : "begin", ";"));
  std::vector<std::string> left, right;
  if (view.inner == 1) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      const std::string name = scope_.names.fresh("left");
      const Type& type = o.operands[i]->type;
      out_.line(cat("const ", storage_type(type), " ", name, " = *(", at[i], " + last);"));
      left.push_back(repeated(type, name));
      right.push_back(cat(at[i], " + first + c"));
    }
    out_.open(
        cat("rt::for_lanes<", n, ">(count, count, [&](auto active, std::int64_t c) RT_BODY {"));
    combine_stored(o, left, right, right, "rt::upto(active, count - c)");
  } else {
    out_.open("for (std::int64_t k = first; k < first + count; ++k) {");
    for (std::size_t i = 0; i < at.size(); ++i) {
      left.push_back(loaded(o.operands[i]->type, cat(at[i], " + last * ", inner, " + c")));
      right.push_back(cat(at[i], " + k * ", inner, " + c"));
    }
    out_.open(cat("rt::for_lanes<", inner, ">(", inner, ", ", inner,
                  ", [&](auto active, std::int64_t c) RT_BODY {"));
    combine_stored(o, left, right, right, cat("rt::upto(active, ", inner, " - c)"));
  }
  out_.close("});");
  if (view.inner > 1) out_.close();
  out_.close();
  out_.close();
  if (view.outer > 1) out_.close();
  out_.close();
}

}  // namespace nereid::ttir
