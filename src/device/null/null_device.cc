#include "device/null/null_device.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace nereid::device {

namespace {

// Far from anything mapped, so that a mistaken read faults at once.
constexpr Address kFirstAddress = Address{1} << 60;

template <typename T>
T read_as(const void* storage) {
  T value;
  std::memcpy(&value, storage, sizeof(value));
  return value;
}

std::int64_t argument_value(ArgType type, const void* storage) {
  switch (type) {
    case ArgType::pointer:
    case ArgType::i64:
      return read_as<std::int64_t>(storage);
    case ArgType::i32:
      return read_as<std::int32_t>(storage);
    case ArgType::i16:
      return read_as<std::int16_t>(storage);
    case ArgType::i8:
      return read_as<std::int8_t>(storage);
    case ArgType::fp16:
    case ArgType::bf16:
      return read_as<std::uint16_t>(storage);
    case ArgType::fp32:
      return std::bit_cast<std::int64_t>(double{read_as<float>(storage)});
    case ArgType::fp64:
    case ArgType::tensor_map:  // its first bytes: the address that NullDevice::tensor_map put there
      return read_as<std::int64_t>(storage);
  }
  NEREID_UNREACHABLE("argument type {}", static_cast<int>(type));
}

}  // namespace

struct NullDevice::Loaded final : Function {
  std::string symbol;
  std::vector<ArgType> args;
};

NullDevice::NullDevice(std::string target, std::size_t memory_bytes, int n_units)
    : next_address_(kFirstAddress) {
  info_.name = "null";
  info_.description = fmt::format("records launches for {}, runs nothing", target);
  info_.target = std::move(target);
  info_.memory_bytes = memory_bytes;
  info_.n_units = n_units;
}

NullDevice::~NullDevice() = default;

Buffer NullDevice::allocate(std::size_t size_bytes, const std::string& what) {
  if (size_bytes > free_bytes())
    throw Error(ErrorCode::device,
                "out of memory for {}: asked for {} bytes, free {} of {} bytes on {}", what,
                size_bytes, free_bytes(), info_.memory_bytes, info_.name);
  const Address address = next_address_;
  next_address_ += std::max<std::size_t>(64, (size_bytes + 63) / 64 * 64);
  memory_.add(size_bytes);
  log_.push_back({NullOperation::allocate, what, address, size_bytes, {}, {}, {}});
  return Buffer(this, address, size_bytes);
}

void NullDevice::release(Address address, std::size_t size_bytes) noexcept {
  memory_.subtract(size_bytes);
  log_.push_back({NullOperation::release, "", address, size_bytes, {}, {}, {}});
}

void NullDevice::upload(Address target, std::span<const std::byte> source) {
  log_.push_back({NullOperation::upload, "", target, source.size(), {}, {}, {}});
}

void NullDevice::download(std::span<std::byte> target, Address source) {
  std::fill(target.begin(), target.end(), std::byte{0});
  log_.push_back({NullOperation::download, "", source, target.size(), {}, {}, {}});
}

void NullDevice::fill_zero(Address target, std::size_t size_bytes) {
  log_.push_back({NullOperation::fill_zero, "", target, size_bytes, {}, {}, {}});
}

void NullDevice::launch(const Launch& launch) {
  const auto& function = static_cast<const Loaded&>(*launch.function);
  NullEvent event{NullOperation::launch, function.symbol, 0, 0, launch.grid, {}, {}};
  for (std::size_t i = 0; i < function.args.size(); ++i) {
    event.args.push_back(argument_value(function.args[i], launch.params[i]));
    if (function.args[i] == ArgType::tensor_map)
      event.maps.push_back(*static_cast<const TensorMap*>(launch.params[i]));
  }
  log_.push_back(std::move(event));
}

TensorMap NullDevice::tensor_map(const TiledMatrix& matrix) const {
  TensorMap map;
  std::memcpy(map.bytes.data(), &matrix.address, sizeof(matrix.address));
  std::memcpy(map.bytes.data() + sizeof(matrix.address), matrix.shape.data(),
              matrix.rank * sizeof(matrix.shape[0]));
  return map;
}

const Function* NullDevice::load(const KernelImage& image) {
  auto function = std::make_unique<Loaded>();
  function->symbol = image.symbol;
  function->args = image.args;
  function->device = this;
  functions_.push_back(std::move(function));
  log_.push_back({NullOperation::load, image.symbol, 0, image.object.size(), {}, {}, {}});
  return functions_.back().get();
}

}  // namespace nereid::device
