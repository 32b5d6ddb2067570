#include "quads.h"

namespace nereid::ttir {

namespace {

const Value* unspread(const Value* v) {
  while (v->def != nullptr && v->def->kind == OpKind::broadcast) v = v->def->operands[0];
  return v;
}

// The first operand of v, where v is `kind` of something and that constant.
const Value* with_constant(const Value* v, OpKind kind, std::int64_t constant) {
  if (v->def == nullptr || v->def->kind != kind) return nullptr;
  const Value* by = v->def->operands[1];
  if (by->def == nullptr || by->def->kind != OpKind::constant) return nullptr;
  const auto* value = std::get_if<std::int64_t>(by->def->attr("value"));
  return value != nullptr && *value == constant ? v->def->operands[0] : nullptr;
}

// The word of which v is the unsigned byte i: (word >> 8 i) & 255.
const Value* word_of_unsigned(const Value* v, int i) {
  const Value* shifted = with_constant(unspread(v), OpKind::andi, 255);
  if (shifted == nullptr || i == 0) return shifted;
  for (const OpKind kind : {OpKind::shrsi, OpKind::shrui})
    if (const Value* word = with_constant(shifted, kind, 8 * i)) return word;
  return nullptr;
}

// The word of which v is the signed byte i: (word << (24 - 8 i)) >> 24.
const Value* word_of_signed(const Value* v, int i) {
  const Value* shifted = with_constant(unspread(v), OpKind::shrsi, 24);
  return shifted == nullptr || i == 3 ? shifted : with_constant(shifted, OpKind::shli, 24 - 8 * i);
}

// Whether v is the product of the bytes i of a word and another: those of `quads`, or, of the first
// that is looked at, any.
bool is_product(const Value* v, int i, Quads& quads) {
  if (v->def == nullptr || v->def->kind != OpKind::muli) return false;
  for (const int side : {0, 1}) {
    const Value* a = word_of_unsigned(v->def->operands[side], i);
    const Value* b = word_of_signed(v->def->operands[1 - side], i);
    if (a == nullptr || b == nullptr) continue;
    a = unspread(a), b = unspread(b);
    if (quads.a == nullptr) quads.a = a, quads.b = b;
    if (quads.a == a && quads.b == b) return true;
  }
  return false;
}

}  // namespace

std::optional<Quads> quads_of(const Op& op) {
  if (op.kind != OpKind::addi || op.result()->type.scalar != Scalar::i32) return std::nullopt;
  Quads quads{};
  const Value* sum = op.result();
  for (int i = 3; i > 0; --i) {
    if (sum->def == nullptr || sum->def->kind != OpKind::addi ||
        !is_product(sum->def->operands[1], i, quads))
      return std::nullopt;
    sum = sum->def->operands[0];
  }
  if (is_product(sum, 0, quads)) return quads;
  if (sum->def == nullptr || sum->def->kind != OpKind::addi ||
      !is_product(sum->def->operands[1], 0, quads))
    return std::nullopt;
  quads.sum = sum->def->operands[0];
  return quads;
}

}  // namespace nereid::ttir
