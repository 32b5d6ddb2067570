#include "device/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/host.h"
#include "device/cpu/isa.h"
#include "device/cuda/cuda_device.h"
#include "device/null/null_device.h"
#include "device/registry.h"

namespace nereid::device {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

template <typename Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

KernelImage sample_image() {
  KernelImage image;
  image.symbol = "sample";
  image.object_path = NEREID_SAMPLE_KERNEL;
  image.args = {ArgType::pointer, ArgType::pointer, ArgType::i32};
  image.arena_bytes = 512;
  return image;
}

TEST(Registry, OpensByNameAndSaysWhatThereIs) {
  EXPECT_EQ(open_device({"auto", 1})->info().name, CudaDevice::is_present() ? "cuda:0" : "cpu");
  EXPECT_EQ(open_device({"null", 0})->info().name, "null");
  for (const char* name : {"cuda", "cuda:0"}) {
    if (CudaDevice::is_present()) break;
    EXPECT_THAT(error_of([&] {
                  open_device({name, 0});
                }),
                AllOf(AnyOf(HasSubstr("no NVIDIA driver: "), HasSubstr("cuInit failed: ")),
                      HasSubstr("use --device cpu")));
  }
  EXPECT_EQ(error_of([] {
              open_device({"cuda:first", 0});
            }),
            "device \"cuda:first\": expected a number after \"cuda:\"");
  EXPECT_THAT(error_of([] {
                open_device({"hip", 0});
              }),
              HasSubstr("not part of this build; available: cuda, cpu, null"));
  EXPECT_THAT(error_of([] {
                open_device({"tpu", 0});
              }),
              HasSubstr("available: auto, cuda, cpu, null"));
  EXPECT_THAT(error_of([] {
                open_device({"cpu:2", 0});
              }),
              HasSubstr("\"cpu:2\" is several devices; expected one here"));
  EXPECT_THAT(error_of([] { open_device({"cpu", -1}); }), HasSubstr("got -1"));
  EXPECT_THAT(error_of([] { open_device({"cpu", 1000000}); }), HasSubstr("got 1000000"));
}

TEST(Registry, OpensSeveralForOneModel) {
  const auto names_of = [](const std::string& name, int n_threads) {
    std::vector<std::string> names;
    for (const auto& device : open_devices({name, n_threads}))
      names.push_back(fmt::format("{} {}", device->info().name, device->info().n_units));
    return names;
  };
  EXPECT_THAT(names_of("cpu", 1), ElementsAre("cpu 1"));
  EXPECT_THAT(names_of("cpu:3", 7), ElementsAre("cpu 2", "cpu 2", "cpu 2"));
  EXPECT_THAT(names_of("cpu:2", 1), ElementsAre("cpu 1", "cpu 1"));
  EXPECT_THAT(names_of("null,cpu,null", 2), ElementsAre("null 1", "cpu 2", "null 1"));
  for (const char* name : {"cpu:0", "cpu:", "cpu:two", "cpu:-1", "cpu:65", "cpu:2 "})
    EXPECT_THAT(error_of([&] {
                  open_devices({name, 1});
                }),
                HasSubstr("expected a number of ranks, 1 to 64, after \"cpu:\""));
  for (const char* name : {"cpu,", ",cpu", "cpu,,cpu"})
    EXPECT_THAT(error_of([&] {
                  open_devices({name, 1});
                }),
                HasSubstr("expected names between the commas"));
  EXPECT_THAT(error_of([] { open_devices({"cpu,tpu", 1}); }), HasSubstr("unknown device \"tpu\""));
}

TEST(CpuDevice, DescribesThisMachine) {
  const CpuDevice device;
  EXPECT_EQ(device.info().n_units, host_cpus().n_usable);
  EXPECT_EQ(device.info().isa, host_isa());
  EXPECT_THAT(device.info().description, AllOf(HasSubstr("thread"), HasSubstr(host_isa())));
  EXPECT_GT(device.info().memory_bytes, std::size_t{1} << 26);
  EXPECT_LE(device.free_bytes(), device.info().memory_bytes);
  EXPECT_TRUE(device.reads_host_memory());
}

TEST(CpuDevice, CopiesAndAligns) {
  CpuDevice device(1);
  for (const std::size_t size : {std::size_t{1}, std::size_t{4097}, std::size_t{3} << 20}) {
    const Buffer buffer = device.allocate(size, "test");
    EXPECT_EQ(buffer.address() % 64, 0u);
    std::vector<std::byte> there(size, std::byte{0x5a}), back(size);
    device.upload(buffer.address(), there);
    device.download(back, buffer.address());
    EXPECT_EQ(there, back);
    device.fill_zero(buffer.address(), size);
    device.download(back, buffer.address());
    EXPECT_EQ(back, std::vector<std::byte>(size));
  }
  const Buffer empty = device.allocate(0, "nothing");
  EXPECT_EQ(empty.size_bytes(), 0u);
}

TEST(CpuDevice, RefusesMoreThanThereIsAndGivesBack) {
  CpuDevice device(1);
  const std::size_t total = device.info().memory_bytes;
  EXPECT_THAT(
      error_of([&] { device.allocate(total * 2, "KV cache"); }),
      AllOf(HasSubstr("KV cache"), HasSubstr(std::to_string(total * 2)), HasSubstr("free")));
  // Untouched pages cost nothing, so what is promised must be counted: two halves and a bit do not
  // fit.
  const std::size_t share = device.free_bytes() / 10 * 6;
  {
    Buffer first = device.allocate(share, "first");
    EXPECT_LE(device.free_bytes(), total - share);
    Buffer moved = std::move(first);
    EXPECT_EQ(first.address(), 0u);
    EXPECT_THAT(error_of([&] { device.allocate(total - share + 1, "second"); }),
                HasSubstr("out of memory for second"));
  }
  EXPECT_NO_THROW(device.allocate(share, "again"));
}

TEST(CpuDevice, RunsEveryProgramOfAGridOnceWithAnArenaOfItsOwn) {
  for (const int n_threads : {1, 2, 5}) {
    CpuDevice device(n_threads);
    const Function* function = device.load(sample_image());
    for (const Grid grid :
         {Grid{1, 1, 1}, Grid{7, 1, 1}, Grid{5, 3, 2}, Grid{257, 4, 1}, Grid{0, 1, 1}}) {
      const std::size_t n = std::size_t{grid.x} * grid.y * grid.z;
      std::vector<std::int64_t> in(n + 1), out(n + 1, -7);
      std::iota(in.begin(), in.end(), 10);
      std::int64_t* out_ptr = out.data();
      const std::int64_t* in_ptr = in.data();
      std::int32_t factor = 3;
      const std::array<void*, 3> params{&out_ptr, &in_ptr, &factor};
      device.launch({function, grid, params.data()});
      for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t x = i % grid.x, y = i / grid.x % grid.y, z = i / grid.x / grid.y;
        ASSERT_EQ(out[i], in[i] * 3 + x + 1000 * y + 1000000 * z) << i;
      }
      EXPECT_EQ(out[n], -7);
    }
  }
}

TEST(CpuDevice, SaysWhyAnObjectCannotBeLoaded) {
  CpuDevice device(1);
  KernelImage image = sample_image();
  image.symbol = "absent";
  EXPECT_THAT(error_of([&] { device.load(image); }), HasSubstr("no symbol \"absent\""));
  image = sample_image();
  image.object_path = "/nowhere/x.so";
  EXPECT_THAT(error_of([&] { device.load(image); }), HasSubstr("/nowhere/x.so"));
  image = sample_image();
  image.isa = "x86-64-v9";
  EXPECT_THAT(error_of([&] { device.load(image); }),
              AllOf(HasSubstr("x86-64-v9"), HasSubstr(host_isa())));
  image = sample_image();
  image.global_scratch_bytes = 8;
  EXPECT_THAT(error_of([&] { device.load(image); }), HasSubstr("global scratch"));
}

TEST(Isa, RunsItsOwnLevelAndBelow) {
  EXPECT_TRUE(isa_runs("x86-64-v4", "x86-64-v3"));
  EXPECT_TRUE(isa_runs("x86-64-v3", "x86-64-v3"));
  EXPECT_FALSE(isa_runs("x86-64-v3", "x86-64-v4"));
  EXPECT_FALSE(isa_runs("aarch64", "x86-64-v3"));

  const auto isa = host_isa();
  ::setenv("NEREID_ISA", isa == "x86-64-v4" ? "x86-64-v3" : isa.c_str(), 1);
  EXPECT_TRUE(isa_runs(isa, host_isa()));
  EXPECT_EQ(host_isa(), std::getenv("NEREID_ISA"));
  ::setenv("NEREID_ISA", "x86-64-v9", 1);
  EXPECT_THAT(error_of([] { host_isa(); }), AllOf(HasSubstr("x86-64-v9"), HasSubstr(isa)));
  ::unsetenv("NEREID_ISA");
}

TEST(NullDevice, RemembersWhatItWasAsked) {
  NullDevice device("cuda:90", 1000, 132);
  EXPECT_EQ(device.info().target, "cuda:90");
  {
    const Buffer buffer = device.allocate(600, "weights");
    EXPECT_EQ(buffer.address() % 64, 0u);
    EXPECT_THAT(error_of([&] { device.allocate(401, "KV cache"); }),
                AllOf(HasSubstr("KV cache"), HasSubstr("401"), HasSubstr("free 400")));
    KernelImage image;
    image.symbol = "sample";
    image.args = {ArgType::pointer, ArgType::i32, ArgType::fp32, ArgType::i8};
    const Function* function = device.load(image);
    Address address = buffer.address();
    std::int32_t n = -5;
    float eps = 0.5f;
    std::int8_t flag = -1;
    const std::array<void*, 4> params{&address, &n, &eps, &flag};
    device.launch({function, {3, 2, 1}, params.data()});
    n = 6;  // the log holds the value of the time
    std::array<std::byte, 4> back{std::byte{9}};
    device.download(back, address);
    EXPECT_EQ(back[0], std::byte{0});
  }
  ASSERT_EQ(device.log().size(), 5u);
  const NullEvent& launch = device.log()[2];
  EXPECT_EQ(launch.operation, NullOperation::launch);
  EXPECT_EQ(launch.name, "sample");
  EXPECT_EQ(launch.grid.y, 2u);
  double eps = 0;
  std::memcpy(&eps, &launch.args[2], sizeof(eps));
  EXPECT_EQ(launch.args[0], static_cast<std::int64_t>(device.log()[0].address));
  EXPECT_EQ(launch.args[1], -5);
  EXPECT_EQ(eps, 0.5);
  EXPECT_EQ(launch.args[3], -1);
  EXPECT_EQ(device.log()[4].operation, NullOperation::release);
  EXPECT_EQ(device.free_bytes(), 1000u);
}

}  // namespace
}  // namespace nereid::device
