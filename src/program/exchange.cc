#include "program/exchange.h"

#include <atomic>
#include <cstdlib>

#include "base/error.h"
#include "graph/sizes.h"
#include "model/architecture.h"

namespace nereid::program {

namespace names = model::names;

void Exchange::open(const std::vector<graph::Value>& states, const Rank& rank) {
  for (const auto& value : states) {
    if (value.name != names::kMyInbox) continue;
    const auto n_bytes = graph::value_bytes(value, {});
    inbox_ = device_.allocate(n_bytes, "exchange among devices");
    device_.fill_zero(inbox_.address(), n_bytes);
    stop_ = device_.allocate_host(sizeof(std::int32_t), "exchange among devices");
    allow_waiting();
    device_.synchronize();
    for (const auto address :
         rank.meeting->all(rank.shard.rank, static_cast<std::int64_t>(inbox_.address())))
      inboxes_.push_back(static_cast<device::Address>(address));
  }
}

device::Address Exchange::address(const std::string& state) const {
  if (state == names::kStop) return reinterpret_cast<device::Address>(stop_.bytes().data());
  if (state == names::kMyInbox) return inbox_.address();
  const auto rank = std::strtoul(
      state.c_str() + std::char_traits<char>::length(names::kInboxPrefix), nullptr, 10);
  NEREID_CHECK(state.starts_with(names::kInboxPrefix) && rank < inboxes_.size(), "state {}", state);
  return inboxes_[rank];
}

void Exchange::set_stop(std::int32_t value) {
  if (stop_.bytes().empty()) return;
  std::atomic_ref(*reinterpret_cast<std::int32_t*>(stop_.bytes().data())).store(value);
}

ExchangeCount ExchangeCount::of(const graph::Graph& graph) {
  ExchangeCount count;
  for (const auto& node : graph.nodes) {
    if (node.row().op_class != graph::OpClass::exchange) continue;
    const bool is_of_logits =
        graph.value(node.operand("x")).shape[0].symbol == graph::Symbol::n_logits;
    NEREID_CHECK(is_of_logits || count.of_logits == 0,
                 "an exchange of all rows behind one of some");
    ++(is_of_logits ? count.of_logits : count.of_tokens);
  }
  return count;
}

}  // namespace nereid::program
