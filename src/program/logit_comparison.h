// Goal: how far the logits of two models are apart, computed on a device
// (kernels/compare_logits.py). Non-goal: which tokens they are of (engine/comparing.h). Rejected:
// sums on the host. It is arithmetic over the vocabulary for every token of a text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "device/device.h"
#include "kernel/bundle.h"
#include "program/launch.h"
#include "program/lower.h"

namespace nereid::program {

// Of rows of so many logits; part of what `nereid compile` puts into a bundle.
kernel::KernelRequest comparison_request(std::int64_t vocab_size, const std::string& target,
                                         const KernelTables& tables);

class LogitComparison {
 public:
  // Finds or compiles the kernel. `model_dir`, `bundle_dir`: where a bundle may be, as Options has
  // it.
  LogitComparison(device::Device& device, std::int64_t vocab_size,
                  const std::filesystem::path& model_dir, const std::filesystem::path& bundle_dir);

  // p, q [R, V]. kl [R]: sum p ln(p / q) of the distributions; is_same [R]: 1 where the likeliest
  // token is one.
  void operator()(std::span<const float> p, std::span<const float> q, std::span<float> kl,
                  std::span<std::int32_t> is_same);

 private:
  void reserve(std::size_t n_rows);

  device::Device& device_;
  const std::int64_t vocab_size_;
  std::optional<kernel::Bundle> bundle_;
  const kernel::Variant* variant_ = nullptr;
  const device::Function* function_ = nullptr;
  std::size_t n_reserved_rows_ = 0;
  device::Buffer p_, q_, kl_, is_same_;
};

}  // namespace nereid::program
