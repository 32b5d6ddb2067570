// Goal: the one expression grammar of docs/formats.md, section 1: parsed once, evaluated over int64
// with the meaning Python gives the same text (floor division, lazy branches). kernels/expr.py is
// its twin.
// Non-goal: any type but int64, any function beyond the grammar.
// Rejected: silent wrap-around. A result outside int64 is an Error, as is a division by zero.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::kernel {

class Expression {
 public:
  // The constant 0.
  Expression();

  // `where` names the text in errors: "spec rms_norm, grid".
  static Expression parse(std::string_view text, const std::string& where);
  static Expression constant(std::int64_t value);

  // The names it reads, each once; the element size of a pointer parameter is the name
  // "sizeof(x_ptr)".
  const std::vector<std::string>& symbols() const { return symbols_; }
  const std::string& text() const { return text_; }

  // values[i] belongs to symbols()[i]. Allocates nothing; an Error only for overflow and division
  // by zero.
  std::int64_t evaluate(std::span<const std::int64_t> values) const;

  using Lookup = std::function<std::optional<std::int64_t>(std::string_view symbol)>;
  // An Error names a symbol that `lookup` does not know.
  std::int64_t evaluate(const Lookup& lookup) const;

  // The same expression with what `lookup` knows filled in and folded; its symbols() are the ones
  // left. Branches that cannot be taken are gone, and with them the names only they read.
  Expression substitute(const Lookup& lookup) const;
  std::optional<std::int64_t> constant_value() const;
  // One number times another plus a third: of a constant, 0 times.
  struct Affine {
    std::int64_t factor, offset;
  };
  // What the expression is of n where each of its symbols is such a one of n; nothing where that is
  // none for every n. symbols[i] belongs to symbols()[i].
  std::optional<Affine> affine(std::span<const Affine> symbols) const;

 private:
  friend class ExpressionParser;
  enum class Kind : std::uint8_t {
    constant,
    symbol,
    negate,
    logical_not,
    add,
    subtract,
    multiply,
    floor_divide,
    modulo,
    equal,
    not_equal,
    less,
    less_equal,
    greater,
    greater_equal,
    logical_and,
    logical_or,
    select,
    cdiv,
    next_pow2,
    min,
    max
  };
  // Operands come before the node that uses them; the last node is the result.
  struct Node {
    Kind kind;
    std::int64_t value = 0;             // constant: itself; symbol: its index in symbols_
    std::uint32_t a = 0, b = 0, c = 0;  // operands; select: condition, then, else
  };

  std::optional<Affine> affine_node(std::uint32_t index, std::span<const Affine> symbols) const;
  std::int64_t evaluate_node(std::uint32_t index, std::span<const std::int64_t> values) const;
  static std::optional<std::int64_t> apply(Kind kind, std::int64_t a, std::int64_t b);
  // Appends the node `index` of `from`, with what `lookup` knows filled in.
  std::uint32_t rebuild(const Expression& from, std::uint32_t index, const Lookup& lookup);

  std::string text_;
  std::vector<Node> nodes_;
  std::vector<std::string> symbols_;
};

}  // namespace nereid::kernel
