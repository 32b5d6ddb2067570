// Goal: memory that lives from step to step: the key-value caches of all layers, in as many blocks
// as memory allows, and the tails' own tables.
// Non-goal: which block belongs to whom (sched).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/sizes.h"
#include "sched/limits.h"

namespace nereid::program {

class States {
 public:
  // Of the blocks that fit a device's memory, those that fit every rank's.
  using Agree = std::function<std::int64_t(std::int64_t n_blocks)>;
  // limits.n_kv_blocks 0 becomes what max_sequences contexts need, within the device's free memory.
  // An Error says what a cache would take and what is free. What ranks exchange is not the states'
  // (exchange.h).
  void allocate(device::Device& device, const std::vector<graph::Value>& values,
                const graph::Sizes& largest, const Agree& agree, sched::Limits& limits);

  device::Address address(const std::string& name) const { return addresses_.at(name); }
  // Of all caches.
  std::size_t pool_bytes() const { return caches_.size_bytes(); }

 private:
  device::Buffer caches_;  // of all layers
  std::vector<device::Buffer> buffers_;
  std::map<std::string, device::Address> addresses_;
};

// Bytes of a cache of so many blocks: [n_blocks, G, block tokens, Dh]; the graph's own first
// dimension says nothing. Of what is no cache: value_bytes().
bool is_cache(const graph::Value& value);
std::size_t cache_bytes(const graph::Value& value, std::int64_t n_blocks);

}  // namespace nereid::program
