#include "engine/step_inputs.h"

#include <algorithm>

#include "base/error.h"

namespace nereid::engine {

namespace {
constexpr std::size_t kAlignmentBytes = 64;
}

void StepInputs::declare(const graph::Value& value, const graph::SymbolValues& largest) {
  const auto bytes = graph::value_bytes(value, largest);
  if (const int known = handle(value.name); known >= 0) {
    NEREID_CHECK(arrays_[static_cast<std::size_t>(known)].bytes == bytes, "{}: {} bytes",
                 value.name, bytes);
    return;
  }
  NEREID_CHECK(host_ == nullptr, "{} is declared after seal()", value.name);
  arrays_.push_back({value.name, size_bytes_, bytes});
  size_bytes_ += (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

void StepInputs::seal() {
  buffer_ = device_.allocate(size_bytes_, "step inputs");
  device_.fill_zero(buffer_.address(), size_bytes_);
  if (device_.reads_host_memory()) {
    device_.synchronize();
    host_ = reinterpret_cast<std::byte*>(buffer_.address());
  } else {
    staging_.resize(size_bytes_);
    host_ = staging_.data();
  }
}

device::Address StepInputs::address(const std::string& name) const {
  const int known = handle(name);
  NEREID_CHECK(known >= 0, "no input {}", name);
  return buffer_.address() + arrays_[static_cast<std::size_t>(known)].offset;
}

int StepInputs::handle(const std::string& name) const {
  const auto it = std::find_if(arrays_.begin(), arrays_.end(),
                               [&](const Array& array) { return array.name == name; });
  return it == arrays_.end() ? -1 : static_cast<int>(it - arrays_.begin());
}

void StepInputs::send() {
  if (!staging_.empty()) device_.upload(buffer_.address(), staging_);
}

}  // namespace nereid::engine
