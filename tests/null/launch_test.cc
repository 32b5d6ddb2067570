#include "kernel/launch.h"

#include <gtest/gtest.h>

#include <bit>

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

}  // namespace
}  // namespace nereid::kernel
