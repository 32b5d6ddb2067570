#include "nereid/graph_program.h"

#include "base/error.h"
#include "device/registry.h"
#include "engine/graph_program_impl.h"
#include "model/safetensors.h"

namespace nereid {

model::TensorMap engine::views_of(const Tensors& tensors) {
  model::TensorMap views;
  for (const auto& [name, tensor] : tensors) {
    const auto dtype = dtype_from_name(tensor.dtype);
    if (!dtype) throw Error("tensor {}: there is no element type \"{}\"", name, tensor.dtype);
    const auto n_bytes =
        static_cast<std::size_t>(n_elements(tensor.shape)) * dtype_size_bytes(*dtype);
    if (tensor.bytes.size() != n_bytes)
      throw Error("tensor {}: expected {} bytes for {}{}, got {}", name, n_bytes, tensor.dtype,
                  shape_text(tensor.shape), tensor.bytes.size());
    views[name] = {*dtype, tensor.shape, tensor.bytes};
  }
  return views;
}

Tensors read_safetensors(const std::filesystem::path& path) {
  const model::SafetensorsFile file(path);
  for (const auto& [name, dtype] : file.foreign())
    throw Error(
        "{}: tensor {} is of type {}; expected F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL",
        path.string(), name, dtype);
  Tensors tensors;
  for (const auto& [name, tensor] : file.tensors())
    tensors[name] = {std::string(dtype_name(tensor.dtype)),
                     tensor.shape,
                     {tensor.bytes.begin(), tensor.bytes.end()}};
  return tensors;
}

void write_safetensors(const std::filesystem::path& path, const Tensors& tensors) {
  const auto views = engine::views_of(tensors);
  model::write_safetensors(path, {views.begin(), views.end()});
}

GraphProgram::GraphProgram(const std::filesystem::path& graph, const GraphOptions& options)
    : GraphProgram(std::make_unique<Impl>(
          device::open_device({.name = options.device, .n_threads = options.n_threads}), graph,
          options)) {}

GraphProgram::GraphProgram(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GraphProgram::~GraphProgram() = default;
GraphProgram::GraphProgram(GraphProgram&&) noexcept = default;
GraphProgram& GraphProgram::operator=(GraphProgram&&) noexcept = default;

Tensors GraphProgram::run(const Tensors& inputs) {
  Tensors outputs;
  for (auto& output : impl_->runner.run(engine::views_of(inputs)))
    outputs[output.name] = {std::string(dtype_name(output.dtype)), std::move(output.shape),
                            std::move(output.bytes)};
  return outputs;
}

}  // namespace nereid
