#include "device/cuda/cuda_device.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "null/cuda_driver_stand_in.h"

namespace nereid::device {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr std::size_t kLargeBytes = (std::size_t{33} << 20) + 5;    // three large staging pieces
constexpr std::size_t kMediumBytes = (std::size_t{300} << 10) + 5;  // a part of one

template <typename Function>
std::string error_of(Function function, std::optional<ErrorCode>* code = nullptr) {
  try {
    function();
  } catch (const Error& error) {
    if (code != nullptr) *code = error.code();
    return error.what();
  }
  return "no error";
}

// The stand-in takes a line of text behind the ELF magic for a cubin.
class Cubin {
 public:
  explicit Cubin(const std::string& line)
      : bytes_(
            "\x7f"
            "ELF" +
            line + "\n") {
    image_.symbol = "add_one";
    image_.object_path = "add_one.cubin";
    image_.args = {ArgType::pointer, ArgType::pointer, ArgType::i32};
    image_.n_threads = 128;
  }
  KernelImage image(std::uint32_t shared_bytes = 1024) const {
    KernelImage image = image_;
    image.shared_bytes = shared_bytes;
    // With the 0 at its end: the stand-in reads text.
    image.object = std::as_bytes(std::span(bytes_.c_str(), bytes_.size() + 1));
    return image;
  }

 private:
  std::string bytes_;
  KernelImage image_;
};

const Cubin& add_one() {
  static const Cubin cubin("90 add_one ppiss");
  return cubin;
}

class CudaDeviceTest : public testing::Test {
 protected:
  CudaDeviceTest() {
    library_ = ::dlopen(NEREID_CUDA_DRIVER_STAND_IN, RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    const auto entry =
        reinterpret_cast<cuda::DriverStandInEntry>(::dlsym(library_, cuda::kDriverStandInEntry));
    driver_ = entry();
    driver_->reset();
  }
  ~CudaDeviceTest() override {
    EXPECT_THAT(driver_->violations, IsEmpty());
    EXPECT_EQ(driver_->leaks(), "");
    driver_->reset();
    ::dlclose(library_);
  }

  static std::unique_ptr<CudaDevice> open(int ordinal = 0) {
    return std::make_unique<CudaDevice>(ordinal,
                                        cuda::DriverApi::load(NEREID_CUDA_DRIVER_STAND_IN));
  }

  cuda::DriverStandIn* driver_ = nullptr;

 private:
  void* library_ = nullptr;
};

std::vector<std::byte> sample_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint32_t x = 1;
  for (std::size_t i = 0; i < size; i += size / 1000 + 1)
    bytes[i] = static_cast<std::byte>((x = x * 1664525 + 1013904223) >> 24);
  return bytes;
}

void launch_add_one(Device& device, const Function* function, Address out, Address in,
                    std::int32_t n, Grid grid = {1, 1, 1}) {
  const std::array<void*, 3> params{&out, &in, &n};
  device.launch({function, grid, params.data()});
}

TEST_F(CudaDeviceTest, DescribesTheGpu) {
  driver_->n_devices = 2;
  const auto device = open(1);
  EXPECT_EQ(device->info().name, "cuda:1");
  EXPECT_EQ(device->info().target, "cuda:90");
  EXPECT_EQ(device->info().n_units, 132);
  EXPECT_EQ(device->info().memory_bytes, driver_->memory_bytes);
  EXPECT_EQ(device->info().description, "Stand-in, 132 multiprocessors, driver for CUDA 12.4");
  EXPECT_FALSE(device->reads_host_memory());
}

TEST_F(CudaDeviceTest, CopiesInOrderThroughItsStagingPieces) {
  const auto device = open();
  const auto there = sample_bytes(kLargeBytes);
  const Buffer buffer = device->allocate(kLargeBytes, "weights");
  EXPECT_EQ(buffer.address() % 64, 0u);
  EXPECT_EQ(device->free_bytes(), driver_->memory_bytes - kLargeBytes);
  device->upload(buffer.address(), there);
  std::vector<std::byte> back(kLargeBytes);
  device->download(back, buffer.address());
  EXPECT_EQ(std::memcmp(there.data(), back.data(), kLargeBytes), 0);
  device->fill_zero(buffer.address() + 1, 2);
  back.resize(4);
  device->download(back, buffer.address());
  EXPECT_THAT(back, ElementsAre(there[0], std::byte{0}, std::byte{0}, there[3]));
}

TEST_F(CudaDeviceTest, AsksTheDriverForNothingWhereThereIsNothingToDo) {
  const auto device = open();
  const Buffer empty = device->allocate(0, "nothing");
  const int n_calls = driver_->n_calls;
  device->upload(empty.address(), {});
  device->download({}, empty.address());
  device->fill_zero(empty.address(), 0);
  EXPECT_THAT(std::vector(driver_->calls.begin() + n_calls, driver_->calls.end()),
              Not(testing::Contains(testing::StartsWith("cuMem"))));
}

TEST_F(CudaDeviceTest, LaunchesWithTheTwoScratchPointersBehindTheArguments) {
  const auto device = open();
  const Function* function = device->load(add_one().image());
  const Buffer in = device->allocate(100, "in");
  const Buffer out = device->allocate(100, "out");
  const auto there = sample_bytes(100);
  device->upload(in.address(), there);
  launch_add_one(*device, function, out.address(), in.address(), 100, {7, 3, 2});
  launch_add_one(*device, function, in.address(), out.address(), 50);
  launch_add_one(*device, function, in.address(), out.address(), 50, {0, 1, 1});
  std::vector<std::byte> back(100);
  device->download(back, in.address());
  for (std::size_t i = 0; i < 100; ++i)
    ASSERT_EQ(back[i], static_cast<std::byte>(static_cast<int>(there[i]) + (i < 50 ? 2 : 0))) << i;
  ASSERT_EQ(driver_->launches.size(), 2u);
  EXPECT_EQ(driver_->launches[0].symbol, "add_one");
  EXPECT_THAT(driver_->launches[0].grid, ElementsAre(7, 3, 2));
  EXPECT_THAT(driver_->launches[0].block, ElementsAre(128, 1, 1));
  EXPECT_EQ(driver_->launches[0].shared_bytes, 1024u);
}

TEST_F(CudaDeviceTest, AsksForSharedMemoryBeyondWhatEveryLaunchHas) {
  const auto device = open();
  const Function* function = device->load(add_one().image(200 * 1024));
  const Buffer buffer = device->allocate(8, "both");
  launch_add_one(*device, function, buffer.address(), buffer.address(), 8);
  device->synchronize();
  EXPECT_EQ(driver_->launches.at(0).shared_bytes, 200u * 1024);
}

TEST_F(CudaDeviceTest, WorksOnAnotherThreadThanItWasOpenedOn) {
  const auto device = open();
  std::string error;
  std::thread([&] {
    error = error_of([&] {
      const Buffer buffer = device->allocate(64, "elsewhere");
      device->upload(buffer.address(), sample_bytes(64));
      device->fill_zero(buffer.address(), 64);
      std::vector<std::byte> back(64, std::byte{1});
      device->download(back, buffer.address());
      EXPECT_EQ(back, std::vector<std::byte>(64));
      launch_add_one(*device, device->load(add_one().image()), buffer.address(), buffer.address(),
                     64);
      device->synchronize();
      EXPECT_EQ(device->free_bytes(), driver_->memory_bytes - 64);
    });
  }).join();
  EXPECT_EQ(error, "no error");
}

TEST_F(CudaDeviceTest, SaysWhyTheDriverCannotBeUsed) {
  EXPECT_THAT(error_of([] { cuda::DriverApi::load("/nowhere/libcuda.so.1"); }),
              AllOf(HasSubstr("no NVIDIA driver"), HasSubstr("/nowhere/libcuda.so.1"),
                    HasSubstr("--device cpu")));
  EXPECT_THAT(error_of([] { cuda::DriverApi::load("libm.so.6"); }),
              AllOf(HasSubstr("has no cuInit"), HasSubstr("expected a driver for CUDA")));
  driver_->n_devices = 0;
  EXPECT_THAT(
      error_of([] { open(); }),
      AllOf(HasSubstr("cuInit"), HasSubstr("CUDA_ERROR_NO_DEVICE"), HasSubstr("--device cpu")));
  driver_->reset();
  driver_->n_devices = 2;
  EXPECT_EQ(error_of([] { open(2); }), "no device cuda:2: expected cuda:0 to cuda:1");
  driver_->driver_version = 11080;
  EXPECT_EQ(error_of([] { open(); }),
            "cuda:0: the NVIDIA driver is for CUDA 11.8; expected one for CUDA 12.0 or later");
  driver_->driver_version = 12000;
  driver_->has_memory_pools = false;
  EXPECT_THAT(error_of([] { open(); }), HasSubstr("no memory pools"));
}

TEST_F(CudaDeviceTest, SaysWhyAKernelCannotBeLoaded) {
  const auto device = open();
  EXPECT_EQ(error_of([&] { device->load(Cubin("80 add_one ppiss").image()); }),
            "kernel add_one (add_one.cubin): compiled for another GPU; expected a bundle for "
            "cuda:90");
  EXPECT_THAT(error_of([&] { device->load(Cubin("").image()); }),
              AllOf(HasSubstr("kernel add_one (add_one.cubin)"),
                    HasSubstr("CUDA_ERROR_INVALID_IMAGE"), HasSubstr("CUDA 12.4")));
  EXPECT_THAT(error_of([&] { device->load(Cubin("90 other ppiss").image()); }),
              AllOf(HasSubstr("cuModuleGetFunction"), HasSubstr("CUDA_ERROR_NOT_FOUND")));
  KernelImage image = add_one().image(228 * 1024);
  EXPECT_THAT(error_of([&] { device->load(image); }),
              AllOf(HasSubstr("needs 233472 bytes of shared memory"), HasSubstr("has 232448")));
  image = add_one().image();
  image.n_threads = 2048;
  EXPECT_THAT(error_of([&] { device->load(image); }),
              AllOf(HasSubstr("needs 2048 threads"), HasSubstr("has 1024")));
  image = add_one().image();
  image.global_scratch_bytes = 128;
  EXPECT_THAT(error_of([&] { device->load(image); }), HasSubstr("global scratch"));
  image = add_one().image();
  image.object = image.object.subspan(1);
  EXPECT_THAT(error_of([&] { device->load(image); }), HasSubstr("expected a cubin"));
  image.object = {};
  EXPECT_THAT(error_of([&] { device->load(image); }), HasSubstr("expected a cubin, got 0 bytes"));
  EXPECT_EQ(driver_->leaks().find("modules"), std::string::npos);
}

TEST_F(CudaDeviceTest, SaysHowMuchMemoryWasAskedForAndHowMuchThereIs) {
  driver_->memory_bytes = 1000;
  const auto device = open();
  const Buffer first = device->allocate(600, "weights");
  EXPECT_EQ(error_of([&] { device->allocate(401, "KV cache"); }),
            "out of memory for KV cache: asked for 401 bytes, free 400 of 1000 bytes on cuda:0");
  EXPECT_NO_THROW(device->allocate(400, "KV cache"));
}

TEST_F(CudaDeviceTest, NamesTheKernelWhereItsErrorArrivesLater) {
  driver_->fail_kernel = "add_one";
  const auto device = open();
  const Function* function = device->load(add_one().image());
  const Buffer buffer = device->allocate(8, "both");
  launch_add_one(*device, function, buffer.address(), buffer.address(), 8);
  std::vector<std::byte> back(8);
  const auto expected = AllOf(HasSubstr("CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)"),
                              HasSubstr("in kernel add_one"));
  EXPECT_THAT(error_of([&] { device->download(back, buffer.address()); }),
              AllOf(HasSubstr("cuda:0: cuStreamSynchronize failed"), expected));
  EXPECT_THAT(error_of([&] { device->upload(buffer.address(), back); }), expected);
  EXPECT_THAT(error_of([&] { device->allocate(8, "more"); }), expected);
  EXPECT_THAT(error_of([&] { device->synchronize(); }), expected);
}

TEST_F(CudaDeviceTest, NamesEveryKernelThatMayHaveFailed) {
  driver_->fail_kernel = "second";
  const auto device = open();
  const Buffer buffer = device->allocate(8, "both");
  const auto launch = [&](const char* symbol) {
    const Cubin cubin(std::string("90 ") + symbol + " ppiss");
    KernelImage image = cubin.image();
    image.symbol = symbol;
    launch_add_one(*device, device->load(image), buffer.address(), buffer.address(), 8);
  };
  launch("before");
  device->synchronize();
  const auto event = device->make_event();
  launch("waited_for");
  device->record(*event);
  device->wait(*event);
  for (const char* symbol : {"first", "second", "first", "third"}) launch(symbol);
  EXPECT_THAT(error_of([&] { device->synchronize(); }),
              AllOf(HasSubstr("in one of the kernels first, second, third; "),
                    HasSubstr("NEREID_CHECK_LAUNCHES=1")));
}

TEST_F(CudaDeviceTest, FindsTheKernelAtFaultWhereLaunchesAreChecked) {
  driver_->fail_kernel = "add_one";
  ::setenv("NEREID_CHECK_LAUNCHES", "1", 1);
  const auto device = open();
  ::unsetenv("NEREID_CHECK_LAUNCHES");
  const Function* function = device->load(add_one().image());
  const Buffer buffer = device->allocate(8, "both");
  EXPECT_THAT(
      error_of([&] { launch_add_one(*device, function, buffer.address(), buffer.address(), 8); }),
      HasSubstr("in kernel add_one"));
}

TEST_F(CudaDeviceTest, LaunchesAsTheKernelWasCompiledFor) {
  const auto device = open();
  const Buffer buffer = device->allocate(8, "both");
  KernelImage image = add_one().image();
  image.programmatic_launch = true;
  image.cooperative = true;
  image.cluster_size = 16;
  launch_add_one(*device, device->load(image), buffer.address(), buffer.address(), 8, {3, 2, 1});
  device->synchronize();
  ASSERT_EQ(driver_->launches.size(), 1u);
  EXPECT_THAT(driver_->launches[0].grid, ElementsAre(48, 2, 1));
  EXPECT_THAT(driver_->launches[0].attributes,
              ElementsAre(testing::Pair(cuda::kLaunchProgrammatic, 1u),
                          testing::Pair(cuda::kLaunchCooperative, 1u),
                          testing::Pair(cuda::kLaunchCluster, 16u),
                          testing::Pair(cuda::kLaunchClusterPolicy, cuda::kClusterPolicySpread)));
}

TEST_F(CudaDeviceTest, AnOldDriverStartsNoKernelEarly) {
  driver_->driver_version = 12020;
  const auto device = open();
  const Buffer buffer = device->allocate(8, "both");
  KernelImage image = add_one().image();
  image.programmatic_launch = true;
  launch_add_one(*device, device->load(image), buffer.address(), buffer.address(), 8);
  device->synchronize();
  EXPECT_THAT(driver_->launches.at(0).attributes, IsEmpty());
}

TEST_F(CudaDeviceTest, ReplaysWhatItCaptured) {
  const auto device = open();
  ASSERT_TRUE(device->can_capture());
  const Function* function = device->load(add_one().image());
  const Buffer buffer = device->allocate(100, "both");
  const HostBuffer in = device->allocate_host(100, "in");
  const HostBuffer out = device->allocate_host(100, "out");
  const auto set_in = [&](int value) {
    std::fill(in.bytes().begin(), in.bytes().end(), static_cast<std::byte>(value));
  };
  set_in(10);
  const auto work = device->capture([&] {
    device->queue_upload(buffer.address(), in.bytes());
    launch_add_one(*device, function, buffer.address(), buffer.address(), 100, {4, 1, 1});
    launch_add_one(*device, function, buffer.address(), buffer.address(), 50, {2, 1, 1});
    device->queue_download(out.bytes(), buffer.address());
  });
  device->synchronize();
  EXPECT_THAT(driver_->launches, IsEmpty());
  for (const int value : {20, 30}) {
    set_in(value);
    device->replay(*work);
    device->synchronize();
    EXPECT_EQ(out.bytes()[0], static_cast<std::byte>(value + 2));
    EXPECT_EQ(out.bytes()[49], static_cast<std::byte>(value + 2));
    EXPECT_EQ(out.bytes()[50], static_cast<std::byte>(value + 1));
  }
  ASSERT_EQ(driver_->launches.size(), 4u);
  EXPECT_TRUE(driver_->launches[3].is_replayed);
  EXPECT_THAT(driver_->launches[3].grid, ElementsAre(2, 1, 1));
  driver_->fail_kernel = "add_one";
  device->replay(*work);
  EXPECT_THAT(error_of([&] { device->synchronize(); }), HasSubstr("in kernel add_one"));
}

TEST_F(CudaDeviceTest, WorksOnAfterACaptureThatFailed) {
  const auto device = open();
  const Function* function = device->load(add_one().image());
  const Buffer buffer = device->allocate(8, "both");
  const auto launch = [&] {
    launch_add_one(*device, function, buffer.address(), buffer.address(), 8);
  };
  EXPECT_EQ(error_of([&] {
              device->capture([&] {
                launch();
                throw Error("changed its mind");
              });
            }),
            "changed its mind");
  launch();
  device->synchronize();
  EXPECT_EQ(driver_->launches.size(), 1u);
  device->replay(*device->capture(launch));
  device->synchronize();
  EXPECT_EQ(driver_->launches.size(), 2u);
}

TEST_F(CudaDeviceTest, UsesFreedMemoryAgain) {
  driver_->memory_bytes = 1000;
  const auto device = open();
  for (int i = 0; i < 3; ++i) {
    const Buffer buffer = device->allocate(900, "all of it");
    EXPECT_EQ(device->free_bytes(), 100u);
    device->fill_zero(buffer.address(), 900);
  }
  EXPECT_EQ(device->free_bytes(), 1000u);
}

TEST_F(CudaDeviceTest, AdmitsThePeersThatReachIt) {
  driver_->n_devices = 3;
  const auto first = open(0), second = open(1);
  first->admit(second->info());
  first->admit(first->info());  // two ranks on one: no link is needed
  EXPECT_THAT(driver_->admitted, ElementsAre(std::pair(0, 1)));
  second->admit(first->info());
  EXPECT_THAT(driver_->admitted, ElementsAre(std::pair(0, 1), std::pair(1, 0)));
  driver_->has_peer_access = false;
  std::optional<ErrorCode> code;
  EXPECT_THAT(error_of([&] { first->admit(second->info()); }, &code),
              AllOf(HasSubstr("cuda:1 does not reach the memory of cuda:0"),
                    HasSubstr("no peer access"), HasSubstr("use one of them")));
  EXPECT_EQ(code, ErrorCode::device);
  driver_->has_peer_access = true;
  driver_->fail_at = driver_->n_calls + 3;
  driver_->fail_result = 217;
  EXPECT_THAT(
      error_of([&] { first->admit(second->info()); }),
      AllOf(HasSubstr("does not reach the memory"), HasSubstr("cuMemPoolSetAccess failed")));
}

TEST_F(CudaDeviceTest, TellsTheTimeBetweenTwoEvents) {
  const auto device = open();
  const Buffer buffer = device->allocate(8, "zeros");
  const auto begin = device->make_event();
  const auto end = device->make_event();
  device->record(*begin);
  for (int i = 0; i < 3; ++i) device->fill_zero(buffer.address(), 8);
  device->record(*end);
  device->wait(*end);
  EXPECT_EQ(device->ms_between(*begin, *end), 3.0);  // the stand-in's clock counts work
}

// What an engine does with a device, from opening to closing. The number of driver calls made
// before the closing.
int run_session(const cuda::DriverStandIn& driver) {
  CudaDevice device(0, cuda::DriverApi::load(NEREID_CUDA_DRIVER_STAND_IN));
  const Buffer in = device.allocate(kMediumBytes, "in");
  const Buffer out = device.allocate(64, "out");
  static const std::vector<std::byte> zeros(kMediumBytes);
  device.upload(in.address(), zeros);
  device.fill_zero(out.address(), 64);
  const Function* small = device.load(add_one().image());
  const Function* large = device.load(add_one().image(100 * 1024));
  launch_add_one(device, small, out.address(), in.address(), 64);
  launch_add_one(device, large, out.address(), in.address(), 64);
  std::vector<std::byte> back(64);
  device.download(back, out.address());
  EXPECT_EQ(back, std::vector<std::byte>(64, std::byte{1}));
  EXPECT_GT(device.free_bytes(), 0u);
  const HostBuffer host = device.allocate_host(64, "pinned");
  const auto event = device.make_event();
  const auto work = device.capture([&] {
    device.queue_upload(in.address(), host.bytes());
    launch_add_one(device, small, out.address(), in.address(), 64);
    device.queue_download(host.bytes(), out.address());
  });
  std::fill(host.bytes().begin(), host.bytes().end(), std::byte{5});
  device.replay(*work);
  device.record(*event);
  device.wait(*event);
  EXPECT_EQ(host.bytes()[63], std::byte{6});
  EXPECT_GE(device.ms_between(*event, *event), 0.0);
  device.synchronize();
  return driver.n_calls;
}

TEST_F(CudaDeviceTest, EveryFailedCallIsANamedErrorAndLeaksNothing) {
  const int n_before_close = run_session(*driver_);
  const int n_calls = driver_->n_calls;
  ASSERT_GT(n_before_close, 40);
  ASSERT_GT(n_calls, n_before_close + 10);
  for (int n = 1; n <= n_calls; ++n) {
    driver_->reset();
    driver_->fail_at = n;
    std::optional<ErrorCode> code;
    const std::string error = error_of([&] { run_session(*driver_); }, &code);
    SCOPED_TRACE(fmt::format("call {}: {}", n, driver_->failed_call));
    ASSERT_NE(driver_->failed_call, "");
    if (n <= n_before_close) {
      EXPECT_THAT(error, AllOf(HasSubstr(driver_->failed_call),
                               HasSubstr("CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)")));
      EXPECT_EQ(code, ErrorCode::device);
    } else {
      EXPECT_EQ(error, "no error");  // closing has nobody to tell
    }
    EXPECT_EQ(driver_->leaks(), "");
    EXPECT_THAT(driver_->violations, IsEmpty());
  }
}

TEST_F(CudaDeviceTest, WorksOnAfterAFailedCall) {
  const auto device = open();
  const Buffer buffer = device->allocate(64, "first");
  const auto there = sample_bytes(64);
  device->upload(buffer.address(), there);
  // Staging pieces are made one after another, at their first use.
  for (const char* call : {"cuMemcpyHtoDAsync_v2", "cuEventRecord"}) {
    const int n_calls_before = call == std::string("cuEventRecord") ? 5 : 4;
    driver_->fail_at = driver_->n_calls + n_calls_before;
    EXPECT_THAT(error_of([&] { device->upload(buffer.address(), there); }), HasSubstr(call));
    device->upload(buffer.address(), there);
    std::vector<std::byte> back(64);
    device->download(back, buffer.address());
    EXPECT_EQ(there, back);
  }
}

TEST_F(CudaDeviceTest, GivesKernelsTensorMaps) {
  const Cubin cubin("90 tiles tllss");
  const auto device = open();
  auto image = cubin.image();
  image.symbol = "tiles";
  image.args = {ArgType::tensor_map, ArgType::i64, ArgType::i64};
  const auto* function = device->load(image);
  EXPECT_EQ(function->device, device.get());
  const Buffer buffer = device->allocate(1 << 16, "matrix");
  TiledMatrix matrix{buffer.address(), DType::fp16, 2, {100, 64}, {128, 1}, {64, 64}, 128};
  TensorMap map = device->tensor_map(matrix);
  std::int64_t rows = 100;
  std::int64_t stride = 128;
  const std::array<void*, 3> params{&map, &rows, &stride};
  device->launch({function, {1, 1, 1}, params.data()});
  device->synchronize();
  ASSERT_EQ(driver_->launches.size(), 1u);
  EXPECT_EQ(driver_->launches[0].args[0], buffer.address());
  EXPECT_TRUE(driver_->violations.empty());

  // Of 8-bit floats, rows of as many bytes.
  matrix = {buffer.address(), DType::fp8e4nv, 2, {100, 128}, {256, 1}, {64, 128}, 128};
  map = device->tensor_map(matrix);
  EXPECT_EQ(std::to_integer<int>(map.bytes[0]), static_cast<int>(buffer.address() & 0xFF));
  EXPECT_TRUE(driver_->violations.empty());

  // What the hardware cannot read is refused by the driver, by name.
  matrix.strides[0] = 65;
  EXPECT_THAT(error_of([&] { static_cast<void>(device->tensor_map(matrix)); }),
              AllOf(HasSubstr("cuTensorMapEncodeTiled"), HasSubstr("CUDA_ERROR_INVALID_VALUE")));
  EXPECT_EQ(driver_->violations.size(), 1u);
  driver_->violations.clear();
  matrix.element = DType::i1;
  EXPECT_THAT(error_of([&] { static_cast<void>(device->tensor_map(matrix)); }),
              HasSubstr("no tensor map of i1"));
}

}  // namespace
}  // namespace nereid::device
