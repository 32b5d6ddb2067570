#include "measure/limits.h"

#include <algorithm>
#include <random>

#include "base/error.h"
#include "measure/timing.h"
#include "program/launch.h"
#include "program/lower.h"
#include "program/settings.h"

namespace nereid::measure {

namespace {

constexpr std::size_t kMaxStreamBytes = std::size_t{4} << 30;
// Reading again what lies in a core's own cache would measure that and not memory.
constexpr std::size_t kMinStreamBytes = std::size_t{16} << 20;
constexpr std::int64_t kDotRounds = 256;
constexpr int kProgramsPerUnit = 4;  // enough to hide what each waits for
constexpr int kRepeats = 7;
constexpr double kLimitRunMs = 20;  // of one timing: long against a clock's and a launch's cost

kernel::KernelRequest stream_request(const std::string& target,
                                     const program::KernelTables& tables) {
  kernel::Problem problem;
  problem.pointers = {{"out_ptr", DType::fp32}, {"x_ptr", DType::fp32}};
  return kernel::make_request(tables.specs.get("stream_read"), tables.tuning, target, problem);
}

kernel::KernelRequest dot_request(DType dtype, const std::string& target,
                                  const program::KernelTables& tables) {
  kernel::Problem problem;
  problem.pointers = {{"out_ptr", DType::fp32}, {"a_ptr", dtype}, {"b_ptr", dtype}};
  return kernel::make_request(tables.specs.get("dot_peak"), tables.tuning, target, problem);
}

program::BoundLaunch load(device::Device& device, kernel::Bundle& bundle,
                          const kernel::KernelRequest& request) {
  const auto* variant = bundle.find(request.key());
  NEREID_CHECK(variant != nullptr, "{} lacks {}", bundle.dir().string(), request.kernel);
  return {*variant, device.load(bundle.image(*variant))};
}

// Numbers of both signs and like size, as bits: a product of zeros takes less power than real work.
std::vector<std::byte> operand_bytes(std::int64_t n_elements, DType dtype) {
  struct Bits {
    std::uint32_t keep, set;
  };
  const Bits bits = dtype == DType::fp16   ? Bits{0x83ff, 0x2c00}
                    : dtype == DType::bf16 ? Bits{0x807f, 0x3d80}
                                           : Bits{0x807fffff, 0x3d800000};
  const auto size = dtype_size_bytes(dtype);
  std::mt19937 random(1);
  std::vector<std::byte> bytes(static_cast<std::size_t>(n_elements) * size);
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    const std::uint32_t value = (static_cast<std::uint32_t>(random()) & bits.keep) | bits.set;
    for (std::size_t i = 0; i < size; ++i)
      bytes[at + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
  }
  return bytes;
}

// The shortest time of one launch.
double best_seconds(device::Device& device, program::BoundLaunch& launch) {
  const auto times = time_launches(device, [&] { launch.run(device, {}); },
                                   {.n_repeats = kRepeats, .target_ms = kLimitRunMs});
  return *std::min_element(times.begin(), times.end());
}

double measure_stream(device::Device& device, kernel::Bundle& bundle,
                      const program::KernelTables& tables, std::size_t bytes) {
  const auto request = stream_request(device.info().target, tables);
  auto launch = load(device, bundle, request);
  const auto chunk_bytes = static_cast<std::size_t>(request.constexprs.at("CHUNK")) * sizeof(float);
  const auto n_chunks = bytes / chunk_bytes;
  const auto x = device.allocate(n_chunks * chunk_bytes, "the array whose reading is timed");
  device.prefer_large_pages(x);
  const auto out = device.allocate(n_chunks * sizeof(float), "its sums");
  device.fill_zero(x.address(), x.size_bytes());
  launch.set_pointer("x_ptr", x.address());
  launch.set_pointer("out_ptr", out.address());
  launch.set_int("n_chunks", static_cast<std::int64_t>(n_chunks));
  launch.finish();
  return static_cast<double>(x.size_bytes()) / best_seconds(device, launch);
}

double measure_dot(device::Device& device, kernel::Bundle& bundle,
                   const program::KernelTables& tables, DType dtype) {
  const auto request = dot_request(dtype, device.info().target, tables);
  auto launch = load(device, bundle, request);
  const auto m = request.constexprs.at("BLOCK_M");
  const auto n = request.constexprs.at("BLOCK_N");
  const auto k = request.constexprs.at("BLOCK_K");
  const std::int64_t n_programs = std::int64_t{device.info().n_units} * kProgramsPerUnit;
  const auto a_bytes = operand_bytes(m * k, dtype);
  const auto b_bytes = operand_bytes(n * k, dtype);
  const auto a = device.allocate(a_bytes.size(), "an operand");
  const auto b = device.allocate(b_bytes.size(), "an operand");
  const auto out =
      device.allocate(static_cast<std::size_t>(n_programs * m * n) * sizeof(float), "the products");
  device.upload(a.address(), a_bytes);
  device.upload(b.address(), b_bytes);
  launch.set_pointer("a_ptr", a.address());
  launch.set_pointer("b_ptr", b.address());
  launch.set_pointer("out_ptr", out.address());
  launch.set_int("n_programs", n_programs);
  launch.set_int("n_rounds", kDotRounds);
  launch.finish();
  const auto flops = 2.0 * static_cast<double>(n_programs * kDotRounds * m * n * k);
  return flops / best_seconds(device, launch);
}

}  // namespace

Limits of_devices(Limits limits, std::size_t n_devices) {
  limits.stream_bytes_per_s *= static_cast<double>(n_devices);
  limits.dot_flops_per_s *= static_cast<double>(n_devices);
  return limits;
}

std::vector<kernel::KernelRequest> limit_requests(const model::ModelConfig& config,
                                                  const std::string& target) {
  return limit_requests(program::activation_dtype(target, config.dtype), target);
}

std::vector<kernel::KernelRequest> limit_requests(DType dot_dtype, const std::string& target) {
  const auto tables = program::KernelTables::builtin();
  return {stream_request(target, tables), dot_request(dot_dtype, target, tables)};
}

Limits measure_limits(device::Device& device, const model::ModelConfig& config,
                      const Options& options, std::size_t stream_bytes) {
  return measure_limits(device, program::activation_dtype(device.info().target, config.dtype),
                        {.model_dir = options.model_dir,
                         .bundle_dir = options.bundle_dir,
                         .command = fmt::format("nereid compile {}", options.model_dir.string())},
                        stream_bytes);
}

Limits measure_limits(device::Device& device, DType dot_dtype, const kernel::BundleOptions& bundles,
                      std::size_t stream_bytes) {
  const auto tables = program::KernelTables::builtin();
  const auto& target = device.info().target;
  const auto requests = limit_requests(dot_dtype, target);
  auto bundle = kernel::find_bundle(tables.specs, target, device.info().isa, requests, bundles);
  Limits limits;
  limits.stream_bytes =
      std::min({std::max(stream_bytes, kMinStreamBytes), kMaxStreamBytes, device.free_bytes() / 4});
  limits.stream_bytes_per_s = measure_stream(device, bundle, tables, limits.stream_bytes);
  limits.dot_dtype = dot_dtype;
  limits.dot_flops_per_s = measure_dot(device, bundle, tables, limits.dot_dtype);
  return limits;
}

}  // namespace nereid::measure
