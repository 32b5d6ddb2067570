#include "program/step_inputs.h"

#include <algorithm>

#include "base/error.h"

namespace nereid::program {

namespace {
constexpr std::size_t kInputAlignmentBytes = 64;
}

void StepInputs::declare(const graph::Value& value, const graph::Sizes& largest) {
  const auto bytes = graph::value_bytes(value, largest);
  if (const int known = handle(value.name); known >= 0) {
    NEREID_CHECK(arrays_[static_cast<std::size_t>(known)].bytes == bytes, "{}: {} bytes",
                 value.name, bytes);
    return;
  }
  NEREID_CHECK(host_ == nullptr, "{} is declared after seal()", value.name);
  arrays_.push_back({value.name, 0, bytes});
}

void StepInputs::seal(const std::string& last) {
  const int known = handle(last);
  NEREID_CHECK(known >= 0, "no input {}", last);
  // Handles are places in arrays_: only the offsets follow another order.
  const auto place = [this](Array& array) {
    array.offset = size_bytes_;
    size_bytes_ +=
        (array.bytes + kInputAlignmentBytes - 1) / kInputAlignmentBytes * kInputAlignmentBytes;
  };
  auto& last_array = arrays_[static_cast<std::size_t>(known)];
  for (auto& array : arrays_)
    if (&array != &last_array) place(array);
  place(last_array);
  last_offset_ = last_array.offset;
  buffer_ = device_.allocate(size_bytes_, "step inputs");
  device_.fill_zero(buffer_.address(), size_bytes_);
  if (device_.reads_host_memory()) {
    device_.synchronize();
    host_ = reinterpret_cast<std::byte*>(buffer_.address());
  } else {
    staging_ = device_.allocate_host(size_bytes_, "step inputs");
    host_ = staging_.bytes().data();
    std::fill_n(host_, size_bytes_, std::byte{0});
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

void StepInputs::send(std::size_t n_last_bytes) {
  if (!staging_.bytes().empty())
    device_.queue_upload(buffer_.address(), staging_.bytes().first(last_offset_ + n_last_bytes));
}

}  // namespace nereid::program
