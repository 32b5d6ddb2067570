// The rules of what takes several neighbouring elements at once: tt.map_elementwise and inline
// assembly.
#include "verify_op.h"

namespace nereid::ttir {
namespace {

// Elements that one call of a function, or one run of inline assembly, takes.
constexpr std::int64_t kMaxPack = 64;

}  // namespace

void OpRules::mapping(const Op& op) const {
  const Type& first = op.operands[0]->type;
  std::vector<Type> arguments;
  for (const Value* operand : op.operands) {
    expect(operand->type.shape == first.shape && first.is_tensor(), op, "operand %{} has type {}",
           operand->name, type_text(operand->type));
    arguments.push_back(element(operand->type));
  }
  for (const auto& result : op.results)
    expect(result->type.shape == first.shape, op, "a result of type {}", type_text(result->type));
  const std::int64_t pack = op.int_attr("pack", 1);
  expect(pack >= 1 && pack <= kMaxPack && first.shape.back() % pack == 0, op,
         "pack = {} for {}; expected 1 to {}, a divisor of the last dimension", pack,
         type_text(first), kMaxPack);
  std::vector<Type> packed;
  for (const Type& type : arguments)
    packed.insert(packed.end(), static_cast<std::size_t>(pack), type);
  expect_types(op, "region argument", arg_types(*op.regions[0]->block), packed);
}

void OpRules::inline_asm(const Op& op) const {
  expect(!op.results.empty(), op, "no result");
  const Type& first = op.result()->type;
  const auto check_type = [&](const Type& type) {
    expect(type.shape == first.shape && !type.is_pointer, op, "a value of type {}; expected {}",
           type_text(type), first.is_tensor() ? "numbers in the shape of the others" : "numbers");
  };
  for (const Value* operand : op.operands) check_type(operand->type);
  for (const auto& result : op.results) check_type(result->type);
  const std::int64_t pack = op.int_attr("packed_element", 1);
  const std::int64_t last = first.is_tensor() ? first.shape.back() : 1;
  expect(pack >= 1 && pack <= kMaxPack && last % pack == 0, op,
         "packed_element = {} for {}; expected 1 to {}, a divisor of the last dimension", pack,
         type_text(first), kMaxPack);
}

}  // namespace nereid::ttir
