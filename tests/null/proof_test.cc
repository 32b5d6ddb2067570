// The proof accepts what a bundle's manifest names and nothing else; the recording device sees the
// bytes and launches that reach the device behind it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/hash.h"
#include "base/mapped_file.h"
#include "device/null/null_device.h"
#include "measure/proof.h"
#include "measure/timing.h"

namespace nereid::measure {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* kQuietMaps =
    "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libc.so.6\n"
    "7f01-7f02 rw-p 00000000 00:00 0 \n"
    "7f02-7f03 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libcuda.so.1\n";

// A bundle of two variants of one kernel, made of texts.
class ProofTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        fs::canonical(fs::temp_directory_path()) / ("nereid-proof-" + std::to_string(::getpid()));
    fs::create_directories(dir_ / "objects");
    auto variants = nlohmann::json::array();
    for (const int block : {64, 128}) {
      const auto text = "object of block " + std::to_string(block);
      const auto hash = sha256_hex(text);
      const auto path = "objects/" + hash + ".cubin";
      write_text_file(dir_ / path, text);
      hashes_.push_back(hash);
      const nlohmann::json key{{"args", {{"x_ptr", "*fp16:16"}}},
                               {"constexprs", {{"BLOCK", block}}},
                               {"kernel", "copy"},
                               {"num_stages", 1},
                               {"num_warps", 4},
                               {"options", nlohmann::json::object()}};
      variants.push_back(
          {{"key", key.dump()},
           {"kernel", "copy"},
           {"symbol", "copy"},
           {"object", path},
           {"object_sha256", hash},
           {"source_sha256", std::string(64, 'a')},
           {"args", nlohmann::json::array({nlohmann::json::array({"x_ptr", "pointer"})})},
           {"grid", {"1", "1", "1"}},
           {"num_warps", 4},
           {"n_threads", 128},
           {"shared_bytes", 0},
           {"arena_bytes", 0},
           {"global_scratch_bytes", 0},
           {"registers", nullptr},
           {"spills", nullptr}});
    }
    const nlohmann::json manifest{{"schema", 2},
                                  {"target", "cuda:90"},
                                  {"triton", "3.9.0"},
                                  {"compiler", "test"},
                                  {"variants", variants}};
    write_text_file(dir_ / "manifest.json", manifest.dump());
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string object_path(int variant) const {
    return (dir_ / "objects" / (hashes_[std::size_t(variant)] + ".cubin")).string();
  }

  // Launches what lies in the file, through a device that remembers it.
  void launch(RecordingDevice& device, const std::string& path, const std::string& symbol) {
    const auto text = read_text_file(path);
    device::KernelImage image;
    image.symbol = symbol;
    image.object_path = path;
    image.object = std::as_bytes(std::span(text));
    device.launch({device.load(image), {2, 1, 1}, nullptr});
  }

  static RecordingDevice make_device() {
    return RecordingDevice(std::make_unique<device::NullDevice>("cuda:90"));
  }

  fs::path dir_;
  std::vector<std::string> hashes_;
};

TEST_F(ProofTest, AcceptsObjectsOfTheManifest) {
  auto device = make_device();
  launch(device, object_path(0), "copy");
  launch(device, object_path(1), "copy");
  const auto proof = prove(device.objects(), kQuietMaps);
  EXPECT_EQ(proof.n_functions, 2U);
  EXPECT_EQ(proof.n_launches, 2U);
  EXPECT_EQ(proof.n_mapped_files, 2U);
  EXPECT_THAT(proof.bundles, testing::ElementsAre(dir_.string()));
}

TEST_F(ProofTest, RejectsAnObjectReplacedByForeignBytes) {
  auto device = make_device();
  write_text_file(object_path(0), "other code");
  launch(device, object_path(0), "copy");
  EXPECT_THAT([&] { prove(device.objects(), kQuietMaps); },
              ThrowsMessage<std::runtime_error>(HasSubstr(hashes_[0])));
}

TEST_F(ProofTest, RejectsAKernelThatTheManifestDoesNotName) {
  auto device = make_device();
  launch(device, object_path(0), "cublas_like_gemm");
  EXPECT_THAT([&] { prove(device.objects(), kQuietMaps); },
              ThrowsMessage<std::runtime_error>(HasSubstr("cublas_like_gemm")));
}

TEST_F(ProofTest, IgnoresWhatWasLoadedAndNeverLaunched) {
  auto device = make_device();
  launch(device, object_path(0), "copy");
  std::vector<LoadedObject> objects = device.objects();
  objects.push_back({"never", object_path(1), std::string(64, '0'), 0});
  EXPECT_EQ(prove(objects, kQuietMaps).n_functions, 1U);
}

TEST_F(ProofTest, RejectsARunOfNothing) {
  const auto device = make_device();
  EXPECT_THAT([&] { prove(device.objects(), kQuietMaps); },
              ThrowsMessage<std::runtime_error>(HasSubstr("nothing was launched")));
}

TEST_F(ProofTest, RejectsAVendorsLibrary) {
  auto device = make_device();
  launch(device, object_path(0), "copy");
  for (const std::string name : {"libcublasLt.so.13", "libcudnn_engines.so.9", "libcudart.so.13",
                                 "libtorch_cpu.so", "libmkl_core.so.2", "libopenblasp-r0.3.so",
                                 "libdnnl.so.3", "librocblas.so.4", "libnvrtc.so.13"}) {
    const auto maps = std::string(kQuietMaps) + "7f-80 r-xp 0 08:01 9 /opt/x/" + name + "\n";
    EXPECT_THAT([&] { prove(device.objects(), maps); },
                ThrowsMessage<std::runtime_error>(HasSubstr(name)));
  }
}

TEST_F(ProofTest, RejectsAMappedObjectThatIsNotInTheManifest) {
  auto device = make_device();
  launch(device, object_path(0), "copy");
  const auto path = (dir_ / "objects" / "foreign.so").string();
  write_text_file(path, "foreign");
  const auto maps = std::string(kQuietMaps) + "7f-80 r-xp 0 08:01 9 " + path;
  EXPECT_THAT([&] { prove(device.objects(), maps); },
              ThrowsMessage<std::runtime_error>(HasSubstr("foreign.so")));
  EXPECT_THAT([&] { prove(device.objects(), maps + " (deleted)\n"); },
              ThrowsMessage<std::runtime_error>(HasSubstr("replaced")));
}

TEST(VendorLibrary, LeavesSystemAndDriverAlone) {
  for (const auto* path :
       {"/usr/lib/libstdc++.so.6", "/lib/libcuda.so.580.1", "/opt/cublas/notes",
        "/usr/lib/libnvidia-ptxjitcompiler.so.1", "/x/nereid", "/usr/lib/libm.so.6"})
    EXPECT_EQ(vendor_library(path), "") << path;
}

TEST_F(ProofTest, RecordingDeviceCountsMemoryAndLaunches) {
  auto device = make_device();
  {
    const auto first = device.allocate(1000, "first");
    EXPECT_EQ(device.memory_count().allocated_bytes, 1000U);
    const auto second = device.allocate(500, "second");
    EXPECT_EQ(device.memory_count().allocated_bytes, 1500U);
  }
  EXPECT_EQ(device.memory_count().allocated_bytes, 0U);
  device.start_trace();
  launch(device, object_path(0), "copy");
  launch(device, object_path(1), "copy");
  const auto trace = device.end_trace();
  ASSERT_EQ(trace.size(), 2U);
  EXPECT_EQ(device.objects()[trace[1].object].sha256, hashes_[1]);
  EXPECT_EQ(trace[0].grid.x, 2U);
  EXPECT_LE(trace[0].begin_us + trace[0].time_us, trace[1].begin_us);
  EXPECT_EQ(device.n_launches(), 2U);
}

TEST(Timing, TakesAsManySamplesAsAsked) {
  device::NullDevice device;
  int n_queued = 0;
  const auto samples = time_launches(device, [&] { ++n_queued; },
                                     {.n_repeats = 3, .target_ms = 0.01, .max_queued = 8});
  EXPECT_EQ(samples.size(), 3U);
  EXPECT_GE(n_queued, 3);
  for (const double sample : samples) EXPECT_GE(sample, 0);
}

}  // namespace
}  // namespace nereid::measure
