#include "program/launch.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>

#include "device/null/null_device.h"

namespace nereid::program {
namespace {

using device::ArgType;
using kernel::Expression;

kernel::Variant sample_variant() {
  kernel::Variant variant;
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
  LaunchTest() : variant_(sample_variant()), launch_(make()) {}

  BoundLaunch make() {
    device::KernelImage image;
    image.symbol = variant_.symbol;
    for (const auto& arg : variant_.args) image.args.push_back(arg.type);
    return {variant_, device_.load(image)};
  }
  void set_all_but_rows() {
    launch_.set_pointer("out_ptr", 4096);
    launch_.set_int("n_cols", 64);
    launch_.set_int("stride", {graph::Symbol::n_sequences, 1000000000, 0});
    launch_.set_float("eps", 1e-5);
    launch_.set_float("scale", 0.5);
    launch_.set_float("bias", -2.0);
  }
  device::NullDevice device_;
  const kernel::Variant variant_;
  BoundLaunch launch_;
};

TEST_F(LaunchTest, PatchesSizesAndGrid) {
  set_all_but_rows();
  launch_.set_int("n_rows", graph::Symbol::n_tokens);
  launch_.finish();
  BoundLaunch moved = std::move(launch_);
  for (const std::int64_t n_rows : {9, 1, 4000}) {
    ASSERT_TRUE(moved.run(device_, {.n_tokens = n_rows, .n_sequences = 7}));
    const auto& event = device_.log().back();
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
  const auto n_launches = device_.log().size();
  EXPECT_FALSE(moved.run(device_, {.n_tokens = 0, .n_sequences = 0}));
  EXPECT_EQ(device_.log().size(), n_launches);
}

TEST_F(LaunchTest, ConstantGridIsThereAtOnce) {
  set_all_but_rows();
  launch_.set_int("n_rows", 8);
  launch_.finish();
  EXPECT_EQ(launch_.grid().x, 2u);
}

using LaunchDeathTest = LaunchTest;

TEST_F(LaunchDeathTest, MistakesOfThePlannerAbort) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(launch_.set_pointer("out_ptr", 8), "compiled for multiples of 16");
  EXPECT_DEATH(launch_.set_pointer("absent", 16), "sample has no argument absent");
  EXPECT_DEATH(launch_.set_int("out_ptr", 1), "out_ptr is no integer");
  EXPECT_DEATH(launch_.set_int("n_cols", 17), "n_cols = 17, compiled for multiples of 16");
  EXPECT_DEATH(launch_.set_int("n_cols", graph::Symbol::n_tokens), "compiled for multiples of 16");
  EXPECT_DEATH(launch_.set_int("n_rows", std::int64_t{1} << 31), "does not fit i32");
  set_all_but_rows();
  EXPECT_DEATH(launch_.finish(), "n_rows is not set");
}

// x[n_rows, 100] by tiles: what follows from the other arguments, and only when that changes.
TEST(LaunchTensorMapTest, FollowsTheOtherArguments) {
  kernel::Variant variant;
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
  BoundLaunch launch(variant, device.load(image));
  launch.set_pointer("x_ptr", 4096);
  launch.set_int("n_rows", graph::Symbol::n_tokens);
  launch.set_int("x_stride", 112);
  launch.finish();
  BoundLaunch moved = std::move(launch);

  const auto run = [&](std::int64_t n_rows) {
    EXPECT_TRUE(moved.run(device, {.n_tokens = n_rows}));
    return device.log().back();
  };
  const auto shape_of_map = [&](const device::NullEvent& event) {
    std::array<std::int64_t, 3> head{};  // the null device's maps begin so
    std::memcpy(head.data(), event.maps[0].bytes.data(), sizeof(head));
    return head;
  };
  for (const std::int64_t n_rows : {7, 7, 900, 1}) {
    const auto event = run(n_rows);
    EXPECT_EQ(event.args, (std::vector<std::int64_t>{4096, n_rows, 100, 112, 1, n_rows, 112}));
    EXPECT_EQ(shape_of_map(event), (std::array<std::int64_t, 3>{4096, n_rows, 100}));
  }
  // No map can be made of no rows, and nothing is launched.
  EXPECT_FALSE(moved.run(device, {.n_tokens = 0}));
  EXPECT_EQ(shape_of_map(run(3)), (std::array<std::int64_t, 3>{4096, 3, 100}));
}

}  // namespace
}  // namespace nereid::program
