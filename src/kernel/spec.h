// Goal: what kernels/*.py say about themselves, as the planner reads it (docs/formats.md, section
// 1). The program carries all specs of its build; no file is read.
// Non-goal: choosing a variant (request.h), compiling (bundle_source.h).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "kernel/argument_source.h"
#include "kernel/expression.h"
#include "kernel/functions.h"

namespace nereid::kernel {

enum class ParamRole : std::uint8_t { out, inout, in, size, stride, scalar, constexpr_ };

struct Param {
  std::string name;
  ParamRole role = ParamRole::in;
  std::vector<std::string> types;   // as Triton spells them; empty for constexprs
  std::vector<Expression> shape;    // pointers
  std::optional<Expression> value;  // a constexpr that follows from others
  ArgumentSource of;                // what the planner gives it
  bool is_tuned = false;            // a constexpr that tuning data chooses
  bool is_step = false;             // a size that each step sets: unknown when planning
  // A constexpr that is a function of such a kind or none, given as a text.
  std::optional<FunctionKind> function;

  bool is_pointer() const {
    return role == ParamRole::out || role == ParamRole::inout || role == ParamRole::in;
  }
  bool is_constexpr() const { return role == ParamRole::constexpr_; }
  bool is_given() const { return is_constexpr() && !value && !is_tuned && !function; }
};

// Tuned constexprs, num_warps and num_stages by name.
using Choice = std::map<std::string, Expression>;

// What may be tried when tuning: each of these values of each name, where `where` is not 0. It may
// read every number that the planner knows, sizes that steps set as the most that a plan serves.
struct TuningSpace {
  std::map<std::string, std::vector<Expression>> values;
  Expression where = Expression::constant(1);
};

struct Spec {
  std::string name;
  std::string op;  // that it computes; empty: no plan launches it
  // For which nodes and classes of steps; reads rows, decode, prompt, gpu and what the node gives.
  Expression when = Expression::constant(1);
  std::string design;  // that a plan must ask for; empty: any plan may launch it
  std::string source_sha256;
  std::vector<Param> params;
  std::array<Expression, 3> grid;
  Expression bytes;
  Expression flops;
  std::map<std::string, Choice> defaults;     // by family: cpu, cuda, hip
  std::map<std::string, TuningSpace> spaces;  // by family; of those that have one

  const Param* find_param(std::string_view param_name) const;
};

struct GeneratedKernel;  // generated.h

class SpecTable {
 public:
  // The specs this program was built with.
  static SpecTable builtin();
  // `where` names the JSON in errors.
  static SpecTable parse(const Json& specs, const std::string& where);

  const std::string& triton_version() const { return triton_version_; }
  const std::map<std::string, Spec, std::less<>>& specs() const { return specs_; }
  // Kernels of users' operations, beside those of the program; one that is there stays.
  void add(std::shared_ptr<const GeneratedKernel> kernel);
  using OwnKernels = std::map<std::string, std::shared_ptr<const GeneratedKernel>, std::less<>>;
  const OwnKernels& own() const { return own_; }
  const Spec* find(std::string_view kernel) const;
  const Spec& get(std::string_view kernel) const;  // an Error names the kernel

 private:
  std::string triton_version_;
  std::map<std::string, Spec, std::less<>> specs_;
  OwnKernels own_;
};

// Of one kernel. `where` names the JSON in errors.
Spec parse_spec(const Json& json, const std::string& name, const std::string& where);

// An integer, a boolean or the text of an expression.
Expression parse_number_or_expression(const Json& json, const std::string& where);
// An Error where the choice names anything that is not tunable.
Choice parse_choice(const Json& json, const Spec& spec, const std::string& where);

// "cuda:90" -> "cuda": the key of Spec::defaults.
std::string_view target_family(std::string_view target);

}  // namespace nereid::kernel
