// Goal: tensor maps: what the hardware's copies of whole tiles (TMA, from sm_90 on) are told of a
// matrix. Made on the host, given to a kernel by value.
// Non-goal: choosing boxes and swizzles; the kernel's compiler did.
#pragma once

#include "device/cuda/session.h"
#include "device/device.h"

namespace nereid::device::cuda {

TensorMap encode_tensor_map(const Session& session, const TiledMatrix& matrix);

}  // namespace nereid::device::cuda
