// tt.elementwise_inline_asm: the values of a pack as registers, the instructions on them, and back.
#include <algorithm>

#include "elementwise.h"
#include "emitter.h"
#include "forms.h"
#include "ptx.h"

namespace nereid::ttir {

namespace {

// "=r,=r,r,f": the widths of the registers $0, $1, ...; outputs come first.
std::vector<int> register_bits(std::string_view constraints, std::size_t n_outputs,
                               const std::function<void(const std::string&)>& fail) {
  std::vector<int> out;
  while (!constraints.empty()) {
    const std::size_t end = std::min(constraints.find(','), constraints.size());
    std::string_view one = constraints.substr(0, end);
    constraints.remove_prefix(std::min(end + 1, constraints.size()));
    while (one.starts_with(" ")) one.remove_prefix(1);
    while (one.ends_with(" ")) one.remove_suffix(1);
    const bool is_output = one.starts_with("=");
    std::string_view letter = one.substr(is_output ? 1 : 0);
    if (letter.starts_with("&")) letter.remove_prefix(1);
    const std::string_view letters = "hrfld";
    if (letter.size() != 1 || letters.find(letter[0]) == std::string_view::npos ||
        is_output != (out.size() < n_outputs))
      fail(fmt::format(
          "constraint '{}'; expected one of h, r, f, l, d for each register, with = for "
          "the {} of results, which come first",
          one, n_outputs));
    out.push_back(letter[0] == 'h' ? 16 : letter[0] == 'l' || letter[0] == 'd' ? 64 : 32);
  }
  return out;
}

}  // namespace

void Emitter::inline_asm(const Op& o) {
  const std::function<void(const std::string&)> fail = [&](const std::string& message) {
    refuse(scope_.where, o, message);
  };
  const std::int64_t pack = o.int_attr("packed_element", 1);
  // Elements narrower than 32 bits share a register.
  const auto per_register = [&](const Type& type) {
    if (type.scalar == Scalar::i1)
      fail("booleans are not supported; convert them to integers before");
    return std::min<std::int64_t>(pack, std::max(32 / bit_width(type.scalar), 1));
  };
  std::vector<const Value*> values;
  for (const auto& r : o.results) values.push_back(r.get());
  for (const Value* v : o.operands) values.push_back(v);
  const std::size_t n_results = o.results.size();
  std::size_t n_outputs = 0, n_registers = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto n = static_cast<std::size_t>(pack / per_register(values[i]->type));
    n_registers += n;
    if (i < n_results) n_outputs += n;
  }
  const std::vector<int> widths = register_bits(o.word_attr("constraints", ""), n_outputs, fail);
  if (widths.size() != n_registers)
    fail(fmt::format("{} constraints for {} registers", widths.size(), n_registers));
  declare_results(o);
  out_.open("{");
  Nest nest(scope_);
  const std::vector<Coords> coords = packs(nest, o.result()->type.shape, pack);
  const int level = nest.innermost();
  std::vector<PtxRegister> registers;
  for (const int n_bits : widths) registers.push_back({scope_.names.fresh("reg"), n_bits});
  // Element `i` of a pack: its register, and where in it.
  const auto unsigned_text = [](int n_bits) { return fmt::format("std::uint{}_t", n_bits); };
  std::size_t next = 0;
  for (std::size_t v = 0; v < values.size(); ++v) {
    const Scalar scalar = values[v]->type.scalar;
    const int n_bits = bit_width(scalar);
    const std::int64_t n_each = per_register(values[v]->type);
    for (std::int64_t first = 0; first < pack; first += n_each, ++next) {
      const PtxRegister& r = registers[next];
      if (r.n_bits < n_bits * n_each)
        fail(fmt::format("${} has {} bits for {} of {}", next, r.n_bits, n_each,
                         ttir::scalar_text(scalar)));
      const std::string type = unsigned_text(r.n_bits);
      std::string bits;
      for (std::int64_t k = 0; v >= n_results && k < n_each; ++k)
        bits += cat(k == 0 ? "" : " | ", type, "(", unsigned_text(n_bits), "(",
                    bits_text(nest.eval(values[v], coords[first + k]).text, scalar), ")) << ",
                    std::to_string(k * n_bits));
      nest.line(level, cat(type, " ", r.name, "{", bits, "};"));
    }
  }
  const auto fresh = [&](const std::string& like) { return scope_.names.fresh(like); };
  for (const std::string& line : ptx_lines(o.word_attr("asm", ""), registers, fresh, fail))
    nest.line(level, line);
  next = 0;
  for (std::size_t v = 0; v < n_results; ++v) {
    const Value* result = values[v];
    const Scalar scalar = result->type.scalar;
    const int n_bits = bit_width(scalar);
    const std::int64_t n_each = per_register(result->type);
    for (std::int64_t first = 0; first < pack; first += n_each, ++next) {
      for (std::int64_t k = 0; k < n_each; ++k) {
        const std::string x =
            value_of_bits_text(fmt::format("static_cast<std::int{}_t>({} >> {})", n_bits,
                                           registers[next].name, k * n_bits),
                               scalar);
        if (result->type.is_tensor())
          nest.store_buffer(result, coords[first + k], {x, false, level});
        else
          nest.line(level, cat(scope_.names.of(result), " = ", x, ";"));
      }
    }
  }
  nest.write(out_);
  out_.close();
}

}  // namespace nereid::ttir
