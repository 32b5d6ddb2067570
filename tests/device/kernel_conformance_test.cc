// Every kernel over its Spec's cases, written ones and some that it draws, on every backend of this
// machine, against its numpy reference: the expected outputs come from `python -m aot.cases`, the
// objects from a bundle, the launch from BoundLaunch, as in the engine.
//
// Where a GPU is and no Python with Triton, both are made elsewhere and named:
//   tools/run_cases.py --target cuda:90 --random 4 --seed 5 --make-only --work DIR
//   NEREID_KERNEL_CASES=DIR kernel_conformance_test
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "device/every_device.h"
#include "device/registry.h"
#include "kernel/bundle_source.h"
#include "kernel/compile_client.h"
#include "kernel/spec.h"
#include "program/launch.h"
#include "tensor/tensor.h"
#include "tensor/widen.h"

namespace nereid::kernel {
namespace {

namespace fs = std::filesystem;

// A test is skipped, and says so, where the machine lacks its backend.
constexpr const char* kDevices[] = {"cpu", "cuda"};
constexpr const char* kGivenCases = "NEREID_KERNEL_CASES";
// Written around every buffer, and checked: a kernel that strays is caught even where the numbers
// are right.
constexpr std::size_t kGuardBytes = 64;
constexpr std::byte kGuard{0xa5};

// What is drawn beside the written cases, as above; `tools/run_cases.py --random` draws more.
constexpr int kDrawnCases = 2;
constexpr int kSeed = 5;  // with heads of over 128 elements and windows among its first

std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }

// Another test process may be writing the same folder.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) {
    fs::create_directories(folder.parent_path());
    fd_ = ::open((folder.string() + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (fd_ < 0 || ::flock(fd_, LOCK_EX) != 0) throw Error("cannot lock {}", folder.string());
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

std::string folder_name(std::string target) {
  std::replace(target.begin(), target.end(), ':', '-');
  return target;
}

// What tools/run_cases.py made for the target; empty where it was not asked to.
fs::path given_folder(const std::string& target) {
  const char* given = std::getenv(kGivenCases);
  return given == nullptr ? fs::path() : fs::path(given) / folder_name(target);
}

// Why kernels for the target can neither be found nor made; empty if they can.
std::string reason_for_none(const std::string& target) {
  if (!given_folder(target).empty()) return {};
  try {
    find_compiler(target);
    return {};
  } catch (const Error& error) {
    return fmt::format("{}; or name kernels made elsewhere with {}", error.what(), kGivenCases);
  }
}

// The folder with the kernel's cases, written anew when the kernel's sources have changed.
fs::path cases_of(const Spec& spec, const std::string& target) {
  if (const auto given = given_folder(target); !given.empty()) return given / "cases";
  const fs::path dir =
      fs::path(NEREID_BINARY_DIR) / "kernel_cases" / folder_name(target) / spec.name;
  const FolderLock lock(dir);
  const fs::path stamp = dir / "made_from";
  const CompilerPaths paths = find_compiler(target);
  // What the cases are made from: the kernel, and what draws and writes them.
  std::string sources = fmt::format("{} {} {}\n", spec.source_sha256, kDrawnCases, kSeed);
  for (const auto* file :
       {"kernels/lib/draws.py", "kernels/lib/numbers.py", "aot/cases.py", "aot/space.py"})
    sources += sha256_hex(read_text_file(paths.aot_dir / file)) + "\n";
  if (fs::exists(stamp) && read_text_file(stamp) == sources) return dir;
  fs::remove_all(dir);
  const std::string command =
      fmt::format("cd {} && {} -m aot.cases --out {} --target {} --kernel {} --random {} --seed {}",
                  quoted(paths.aot_dir), quoted(fs::absolute(paths.python)), quoted(dir), target,
                  spec.name, kDrawnCases, kSeed);
  if (std::system(command.c_str()) != 0) throw Error("failed: {}", command);
  write_text_file(stamp, sources);
  return dir;
}

double element(DType dtype, const std::byte* bytes, std::size_t index) {
  const auto read = [&](auto value) {
    std::memcpy(&value, bytes + index * sizeof(value), sizeof(value));
    return value;
  };
  switch (dtype) {
    case DType::fp32:
      return read(float{});
    case DType::fp16:
      return static_cast<double>(read(_Float16{}));
    case DType::bf16: {
      const std::uint32_t bits = std::uint32_t{read(std::uint16_t{})} << 16;
      float value;
      std::memcpy(&value, &bits, sizeof(value));
      return value;
    }
    case DType::fp8e4nv:
    case DType::fp8e5:
      return widened({dtype, {1}, {bytes + index, 1}}).at(0);
    case DType::i64:
      return static_cast<double>(read(std::int64_t{}));
    case DType::i32:
      return read(std::int32_t{});
    case DType::i16:
      return read(std::int16_t{});
    case DType::i8:
      return read(std::int8_t{});
    case DType::u8:
    case DType::i1:
      return read(std::uint8_t{});
  }
  return NAN;
}

std::string coordinates(const Shape& shape, std::size_t index) {
  Shape result(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    const auto size = static_cast<std::size_t>(std::max<std::int64_t>(1, shape[axis]));
    result[axis] = static_cast<std::int64_t>(index % size);
    index /= size;
  }
  return shape_text(result);
}

struct Argument {
  std::string name;
  std::string role;
  DType dtype = DType::fp32;
  Shape shape;
  std::vector<std::byte> before;  // with guards; empty for a null pointer
  std::vector<std::byte> expected;
  double tolerance = 0;
  double unit = 1;
  device::Buffer buffer;

  std::size_t n_bytes() const { return before.size() - 2 * kGuardBytes; }
};

std::vector<std::byte> read_bytes(const fs::path& path) {
  const MappedFile file(path);
  return {file.bytes().begin(), file.bytes().end()};
}

// A floating number of any size, a whole number, or the names numpy gives what JSON cannot hold.
double number(const Json& value) {
  if (value.is_string()) return std::stod(value.get<std::string>());
  return value.get<double>();
}

// Compares one output, prints the largest errors, and fails with the worst element's place and
// values.
void compare(const std::string& what, const Argument& arg, const std::vector<std::byte>& got) {
  ASSERT_EQ(arg.expected.size(), arg.n_bytes()) << what;
  const std::size_t n = arg.expected.size() / dtype_size_bytes(arg.dtype);
  double worst = 0, max_abs = 0, max_rel = 0;
  std::size_t worst_index = 0, n_bad = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double ref = element(arg.dtype, arg.expected.data(), i);
    const double out = element(arg.dtype, got.data() + kGuardBytes, i);
    if ((std::isnan(ref) && std::isnan(out)) || ref == out) continue;
    const double error = std::abs(out - ref);
    const double relative = error / (arg.unit + std::abs(ref));
    // Not "relative <= tolerance": a NaN must count.
    const bool is_bad = !(relative <= arg.tolerance);
    n_bad += is_bad;
    max_abs = std::max(max_abs, std::isnan(error) ? INFINITY : error);
    if (ref != 0) max_rel = std::max(max_rel, error / std::abs(ref));
    const double badness = std::isnan(relative) ? INFINITY : relative;
    if (badness > worst) {
      worst = badness;
      worst_index = i;
    }
  }
  fmt::print("  {}: max abs {:.3g}, max rel {:.3g}\n", what, max_abs, max_rel);
  if (n_bad == 0) return;
  ADD_FAILURE() << fmt::format(
      "{}: {} of {} elements off by more than {} * ({} + |reference|); the worst at {}: got {}, "
      "reference {}",
      what, n_bad, n, arg.tolerance, arg.unit, coordinates(arg.shape, worst_index),
      element(arg.dtype, got.data() + kGuardBytes, worst_index),
      element(arg.dtype, arg.expected.data(), worst_index));
}

// A step whose sizes are those of a case, by a symbol each; what comes after all symbols are taken
// by one of them and what it differs by.
class StepSizes {
 public:
  graph::Dim add(std::int64_t value) {
    constexpr std::array kSymbols{graph::Symbol::n_tokens, graph::Symbol::n_sequences,
                                  graph::Symbol::n_logits, graph::Symbol::max_query_tokens};
    const std::array places{&sizes_.n_tokens, &sizes_.n_sequences, &sizes_.n_logits,
                            &sizes_.max_query_tokens};
    const std::size_t i = n_++ % kSymbols.size();
    if (n_ <= kSymbols.size()) *places[i] = value;
    return {kSymbols[i], 1, value - *places[i]};
  }
  const graph::Sizes& values() const { return sizes_; }

 private:
  graph::Sizes sizes_;
  std::size_t n_ = 0;
};

class Case {
 public:
  Case(fs::path dir, const Spec& spec) : dir_(std::move(dir)), spec_(spec) {
    json_ = read_json_file(dir_ / "case.json");
    const Json request = json_field<Json>(json_, "request", dir_.string());
    request_ = KernelRequest::from_key(request.dump(), dir_.string());
  }

  const KernelRequest& request() const { return request_; }

  void run(device::Device& device, Bundle& bundle) {
    const std::string name = spec_.name + "/" + dir_.filename().string();
    SCOPED_TRACE(description());
    const Variant* variant = bundle.find(request_.key());
    ASSERT_NE(variant, nullptr) << name;
    program::BoundLaunch launch(*variant, device.load(bundle.image(*variant)));
    // Sizes that steps set go the way steps set them.
    StepSizes sizes;
    std::vector<Argument> pointers;
    for (const auto& row : json_.at("args")) {
      const auto arg = row.at("name").get<std::string>();
      const auto type = std::ranges::find(variant->args, arg, &VariantArg::name);
      ASSERT_NE(type, variant->args.end()) << name << ": " << row.dump();
      if (row.at("type") == "pointer") {
        pointers.push_back(load_pointer(row, device));
        const device::Address address = pointers.back().buffer.address();
        launch.set_pointer(arg, address == 0 ? 0 : address + kGuardBytes);
      } else if (type->type >= device::ArgType::fp16) {
        launch.set_float(arg, number(row.at("value")));
      } else {
        const auto value = row.at("value").get<std::int64_t>();
        const Param* param = spec_.find_param(arg);
        ASSERT_NE(param, nullptr) << name;
        launch.set_int(arg, param->is_step ? sizes.add(value) : graph::Dim(value));
      }
    }
    launch.finish();
    launch.run(device, sizes.values());
    const auto grid = json_.at("grid").get<std::array<std::uint32_t, 3>>();
    EXPECT_EQ(launch.grid().x, grid[0]) << name;
    EXPECT_EQ(launch.grid().y, grid[1]) << name;
    EXPECT_EQ(launch.grid().z, grid[2]) << name;
    device.synchronize();
    for (const auto& arg : pointers) check(name, arg, device);
  }

 private:
  Argument load_pointer(const Json& row, device::Device& device) const {
    Argument arg;
    arg.name = row.at("name").get<std::string>();
    arg.role = row.at("role").get<std::string>();
    if (!row.contains("file")) return arg;
    arg.dtype = dtype_from_name(row.at("dtype").get<std::string>()).value();
    arg.shape = row.at("shape").get<Shape>();
    const auto bytes = read_bytes(dir_ / row.at("file").get<std::string>());
    arg.before.assign(bytes.size() + 2 * kGuardBytes, kGuard);
    std::copy(bytes.begin(), bytes.end(), arg.before.begin() + kGuardBytes);
    arg.buffer = device.allocate(arg.before.size(), arg.name);
    device.upload(arg.buffer.address(), arg.before);
    if (row.contains("expected")) {
      arg.expected = read_bytes(dir_ / row.at("expected").get<std::string>());
      arg.tolerance = row.at("tolerance").get<double>();
      arg.unit = row.at("unit").get<double>();
    }
    return arg;
  }

  // Shapes, numbers and constexprs, and how to run it alone.
  std::string description() const {
    std::string text = fmt::format("tools/run_cases.py --kernel {} --case {}:", spec_.name,
                                   dir_.filename().string());
    for (const auto& row : json_.at("args"))
      text += fmt::format(" {}={}", row.at("name").get<std::string>(),
                          row.contains("shape")
                              ? row.at("dtype").get<std::string>() + row.at("shape").dump()
                              : row.at("value").dump());
    return text + " " + json_.at("request").at("constexprs").dump();
  }

  void check(const std::string& name, const Argument& arg, device::Device& device) const {
    if (arg.before.empty()) return;
    const std::string what = name + " " + arg.name;
    std::vector<std::byte> after(arg.before.size());
    device.download(after, arg.buffer.address());
    const auto is_guard = [](std::byte byte) { return byte == kGuard; };
    EXPECT_TRUE(std::all_of(after.begin(), after.begin() + kGuardBytes, is_guard))
        << what << ": written before its beginning";
    EXPECT_TRUE(std::all_of(after.end() - kGuardBytes, after.end(), is_guard))
        << what << ": written past its end";
    if (arg.role == "in") {
      EXPECT_TRUE(after == arg.before) << what << ": an input was written to";
    }
    if (!arg.expected.empty()) compare(what, arg, after);
  }

  fs::path dir_;
  const Spec& spec_;
  Json json_;
  KernelRequest request_;
};

class KernelConformance : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override { device::require_device(std::get<0>(GetParam())); }
};

TEST_P(KernelConformance, MatchesItsReference) {
  const auto& [device_name, kernel] = GetParam();
#ifdef NEREID_TTIR
  ::setenv("NEREID_TTIR", NEREID_TTIR, 0);
#endif
  const SpecTable specs = SpecTable::builtin();
  const Spec& spec = specs.get(kernel);
  const auto device = device::open_device({device_name, 0});
  const std::string& target = device->info().target;
  // A device that is here is tested, or says what is missing.
  if (const auto reason = reason_for_none(target); !reason.empty())
    FAIL() << kernel << " was not run on " << device->info().description << ": " << reason;

  std::vector<Case> cases;
  for (const auto& entry : fs::directory_iterator(cases_of(spec, target) / kernel))
    cases.emplace_back(entry.path(), spec);
  ASSERT_FALSE(cases.empty());
  std::vector<KernelRequest> requests;
  for (const auto& each : cases) requests.push_back(each.request());
  BundleOptions options;
  if (const auto given = given_folder(target); !given.empty())
    options.bundle_dir = given / "bundle";
  Bundle bundle = find_bundle(specs, target, device->info().isa, requests, options);
  for (auto& each : cases) each.run(*device, bundle);
  RecordProperty("cases", static_cast<int>(cases.size()));
}

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  const SpecTable specs = SpecTable::builtin();
  for (const auto& [name, spec] : specs.specs()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(
    Devices, KernelConformance,
    testing::Combine(testing::ValuesIn(std::vector<std::string>(std::begin(kDevices),
                                                                std::end(kDevices))),
                     testing::ValuesIn(kernels())),
    [](const auto& row) { return std::get<0>(row.param) + "_" + std::get<1>(row.param); });

}  // namespace
}  // namespace nereid::kernel
