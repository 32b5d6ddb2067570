#include "engine/random_weights.h"

#include <array>
#include <utility>

#include "base/error.h"

namespace nereid::engine {

namespace {

// What differs from fill to fill, as a step's sizes do.
constexpr int kNElements = 0;
constexpr int kSeed = 1;

}  // namespace

kernel::KernelRequest RandomWeights::request(DType dtype, const std::string& target,
                                             const graph::KernelTables& tables) {
  kernel::Problem problem;
  problem.pointers["out_ptr"] = dtype;
  return kernel::make_request(tables.specs.get("random_fill"), tables.tuning, target, problem)
      .request;
}

kernel::LaunchTemplate& RandomWeights::launch_of(DType dtype, double standard_deviation) {
  const auto it = launches_.find({dtype, standard_deviation});
  if (it != launches_.end()) return it->second;
  const auto* variant = bundle_.find(request(dtype, device_.info().target, tables_).key());
  NEREID_CHECK(variant != nullptr, "the bundle cannot fill {}", dtype_name(dtype));
  kernel::LaunchTemplate launch(*variant, device_.load(bundle_.image(*variant)));
  launch.set_int(launch.arg("n_elements"), kernel::SizeValue::symbol_times(kNElements));
  launch.set_int(launch.arg("seed"), kernel::SizeValue::symbol_times(kSeed));
  launch.set_float(launch.arg("std"), standard_deviation);
  launch.set_pointer(launch.arg("out_ptr"), 0);
  launch.finish();
  return launches_.try_emplace({dtype, standard_deviation}, std::move(launch)).first->second;
}

void RandomWeights::operator()(device::Address address, DType dtype, std::int64_t n_elements,
                               std::uint64_t seed, double standard_deviation) {
  auto& launch = launch_of(dtype, standard_deviation);
  launch.set_pointer(launch.arg("out_ptr"), address);
  std::array<std::int64_t, 2> sizes{};
  sizes[kNElements] = n_elements;
  sizes[kSeed] = static_cast<std::int64_t>(seed);
  launch.update(sizes);
  device_.launch(launch.launch());
}

}  // namespace nereid::engine
