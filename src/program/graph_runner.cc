#include "program/graph_runner.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "program/weights.h"

namespace nereid::program {

namespace {

// "graph" was asked for where nothing can be captured.
bool captures(const device::Device& device, const GraphPlanner& planner,
              const GraphOptions& options) {
  if (planner.mode() != "graph") return false;
  if (device.can_capture()) return true;
  if (options.mode == "graph")
    throw Error("mode \"graph\": {} cannot capture steps; use --mode compiled", device.info().name);
  return false;
}

// What makes the bundle.
std::string command_of(const std::filesystem::path& graph, const GraphOptions& options) {
  auto command = fmt::format("nereid compile-graph {} --inputs FILE", graph.string());
  for (const auto& file : options.ops) command += fmt::format(" --op {}", file.string());
  return command;
}

Shape shape_of(const graph::Value& value, const graph::Sizes& sizes) {
  Shape shape;
  for (const auto& dim : value.shape) shape.push_back(dim_value(dim, sizes));
  return shape;
}

// What a device allocates at least: something, for an operand without elements.
constexpr std::size_t kLeastBytes = 64;

}  // namespace

// Of the last sizes: what is launched and where it lies.
struct GraphRunner::Ready {
  GraphPlanner::Bound bound;
  LaunchPlan plan;
  Executor executor;
  std::map<std::string, device::Buffer, std::less<>>
      buffers;  // of what is given, and packed weights
  Addresses addresses;
  std::vector<BoundLaunch> launches;
  std::unique_ptr<device::CapturedWork> captured;
};

GraphRunner::GraphRunner(device::Device& device, const std::filesystem::path& graph,
                         const GraphOptions& options)
    : device_(device),
      planner_(read_text_file(graph), graph.string(), options, device.info().target),
      is_captured_(captures(device, planner_, options)),
      bundles_{.model_dir = {},
               .bundle_dir = options.bundle_dir,
               .command = command_of(graph, options)} {}

GraphRunner::~GraphRunner() = default;

const LaunchPlan& GraphRunner::plan() const { return ready_->plan; }
const graph::Sizes& GraphRunner::sizes() const { return ready_->bound.sizes; }
const Addresses& GraphRunner::addresses() const { return ready_->addresses; }
Executor& GraphRunner::executor() { return ready_->executor; }

void GraphRunner::prepare(const GraphPlanner::Bound& bound) {
  if (ready_ && ready_->bound == bound) return;
  ready_.reset();
  auto ready = std::make_unique<Ready>(Ready{.bound = bound,
                                             .plan = planner_.plan(bound),
                                             .executor = Executor(device_),
                                             .buffers = {},
                                             .addresses = {},
                                             .launches = {},
                                             .captured = {}});
  const auto requests = requests_of(ready->plan);
  const auto& info = device_.info();
  ready->executor.use(
      kernel::find_bundle(planner_.tables().specs, info.target, info.isa, requests, bundles_));
  for (const auto& value : ready->plan.graph.values)
    if (value.kind != graph::ValueKind::intermediate)
      ready->buffers.emplace(
          value.name,
          device_.allocate(std::max(graph::value_bytes(value, bound.sizes), kLeastBytes),
                           value.name));
  ready->addresses = ready->executor.addresses_of(ready->plan, [&](const graph::Value& value) {
    return ready->buffers.at(value.name).address();
  });
  ready->launches = ready->executor.bind(ready->plan, ready->addresses);
  ready_ = std::move(ready);
}

void GraphRunner::send(const model::TensorMap& inputs) {
  const auto& graph = ready_->plan.graph;
  for (const auto id : given_values(graph)) {
    const auto& name = graph.value(id).name;
    device_.upload(ready_->buffers.at(name).address(), inputs.at(name).bytes);
  }
  for (const auto& part : packed_parts(graph))
    device_.upload(ready_->buffers.at(graph.value(part.packed).name).address() + part.offset,
                   inputs.at(graph.value(part.part).name).bytes);
}

void GraphRunner::launch() {
  for (auto& launch : ready_->launches) launch.run(device_, ready_->bound.sizes);
}

std::vector<GraphOutput> GraphRunner::run(const model::TensorMap& inputs) {
  prepare(planner_.bind(inputs));
  send(inputs);
  try {
    if (is_captured_ && !ready_->captured) {
      // Drivers load a kernel at its first launch, which they cannot do while they capture.
      launch();
      device_.synchronize();
      ready_->captured = device_.capture([&] { launch(); });
      send(inputs);
    }
    if (is_captured_)
      device_.replay(*ready_->captured);
    else
      launch();
    device_.synchronize();
  } catch (const Error&) {
    ready_.reset();  // its counters may not be zero any more
    throw;
  }
  std::vector<GraphOutput> outputs;
  for (std::size_t i = 0; i < planner_.graph().outputs.size(); ++i) outputs.push_back(output(i));
  return outputs;
}

// Named as it was written: passes number what they compute. Rows of a slice are put together.
GraphOutput GraphRunner::output(std::size_t index) const {
  const auto& graph = ready_->plan.graph;
  const auto id = graph.outputs[index];
  const auto& value = graph.value(id);
  GraphOutput output{planner_.graph().value(planner_.graph().outputs[index]).name,
                     value.dtype,
                     shape_of(value, ready_->bound.sizes),
                     {}};
  output.bytes.resize(graph::value_bytes(value, ready_->bound.sizes));
  if (output.bytes.empty()) return output;
  const auto n_rows = value.shape.empty() ? 1 : static_cast<std::size_t>(output.shape[0]);
  const auto row_bytes = output.bytes.size() / n_rows;
  const auto stride_bytes =
      value.shape.empty()
          ? row_bytes
          : static_cast<std::size_t>(row_elements(graph, id)) * dtype_size_bytes(value.dtype);
  std::vector<std::byte> spread((n_rows - 1) * stride_bytes + row_bytes);
  device_.download(spread, ready_->addresses.values[static_cast<std::size_t>(id)]);
  for (std::size_t row = 0; row < n_rows; ++row)
    std::memcpy(output.bytes.data() + row * row_bytes, spread.data() + row * stride_bytes,
                row_bytes);
  return output;
}

}  // namespace nereid::program
