#include "graph/plan.h"

#include <unordered_map>

#include "base/error.h"

namespace nereid::graph {

namespace {

// An operand the variant does not read still has a type in its signature: the first that it may
// have.
DType unused_dtype(const kernel::Spec& spec, const std::string& name) {
  const auto* param = spec.find_param(name);
  NEREID_CHECK(param != nullptr && !param->types.empty(), "kernel {} has no operand {}", spec.name,
               name);
  return dtype_from_name(param->types.front()).value();
}

// Of steps of this class.
std::int64_t largest(const Dim& dim, const StepClass& steps) {
  const SymbolValues sizes{1, steps.max_tokens, steps.max_sequences, steps.max_logits,
                           steps.is_decode ? 1 : steps.max_tokens};
  return dim_value(dim, sizes);
}

kernel::SizeValue size_value(const Dim& dim) {
  if (dim.is_constant()) return kernel::SizeValue::of(dim.offset);
  NEREID_CHECK(dim.offset == 0, "size {}", dim_text(dim));
  return kernel::SizeValue::symbol_times(static_cast<int>(dim.symbol), dim.factor);
}

// Every launch argument of the call that the variant has. Constexprs are in the variant already.
void bind(kernel::LaunchTemplate& launch, const KernelCall& call,
          const Plan::AddressOf& address_of) {
  const auto index_of = [&](const std::string& name) {
    const int index = launch.arg(name);
    NEREID_CHECK(index >= 0, "kernel {} has no argument {}", call.kernel, name);
    return index;
  };
  for (const auto& [name, id] : call.pointers)
    launch.set_pointer(index_of(name), id == kNoValue ? 0 : address_of(id));
  for (const auto& [name, dim] : call.sizes) launch.set_int(index_of(name), size_value(dim));
  for (const auto& [name, value] : call.scalars) launch.set_float(index_of(name), value);
  launch.finish();
}

// What a choice depends on. Layers repeat: the same signature is chosen for once.
std::string signature_of(const Graph& graph, const KernelCall& call) {
  std::string text = call.kernel;
  for (const auto& [name, id] : call.pointers)
    text += id == kNoValue ? '-' : static_cast<char>('a' + static_cast<int>(graph.value(id).dtype));
  for (const auto& [name, dim] : call.sizes) text += " " + dim_text(dim);
  for (const auto& [name, value] : call.constexprs) text += fmt::format(" {}", value);
  return text;
}

}  // namespace

kernel::Problem problem_of(const Graph& graph, const KernelCall& call, const kernel::Spec& spec,
                           const StepClass& steps) {
  kernel::Problem problem;
  for (const auto& [name, id] : call.pointers)
    problem.pointers[name] = id == kNoValue ? unused_dtype(spec, name) : graph.value(id).dtype;
  for (const auto& [name, dim] : call.sizes) {
    // A size that the kernel lets each step set must not shape the variant, even where it happens
    // to be constant.
    const auto* param = spec.find_param(name);
    if (param != nullptr && param->is_step)
      problem.largest[name] = largest(dim, steps);
    else if (dim.is_constant())
      problem.sizes[name] = dim.offset;
  }
  for (const auto& [name, value] : call.constexprs) problem.constexprs[name] = value;
  return problem;
}

std::vector<PlannedLaunch> plan_launches(const Graph& graph, const StepClass& steps,
                                         std::string_view target, const KernelTables& tables) {
  std::vector<PlannedLaunch> launches;
  std::unordered_map<std::string, kernel::ChosenRequest> chosen_before;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    auto call = lower(graph, graph.nodes[i], steps);
    if (!call) continue;
    const auto [it, is_new] = chosen_before.try_emplace(signature_of(graph, *call));
    if (is_new) {
      const auto& spec = call->generated ? call->generated->spec : tables.specs.get(call->kernel);
      it->second =
          kernel::make_request(spec, tables.tuning, target, problem_of(graph, *call, spec, steps));
      it->second.request.generated = call->generated;
    }
    launches.push_back({i, std::move(*call), it->second.request, it->second.why});
  }
  return launches;
}

Plan::Plan(const std::vector<PlannedLaunch>& launches, const kernel::Bundle& bundle,
           const Load& load, const AddressOf& address_of) {
  launches_.reserve(launches.size());
  for (const auto& planned : launches) {
    const auto* variant = bundle.find(planned.request.key());
    NEREID_CHECK(variant != nullptr, "the bundle lacks {}", planned.request.key());
    variants_.push_back(variant);
    nodes_.push_back(planned.node);
    launches_.emplace_back(*variant, load(*variant));
    bind(launches_.back(), planned.call, address_of);
  }
}

void Plan::run(device::Device& device, const SymbolValues& sizes) {
  for (auto& launch : launches_) {
    launch.update(sizes);
    if (!launch.is_empty()) device.launch(launch.launch());
  }
}

void Plan::run_stepwise(device::Device& device, const SymbolValues& sizes,
                        const std::function<void(std::size_t node)>& after) {
  for (std::size_t i = 0; i < launches_.size(); ++i) {
    launches_[i].update(sizes);
    if (launches_[i].is_empty()) continue;
    device.launch(launches_[i].launch());
    device.synchronize();
    after(nodes_[i]);
  }
}

std::string Plan::trace() const {
  std::string text;
  for (std::size_t i = 0; i < launches_.size(); ++i) {
    const auto grid = launches_[i].grid();
    text += fmt::format("{:<18} grid {}x{}x{}  {}\n", variants_[i]->request.kernel, grid.x, grid.y,
                        grid.z, variants_[i]->object_sha256);
  }
  return text;
}

}  // namespace nereid::graph
