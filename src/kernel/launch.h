// Goal: one launch of a variant with its arguments bound: made when planning, patched and launched
// in each step with no allocation, no string and no look-up.
// Non-goal: deciding what to launch.
//
//   LaunchTemplate launch(variant, device.load(bundle.image(variant)));
//   launch.set_pointer(launch.arg("x_ptr"), buffer.address());
//   launch.set_int(launch.arg("n_rows"), SizeValue::symbol_times(kNTokens, 1));
//   launch.set_float(launch.arg("eps"), 1e-5);
//   launch.finish();                // every argument is set, the grid is resolved
//   ...
//   launch.update(symbol_values);   // in each step
//   if (!launch.is_empty()) device.launch(launch.launch());
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "kernel/bundle.h"

namespace nereid::kernel {

// A size: a constant, or the value of a step's symbol times a constant.
struct SizeValue {
  int symbol = -1;  // index into the step's symbol values; -1: the constant itself
  std::int64_t constant = 0;

  static SizeValue of(std::int64_t value) { return {-1, value}; }
  static SizeValue symbol_times(int symbol, std::int64_t factor = 1) { return {symbol, factor}; }
  std::int64_t value(std::span<const std::int64_t> symbol_values) const;
};

class LaunchTemplate {
 public:
  LaunchTemplate(const Variant& variant, const device::Function* function);
  LaunchTemplate(LaunchTemplate&&) noexcept = default;
  LaunchTemplate& operator=(LaunchTemplate&&) noexcept = default;
  // params_ points into slots_.
  LaunchTemplate(const LaunchTemplate&) = delete;
  LaunchTemplate& operator=(const LaunchTemplate&) = delete;

  int n_args() const { return static_cast<int>(args_.size()); }
  int arg(std::string_view name) const;  // index; -1: the variant has no such argument
  const std::string& arg_name(int index) const { return args_[index].name; }
  device::ArgType arg_type(int index) const { return args_[index].type; }
  const std::string& symbol() const { return symbol_; }

  // Addresses may be set again later (double buffers); everything else before finish() only. An
  // argument that the variant takes as a tensor map is set by its address too: the map, its shape
  // and its strides follow from the other arguments.
  void set_pointer(int index, device::Address address);
  void set_int(int index, SizeValue value);
  void set_float(int index, double value);
  void finish();

  // Patches the sizes and the grid that depend on symbols. Sizes outside their argument's type
  // abort.
  void update(std::span<const std::int64_t> symbol_values);

  bool is_empty() const { return grid_.x == 0 || grid_.y == 0 || grid_.z == 0; }
  device::Grid grid() const { return grid_; }
  device::Launch launch() const { return {function_, grid_, params_.data()}; }

 private:
  struct Arg {
    std::string name;
    device::ArgType type;
    bool is_aligned = false;  // the variant was compiled for addresses (sizes) divisible by 16
    bool is_set = false;
    SizeValue size;
  };
  // An integer over the arguments, in the launch's own terms.
  struct ArgExpression {
    Expression expression;
    std::vector<int> args;             // argument of each of its symbols
    std::vector<std::int64_t> values;  // scratch for evaluation
  };
  struct MapArg {
    int index = 0;
    device::TiledMatrix matrix;
    std::vector<ArgExpression> shape, strides;
    bool is_dynamic = false;  // depends on a step's sizes
    bool is_encoded = false;
  };
  ArgExpression over_args(const Expression& expression) const;
  bool is_dynamic(const ArgExpression& expression) const;
  std::int64_t evaluate(ArgExpression& expression,
                        std::span<const std::int64_t> symbol_values) const;
  void store_int(int index, std::int64_t value);
  void update_map(std::size_t which, std::span<const std::int64_t> symbol_values);
  void encode(std::size_t which);
  void evaluate_grid(std::span<const std::int64_t> symbol_values);

  std::string symbol_;
  const device::Function* function_ = nullptr;
  std::vector<Arg> args_;
  std::vector<std::uint64_t> slots_;
  std::vector<void*> params_;
  std::vector<int> dynamic_args_;  // those patched in update
  std::array<ArgExpression, 3> axes_;
  std::vector<MapArg> maps_;
  std::vector<device::TensorMap> encoded_maps_;  // of maps_; params_ points here
  bool has_dynamic_grid_ = false;
  bool is_finished_ = false;
  device::Grid grid_;
};

}  // namespace nereid::kernel
