// Goal: one launch of a variant with its arguments bound: made when planning, patched and launched
// in each step with no allocation, no string and no look-up.
// Non-goal: deciding what to launch.
//
//   BoundLaunch launch(variant, device.load(bundle.image(variant)));
//   launch.set_pointer("x_ptr", buffer.address());
//   launch.set_int("n_rows", graph::Symbol::n_tokens);
//   launch.set_float("eps", 1e-5);
//   launch.finish();                     // every argument is set, the grid is resolved
//   ...
//   launch.run(device, {.n_tokens = 3});  // in each step
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "graph/sizes.h"
#include "kernel/bundle.h"

namespace nereid::program {

class BoundLaunch {
 public:
  // Variant and function outlive it.
  BoundLaunch(const kernel::Variant& variant, const device::Function* function);
  BoundLaunch(BoundLaunch&&) noexcept = default;
  BoundLaunch& operator=(BoundLaunch&&) noexcept = default;
  // params_ points into slots_.
  BoundLaunch(const BoundLaunch&) = delete;

  const kernel::Variant& variant() const { return *variant_; }

  // By the argument's name, all before finish(). An argument that the variant takes as a tensor map
  // is set by its address too: the map, its shape and its strides follow from the other arguments.
  void set_pointer(std::string_view name, device::Address address);
  void set_int(std::string_view name, const graph::Dim& value);
  void set_float(std::string_view name, double value);
  void finish();

  // Patches what depends on the step's sizes, and queues the launch unless its grid is empty;
  // whether it was. Sizes outside their argument's type abort.
  bool run(device::Device& device, const graph::Sizes& sizes);

  device::Grid grid() const { return grid_; }  // of the last run

 private:
  struct Arg {
    std::string_view name;  // in the variant
    device::ArgType type;
    bool is_aligned = false;  // the variant was compiled for addresses (sizes) divisible by 16
    bool is_set = false;
    graph::Dim size;
  };
  // An integer over the arguments, in the launch's own terms.
  struct ArgExpression {
    kernel::Expression expression;
    std::vector<std::size_t> args;     // argument of each of its symbols
    std::vector<std::int64_t> values;  // scratch for evaluation
  };
  struct MapArg {
    std::size_t index = 0;
    device::TiledMatrix matrix;
    std::vector<ArgExpression> shape, strides;
    bool is_dynamic = false;  // depends on a step's sizes
    bool is_encoded = false;
  };
  std::size_t index_of(std::string_view name) const;
  ArgExpression over_args(const kernel::Expression& expression) const;
  bool is_dynamic(const ArgExpression& expression) const;
  std::int64_t evaluate(ArgExpression& expression, const graph::Sizes& sizes) const;
  void store_int(std::size_t index, std::int64_t value);
  void update(const graph::Sizes& sizes);
  void update_map(std::size_t which, const graph::Sizes& sizes);
  void encode(std::size_t which);
  void evaluate_grid(const graph::Sizes& sizes);

  const kernel::Variant* variant_;
  const device::Function* function_ = nullptr;
  std::vector<Arg> args_;
  std::vector<std::uint64_t> slots_;
  std::vector<void*> params_;
  std::vector<std::size_t> dynamic_args_;  // those patched in update
  std::array<ArgExpression, 3> axes_;
  std::vector<MapArg> maps_;
  std::vector<device::TensorMap> encoded_maps_;  // of maps_; params_ points here
  bool has_dynamic_grid_ = false;
  bool is_finished_ = false;
  device::Grid grid_;
};

}  // namespace nereid::program
