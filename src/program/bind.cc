#include "program/bind.h"

#include <algorithm>

namespace nereid::program {

BoundLaunch bind(const PlannedLaunch& launch, const kernel::Variant& variant,
                 const device::Function* function, const Addresses& addresses) {
  using Kind = kernel::ArgumentSource::Kind;
  BoundLaunch bound(variant, function);
  for (const auto& [param, id] : launch.pointers)
    bound.set_pointer(param->name,
                      id == graph::kNoValue ? 0 : addresses.values[static_cast<std::size_t>(id)]);
  for (const auto& [param, dim] : launch.sizes) bound.set_int(param->name, dim);
  for (const auto& [param, value] : launch.scalars) bound.set_float(param->name, value);
  auto scratch = std::ranges::find(addresses.scratch, launch.node, &Scratch::node);
  for (const auto& param : launch.spec->params) {
    if (param.of.kind == Kind::scratch)
      bound.set_pointer(param.name, addresses.arena + (scratch++)->offset);
    if (param.of.kind == Kind::counter) bound.set_pointer(param.name, addresses.counters);
  }
  bound.finish();
  return bound;
}

}  // namespace nereid::program
