// Goal: what one operation may look like: counts, types, attributes. One place for the messages
// too.
// Non-goal: order, nesting and terminators: verify.cc.
// Rejected: rules in ops.def: most operations share a rule, and the rest need code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "forms.h"
#include "ir.h"

namespace nereid::ttir {

constexpr std::size_t kAny = 1u << 20;

struct Counts {
  std::size_t min_operands;
  std::size_t max_operands;
  std::size_t n_results;  // kAny: what the regions yield
  std::size_t min_regions = 0;
  std::size_t max_regions = 0;
};

Counts counts_of(OpKind kind);

std::vector<Type> operand_types(const Op& op, std::size_t first = 0);
std::vector<Type> result_types(const Op& op);
std::vector<Type> arg_types(const Block& block, std::size_t first = 0);
// The type of one element.
Type element(Type type);
inline bool is_int(const Type& type) { return !type.is_pointer && is_integer(type.scalar); }
inline bool is_flt(const Type& type) { return !type.is_pointer && is_float(type.scalar); }

class OpRules {
 public:
  OpRules(std::string where, std::string kernel);

  // Everything that can be said of an operation without looking into its regions.
  void check(const Op& op) const;

  template <typename... Args>
  void expect(bool holds, const Op& op, fmt::format_string<Args...> format, Args&&... args) const {
    if (holds) return;
    throw Error("{}:{}: {}: {} (in kernel {})", where_, op.line, op_spelling(op.kind),
                fmt::format(format, std::forward<Args>(args)...), kernel_);
  }

  void expect_type(const Op& op, std::string_view what, const Type& got, const Type& wanted) const {
    expect(got == wanted, op, "{} has type {}; expected {}", what, type_text(got),
           type_text(wanted));
  }

  void expect_types(const Op& op, std::string_view what, const std::vector<Type>& got,
                    const std::vector<Type>& wanted) const {
    expect(got.size() == wanted.size(), op, "{}: {} values; expected {}", what, got.size(),
           wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      expect_type(op, fmt::format("{} {}", what, i), got[i], wanted[i]);
    }
  }

 private:
  void counts(const Op& op) const;
  void size(const Op& op, const Type& type) const;
  void elementwise(const Op& op) const;
  void conversion(const Op& op) const;
  void shape(const Op& op) const;
  void memory(const Op& op) const;
  void reduction(const Op& op) const;
  void mapping(const Op& op) const;
  void dot(const Op& op) const;
  void dot_scaled(const Op& op) const;
  void inline_asm(const Op& op) const;
  void return_from(const Op& op) const;
  void control(const Op& op) const;
  void other(const Op& op) const;

  std::string where_;
  std::string kernel_;
};

}  // namespace nereid::ttir
