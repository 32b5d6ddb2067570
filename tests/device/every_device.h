// Goal: one suite for every device of a machine. A GPU that is not here is a skip, which is
// counted and told at the end of a run; with NEREID_EXPECT_GPU in the environment it is a failure,
// so that a run on a machine that has one cannot pass without it.
// Non-goal: choosing among several GPUs.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "device/cuda/cuda_device.h"

namespace nereid::device {

// For SetUp(): the test does not run without its device. What follows in SetUp() has to ask
// is_here().
inline void require_device(std::string_view name) {
  if (name != "cuda" || CudaDevice::is_present()) return;
  constexpr const char* kWhy = "no NVIDIA GPU on this machine";
  if (std::getenv("NEREID_EXPECT_GPU") != nullptr) FAIL() << kWhy;
  GTEST_SKIP() << kWhy;
}

inline bool is_here(std::string_view name) { return name != "cuda" || CudaDevice::is_present(); }

}  // namespace nereid::device
