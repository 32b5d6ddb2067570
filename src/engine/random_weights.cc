#include "engine/random_weights.h"

#include "base/error.h"

namespace nereid::engine {

kernel::KernelRequest RandomWeights::request(DType dtype, const std::string& target,
                                             const graph::KernelTables& tables) {
  kernel::Problem problem;
  problem.pointers["out_ptr"] = dtype;
  return kernel::make_request(tables.specs.get("random_fill"), tables.tuning, target, problem)
      .request;
}

kernel::LaunchTemplate& RandomWeights::launch_of(DType dtype) {
  const auto it = launches_.find(dtype);
  if (it != launches_.end()) return it->second;
  const auto* variant = bundle_.find(request(dtype, device_.info().target, tables_).key());
  NEREID_CHECK(variant != nullptr, "the bundle cannot fill {}", dtype_name(dtype));
  return launches_
      .emplace(dtype, kernel::LaunchTemplate(*variant, device_.load(bundle_.image(*variant))))
      .first->second;
}

void RandomWeights::operator()(device::Address address, DType dtype, std::int64_t n_elements,
                               std::uint64_t seed, double standard_deviation) {
  auto& launch = launch_of(dtype);
  const auto integer = [&](const char* name, std::int64_t value) {
    launch.set_int(launch.arg(name), kernel::SizeValue::of(value));
  };
  launch.set_pointer(launch.arg("out_ptr"), address);
  integer("n_elements", n_elements);
  integer("seed", static_cast<std::int64_t>(seed));
  launch.set_float(launch.arg("std"), standard_deviation);
  launch.finish();
  device_.launch(launch.launch());
}

}  // namespace nereid::engine
