#include "program/random_fill.h"

#include "base/error.h"
#include "program/launch.h"

namespace nereid::program {

kernel::KernelRequest fill_request(DType dtype, const std::string& target,
                                   const KernelTables& tables) {
  kernel::Problem problem;
  problem.pointers["out_ptr"] = dtype;
  return kernel::make_request(tables.specs.get("random_fill"), tables.tuning, target, problem);
}

void RandomFill::operator()(device::Address address, DType dtype, std::int64_t n_elements,
                            std::int64_t seed, double standard_deviation) {
  auto& [variant, function] = loaded_[dtype];
  if (variant == nullptr) {
    variant = bundle_.find(fill_request(dtype, device_.info().target, tables_).key());
    NEREID_CHECK(variant != nullptr, "the bundle cannot fill {}", dtype_name(dtype));
    function = device_.load(bundle_.image(*variant));
  }
  BoundLaunch launch(*variant, function);
  launch.set_pointer("out_ptr", address);
  launch.set_int("n_elements", n_elements);
  launch.set_int("seed", seed);
  launch.set_float("std", standard_deviation);
  launch.finish();
  launch.run(device_, {});
}

}  // namespace nereid::program
