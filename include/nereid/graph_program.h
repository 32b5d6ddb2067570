// Goal: any graph of operations as a program: written as text (docs/running_a_graph.md), compiled
// for a device, run on tensors by name; with operations of the caller's own. Non-goal: generating
// text (engine.h), threads: a GraphProgram belongs to one. Rejected: building graphs by calls. What
// `nereid inspect` prints is what is read here.
//
//   nereid::GraphProgram program("softmax.txt", {.ops = {"clipped_softmax.py"}});
//   const auto outputs = program.run(nereid::read_safetensors("x.safetensors"));
//   nereid::write_safetensors("y.safetensors", outputs);
//
// Everything throws a nereid::Error that names file and line of what is wrong with a graph or an
// operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "nereid/api.h"
#include "nereid/error.h"

namespace nereid {

struct GraphOptions {
  // Files with operations of the caller's own, beside those of the program (docs/adding_an_op.md).
  // Each is run in Python once; what it says is kept, in the bundle too.
  std::vector<std::filesystem::path> ops = {};
  std::string device = "auto";  // auto | cpu | cuda[:i] | null
  int n_threads = 0;            // cpu: 0 is every cpu the process may run on
  // auto (the fastest that the device has) | eager | compiled | graph
  std::string mode = "auto";
  std::set<std::string> skip_passes = {};  // passes of the graph compiler to leave out, by name
  bool is_tuned = true;  // false: kernels take their own defaults, whatever was measured
  std::filesystem::path bundle_dir = {};  // compiled kernels; empty: the user's cache
};

// Elements in host memory, contiguous, the last dimension fastest.
struct Tensor {
  std::string dtype;  // as graphs spell it: "fp32", "bf16", "i32"
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};
using Tensors = std::map<std::string, Tensor>;

NEREID_API Tensors read_safetensors(const std::filesystem::path& path);
// Replaces the file in one step.
NEREID_API void write_safetensors(const std::filesystem::path& path, const Tensors& tensors);

class NEREID_API GraphProgram {
 public:
  explicit GraphProgram(const std::filesystem::path& graph, const GraphOptions& options = {});
  ~GraphProgram();
  GraphProgram(GraphProgram&&) noexcept;
  GraphProgram& operator=(GraphProgram&&) noexcept;

  // What the graph returns, by name. `inputs` has every input, weight and state that it declares,
  // and nothing else; their shapes say how large its sizes are. Planned and compiled anew where
  // sizes differ from those of the run before. A state starts each run as it is given; to go on
  // with it, return it and give it again.
  Tensors run(const Tensors& inputs);

  struct Impl;
  // For layers above, which measure it.
  explicit GraphProgram(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace nereid
