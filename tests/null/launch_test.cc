#include "kernel/launch.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>

#include "device/null/null_device.h"

namespace nereid::kernel {
namespace {

using device::ArgType;

Variant sample_variant() {
  Variant variant;
  variant.symbol = "sample";
  variant.request.args = {{"out_ptr", "*fp32:16"}, {"n_rows", "i32"}, {"n_cols", "i32:16"},
                          {"stride", "i64"},       {"eps", "fp32"},   {"scale", "fp16"},
                          {"bias", "bf16"}};
  variant.args = {{"out_ptr", ArgType::pointer}, {"n_rows", ArgType::i32}, {"n_cols", ArgType::i32},
                  {"stride", ArgType::i64},      {"eps", ArgType::fp32},   {"scale", ArgType::fp16},
                  {"bias", ArgType::bf16}};
  variant.grid = {Expression::parse("cdiv(n_rows, 4)", "test"),
                  Expression::parse("n_cols // 16", "test"), Expression::constant(1)};
  return variant;
}

class LaunchTest : public testing::Test {
 protected:
  LaunchTest() : launch_(make()) {}

  LaunchTemplate make() {
    const Variant variant = sample_variant();
    device::KernelImage image;
    image.symbol = variant.symbol;
    for (const auto& arg : variant.args) image.args.push_back(arg.type);
    return {variant, device_.load(image)};
  }
  void set_all_but_rows() {
    launch_.set_pointer(launch_.arg("out_ptr"), 4096);
    launch_.set_int(launch_.arg("n_cols"), SizeValue::of(64));
    launch_.set_int(launch_.arg("stride"), SizeValue::symbol_times(1, 1000000000));
    launch_.set_float(launch_.arg("eps"), 1e-5);
    launch_.set_float(launch_.arg("scale"), 0.5);
    launch_.set_float(launch_.arg("bias"), -2.0);
  }
  const device::NullEvent& run() {
    device_.launch(launch_.launch());
    return device_.log().back();
  }

  device::NullDevice device_;
  LaunchTemplate launch_;
};

TEST_F(LaunchTest, PatchesSizesAndGrid) {
  set_all_but_rows();
  launch_.set_int(launch_.arg("n_rows"), SizeValue::symbol_times(0));
  launch_.finish();
  LaunchTemplate moved = std::move(launch_);
  launch_ = std::move(moved);
  for (const std::int64_t n_rows : {9, 1, 4000}) {
    const std::array<std::int64_t, 2> symbols{n_rows, 7};
    launch_.update(symbols);
    const auto& event = run();
    EXPECT_EQ(event.args[0], 4096);
    EXPECT_EQ(event.args[1], n_rows);
    EXPECT_EQ(event.args[2], 64);
    EXPECT_EQ(event.args[3], 7000000000);
    EXPECT_EQ(std::bit_cast<double>(event.args[4]), double{1e-5f});
    EXPECT_EQ(event.args[5], 0x3800);
    EXPECT_EQ(event.args[6], 0xc000);
    EXPECT_EQ(event.grid.x, static_cast<std::uint32_t>((n_rows + 3) / 4));
    EXPECT_EQ(event.grid.y, 4u);
    EXPECT_EQ(event.grid.z, 1u);
  }
  launch_.update(std::array<std::int64_t, 2>{0, 0});
  EXPECT_TRUE(launch_.is_empty());
  launch_.set_pointer(0, 8192);
  EXPECT_EQ(run().args[0], 8192);
}

TEST_F(LaunchTest, ConstantGridNeedsNoUpdate) {
  set_all_but_rows();
  launch_.set_int(launch_.arg("n_rows"), SizeValue::of(8));
  launch_.finish();
  EXPECT_EQ(launch_.grid().x, 2u);
  EXPECT_EQ(launch_.arg("absent"), -1);
}

using LaunchDeathTest = LaunchTest;

TEST_F(LaunchDeathTest, MistakesOfThePlannerAbort) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(launch_.set_pointer(0, 8), "compiled for multiples of 16");
  EXPECT_DEATH(launch_.set_int(0, SizeValue::of(1)), "out_ptr is no integer");
  EXPECT_DEATH(launch_.set_int(2, SizeValue::of(17)), "n_cols = 17, compiled for multiples of 16");
  EXPECT_DEATH(launch_.set_int(2, SizeValue::symbol_times(0)), "compiled for multiples of 16");
  EXPECT_DEATH(launch_.set_int(1, SizeValue::of(std::int64_t{1} << 31)), "does not fit i32");
  set_all_but_rows();
  EXPECT_DEATH(launch_.finish(), "n_rows is not set");
}

// x[n_rows, 100] by tiles: what follows from the other arguments, and only when that changes.
TEST(LaunchTensorMapTest, FollowsTheOtherArguments) {
  Variant variant;
  variant.symbol = "tiles";
  variant.request.args = {{"x_ptr", "*fp16:16"}, {"n_rows", "i32"}, {"x_stride", "i64:16"}};
  variant.args = {{"x_ptr", ArgType::tensor_map},  {"x_ptr.shape0", ArgType::i32},
                  {"x_ptr.shape1", ArgType::i32},  {"x_ptr.stride0", ArgType::i64},
                  {"x_ptr.stride1", ArgType::i64}, {"n_rows", ArgType::i32},
                  {"x_stride", ArgType::i64}};
  variant.grid = {Expression::parse("cdiv(n_rows, 64)", "test"), Expression::constant(1),
                  Expression::constant(1)};
  variant.tensor_maps = {{0,
                          DType::fp16,
                          128,
                          {64, 64},
                          {Expression::parse("n_rows", "test"), Expression::constant(100)},
                          {Expression::parse("x_stride", "test"), Expression::constant(1)}}};
  device::NullDevice device;
  device::KernelImage image;
  for (const auto& arg : variant.args) image.args.push_back(arg.type);
  LaunchTemplate launch(variant, device.load(image));
  launch.set_pointer(launch.arg("x_ptr"), 4096);
  launch.set_int(launch.arg("n_rows"), SizeValue::symbol_times(0));
  launch.set_int(launch.arg("x_stride"), SizeValue::of(112));
  launch.finish();
  LaunchTemplate moved = std::move(launch);

  const auto run = [&](std::int64_t n_rows) {
    moved.update(std::array<std::int64_t, 1>{n_rows});
    device.launch(moved.launch());
    return device.log().back().args;
  };
  const auto shape_of_map = [&] {
    std::array<std::int64_t, 3> head{};  // the null device's maps begin so
    std::memcpy(head.data(), moved.launch().params[0], sizeof(head));
    return head;
  };
  for (const std::int64_t n_rows : {7, 7, 900, 1}) {
    EXPECT_EQ(run(n_rows), (std::vector<std::int64_t>{4096, n_rows, 100, 112, 1, n_rows, 112}));
    EXPECT_EQ(shape_of_map(), (std::array<std::int64_t, 3>{4096, n_rows, 100}));
  }
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(moved.launch().params[0]) % 64, 0u);
  moved.set_pointer(0, 8192);
  EXPECT_EQ(shape_of_map(), (std::array<std::int64_t, 3>{8192, 1, 100}));
  // No map can be made of no rows, and nothing is launched.
  moved.update(std::array<std::int64_t, 1>{0});
  EXPECT_TRUE(moved.is_empty());
  EXPECT_EQ(run(3)[1], 3);
  EXPECT_EQ(shape_of_map(), (std::array<std::int64_t, 3>{8192, 3, 100}));
}

}  // namespace
}  // namespace nereid::kernel
