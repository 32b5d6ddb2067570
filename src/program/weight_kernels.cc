#include "program/weight_kernels.h"

#include <array>
#include <cstring>
#include <span>

#include "base/error.h"
#include "program/launch.h"

namespace nereid::program {

kernel::KernelRequest QuantizeProblem::request(const std::string& target,
                                               const KernelTables& tables) const {
  kernel::Problem problem;
  problem.pointers = {{"q_ptr", format.dtype},
                      {"scale_ptr", format.scale},
                      {"bad_ptr", DType::i32},
                      {"w_ptr", source}};
  problem.sizes = {{"n_in", n_in}, {"w_stride", n_in}};
  problem.constexprs = {{"BITS", format.is_4_bits() ? 4 : 8},
                        {"GROUP", format.n_groups == 1 ? 0 : n_in / format.n_groups}};
  return kernel::make_request(tables.specs.get("quantize_weight"), tables.tuning, target, problem);
}

WeightKernels::WeightKernels(device::Device& device, kernel::Bundle& bundle,
                             const KernelTables& tables)
    : device_(device),
      bundle_(bundle),
      tables_(tables),
      bad_(device.allocate(sizeof(std::int32_t), "a counter")) {
  device_.fill_zero(bad_.address(), bad_.size_bytes());
}

const WeightKernels::Loaded& WeightKernels::load(const kernel::KernelRequest& request) {
  auto& [variant, function] = loaded_[request.key()];
  if (variant == nullptr) {
    variant = bundle_.find(request.key());
    NEREID_CHECK(variant != nullptr, "the bundle lacks {}", request.key());
    function = device_.load(bundle_.image(*variant));
  }
  return loaded_[request.key()];
}

void WeightKernels::quantize(const QuantizeProblem& problem, device::Address source,
                             std::int64_t n_rows, device::Address q, device::Address scale) {
  const auto& [variant, function] = load(problem.request(device_.info().target, tables_));
  BoundLaunch launch(*variant, function);
  launch.set_pointer("q_ptr", q);
  launch.set_pointer("scale_ptr", scale);
  launch.set_pointer("bad_ptr", bad_.address());
  launch.set_pointer("w_ptr", source);
  launch.set_int("n_rows", n_rows);
  launch.set_int("n_in", problem.n_in);
  launch.set_int("w_stride", problem.n_in);
  launch.finish();
  launch.run(device_, {});
}

std::int64_t WeightKernels::take_bad() {
  std::int32_t n_bad = 0;
  device_.download(std::as_writable_bytes(std::span(&n_bad, 1)), bad_.address());
  if (n_bad != 0) device_.fill_zero(bad_.address(), bad_.size_bytes());
  return n_bad;
}

}  // namespace nereid::program
