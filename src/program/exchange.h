// Goal: the memory through which a rank's kernels meet those of the others: its inbox, where theirs
// lie, and the word that ends all waiting (kernels/lib/exchange.py).
// Non-goal: launching exchanges: they are operations of the graph like others.
// Rejected: collectives of a vendor's library. They know neither the graph's residual nor its order
// of sums, and are another program's kernels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "model/shard.h"
#include "program/meeting.h"

namespace nereid::program {

// What makes a program one of several ranks.
struct Rank {
  model::Shard shard;
  Meeting* meeting = nullptr;  // of all ranks; null for one alone
};

class Exchange {
 public:
  explicit Exchange(device::Device& device) : device_(device) {}

  // Makes the inbox, of the size that the graph's states have, and learns of the others'. Nothing
  // where the graph exchanges nothing.
  void open(const std::vector<graph::Value>& states, const Rank& rank);
  // Of a state whose name begins with names::kExchangePrefix.
  device::Address address(const std::string& state) const;

  // Kernels that wait for other ranks go on, now and until waiting is allowed again.
  void stop_waiting() { set_stop(1); }
  void allow_waiting() { set_stop(0); }

 private:
  void set_stop(std::int32_t value);

  device::Device& device_;
  device::Buffer inbox_;
  device::HostBuffer stop_;  // i32, read by kernels where it lies
  std::vector<device::Address> inboxes_;
};

// Exchanges of a step: those of all rows, and those of the rows that want a logit, which a step
// without any leaves out; they are the last.
struct ExchangeCount {
  std::int32_t of_tokens = 0, of_logits = 0;
  static ExchangeCount of(const graph::Graph& graph);
};

}  // namespace nereid::program
