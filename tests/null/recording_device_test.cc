// The recording device before a device that notes what it is asked: every call goes on to it.
#include "measure/recording_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace nereid::measure {
namespace {

using device::Address;
using ::testing::_;
using ::testing::Return;
using ::testing::ReturnRef;

class MockDevice : public device::Device {
 public:
  MOCK_METHOD(const device::DeviceInfo&, info, (), (const, override));
  MOCK_METHOD(device::Buffer, allocate, (std::size_t, const std::string&), (override));
  MOCK_METHOD(std::size_t, free_bytes, (), (const, override));
  MOCK_METHOD(device::MemoryCount, memory_count, (), (const, override));
  MOCK_METHOD(void, prefer_large_pages, (const device::Buffer&), (override));
  MOCK_METHOD(void, upload, (Address, std::span<const std::byte>), (override));
  MOCK_METHOD(void, download, (std::span<std::byte>, Address), (override));
  MOCK_METHOD(void, fill_zero, (Address, std::size_t), (override));
  MOCK_METHOD(void, launch, (const device::Launch&), (override));
  MOCK_METHOD(void, synchronize, (), (override));
  MOCK_METHOD(device::HostBuffer, allocate_host, (std::size_t, const std::string&), (override));
  MOCK_METHOD(void, queue_upload, (Address, std::span<const std::byte>), (override));
  MOCK_METHOD(void, queue_download, (std::span<std::byte>, Address), (override));
  MOCK_METHOD(std::unique_ptr<device::Event>, make_event, (), (override));
  MOCK_METHOD(void, record, (device::Event&), (override));
  MOCK_METHOD(void, wait, (const device::Event&), (override));
  MOCK_METHOD(double, ms_between, (const device::Event&, const device::Event&), (override));
  MOCK_METHOD(bool, can_capture, (), (const, override));
  MOCK_METHOD(std::unique_ptr<device::CapturedWork>, capture, (const std::function<void()>&),
              (override));
  MOCK_METHOD(void, replay, (const device::CapturedWork&), (override));
  MOCK_METHOD(bool, reads_host_memory, (), (const, override));
  MOCK_METHOD(const device::Function*, load, (const device::KernelImage&), (override));
  MOCK_METHOD(device::TensorMap, tensor_map, (const device::TiledMatrix&), (const, override));
  MOCK_METHOD(void, admit, (const device::DeviceInfo&), (override));
  MOCK_METHOD(void, release, (Address, std::size_t), (noexcept, override));
  MOCK_METHOD(void, release_host, (std::span<std::byte>), (noexcept, override));
};

struct SampleFunction : device::Function {};

constexpr Address kAddress = 0x4000;
constexpr std::size_t kBytes = 64;

class Recording : public ::testing::Test {
 protected:
  std::unique_ptr<MockDevice> owned_ = std::make_unique<MockDevice>();
  MockDevice& inner_ = *owned_;
  RecordingDevice recording_{std::move(owned_)};
};

TEST_F(Recording, MemoryIsTheInnerDevicesOwn) {
  EXPECT_CALL(inner_, allocate(kBytes, "weights")).WillOnce([this](std::size_t n, const auto&) {
    return device::Buffer(&inner_, kAddress, n);
  });
  EXPECT_CALL(inner_, release(kAddress, kBytes));
  {
    const auto buffer = recording_.allocate(kBytes, "weights");
    EXPECT_EQ(buffer.address(), kAddress);
    EXPECT_CALL(inner_, prefer_large_pages(_)).WillOnce([](const device::Buffer& given) {
      EXPECT_EQ(given.address(), kAddress);
      EXPECT_EQ(given.size_bytes(), kBytes);
    });
    recording_.prefer_large_pages(buffer);
  }
}

TEST_F(Recording, HostMemoryGoesBackToTheInnerDevice) {
  std::array<std::byte, kBytes> bytes{};
  EXPECT_CALL(inner_, allocate_host(kBytes, "ids")).WillOnce([&](std::size_t, const auto&) {
    return device::HostBuffer(&inner_, bytes);
  });
  EXPECT_CALL(inner_, release_host(_));
  const auto buffer = recording_.allocate_host(kBytes, "ids");
  EXPECT_EQ(buffer.bytes().data(), bytes.data());
}

TEST_F(Recording, OtherCallsGoOn) {
  const device::DeviceInfo info{};
  std::array<std::byte, kBytes> bytes{};
  device::Event event;
  const device::TensorMap map{.bytes = {std::byte{7}}};
  EXPECT_CALL(inner_, info).WillOnce(ReturnRef(info));
  EXPECT_CALL(inner_, free_bytes).WillOnce(Return(123));
  EXPECT_CALL(inner_, upload(kAddress, _));
  EXPECT_CALL(inner_, download(_, kAddress));
  EXPECT_CALL(inner_, fill_zero(kAddress, kBytes));
  EXPECT_CALL(inner_, synchronize);
  EXPECT_CALL(inner_, queue_upload(kAddress, _));
  EXPECT_CALL(inner_, queue_download(_, kAddress));
  EXPECT_CALL(inner_, record(testing::Ref(event)));
  EXPECT_CALL(inner_, wait(testing::Ref(event)));
  EXPECT_CALL(inner_, ms_between(_, _)).WillOnce(Return(1.5));
  EXPECT_CALL(inner_, can_capture).WillOnce(Return(true));
  EXPECT_CALL(inner_, reads_host_memory).WillOnce(Return(true));
  EXPECT_CALL(inner_, tensor_map(_)).WillOnce(Return(map));
  EXPECT_CALL(inner_, admit(testing::Ref(info)));
  EXPECT_EQ(&recording_.info(), &info);
  EXPECT_EQ(recording_.free_bytes(), 123u);
  recording_.admit(info);
  recording_.upload(kAddress, bytes);
  recording_.download(bytes, kAddress);
  recording_.fill_zero(kAddress, kBytes);
  recording_.synchronize();
  recording_.queue_upload(kAddress, bytes);
  recording_.queue_download(bytes, kAddress);
  recording_.record(event);
  recording_.wait(event);
  EXPECT_EQ(recording_.ms_between(event, event), 1.5);
  EXPECT_TRUE(recording_.can_capture());
  EXPECT_TRUE(recording_.reads_host_memory());
  EXPECT_EQ(recording_.tensor_map({}).bytes, map.bytes);
}

TEST_F(Recording, LaunchesAreCountedAlsoThoseOfReplays) {
  const SampleFunction function;
  EXPECT_CALL(inner_, load).WillOnce(Return(&function));
  EXPECT_CALL(inner_, launch(_)).Times(2).WillRepeatedly([&](const device::Launch& launch) {
    EXPECT_EQ(launch.function, &function);
  });
  EXPECT_CALL(inner_, capture).WillOnce([](const std::function<void()>& work) {
    work();
    return std::make_unique<device::CapturedWork>();
  });
  EXPECT_CALL(inner_, replay(_)).Times(2);
  device::KernelImage image;
  image.symbol = "sample";
  device::Launch launch;
  launch.function = recording_.load(image);
  recording_.launch(launch);
  const auto captured = recording_.capture([&] { recording_.launch(launch); });
  EXPECT_EQ(recording_.n_launches(), 1u);
  recording_.replay(*captured);
  recording_.replay(*captured);
  EXPECT_EQ(recording_.n_launches(), 3u);
  ASSERT_EQ(recording_.objects().size(), 1u);
  EXPECT_EQ(recording_.objects()[0].symbol, "sample");
  EXPECT_EQ(recording_.objects()[0].n_launches, 3u);
}

}  // namespace
}  // namespace nereid::measure
