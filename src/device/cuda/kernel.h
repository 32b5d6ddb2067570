// Goal: a cubin loaded into one GPU, checked against what the GPU has, with all that its launches
// share worked out.
// Non-goal: arguments; a launch brings them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "device/cuda/session.h"
#include "device/device.h"

namespace nereid::device::cuda {

// What a program may have on this GPU.
struct Limits {
  std::string target;  // "cuda:90"
  std::size_t shared_bytes = 0;
  std::uint32_t max_threads = 0;
};

class LoadedKernel final : public Function {
 public:
  // An Error says why the kernel does not fit this GPU, and which bundle would.
  LoadedKernel(Session& session, const Limits& limits, const KernelImage& image);
  ~LoadedKernel() { unload(); }
  LoadedKernel(const LoadedKernel&) = delete;
  LoadedKernel& operator=(const LoadedKernel&) = delete;

  const std::string& symbol() const { return symbol_; }
  // Queues it, or adds it to what is being captured.
  void launch(const Grid& grid, void* const* params) const;

 private:
  void load(const Limits& limits, const KernelImage& image);
  void set_attributes(const KernelImage& image);
  void unload() noexcept;

  static constexpr std::size_t kMaxAttributes = 4;

  Session& session_;
  std::string symbol_;
  Module module_ = nullptr;
  FunctionHandle handle_ = nullptr;
  std::uint32_t n_threads_ = 0;
  std::uint32_t shared_bytes_ = 0;
  std::uint32_t cluster_size_ = 1;
  std::array<LaunchAttribute, kMaxAttributes> attributes_{};
  std::uint32_t n_attributes_ = 0;
  std::size_t n_args_ = 0;
  // The launch's own pointers are copied here, before the two of the scratch.
  mutable std::vector<void*> params_;
  std::uint64_t no_scratch_ = 0;
};

}  // namespace nereid::device::cuda
