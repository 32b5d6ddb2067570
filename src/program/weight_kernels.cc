#include "program/weight_kernels.h"

#include <array>
#include <cstring>
#include <span>

#include "base/error.h"
#include "program/launch.h"

namespace nereid::program {

kernel::KernelRequest QuantizeProblem::request(const std::string& target,
                                               const KernelTables& tables) const {
  kernel::Problem problem;
  problem.pointers = {{"q_ptr", format.dtype},
                      {"scale_ptr", format.scale},
                      {"bad_ptr", DType::i32},
                      {"w_ptr", source}};
  problem.sizes = {{"n_in", n_in}, {"w_stride", n_in}};
  problem.constexprs = {{"BITS", format.is_4_bits() ? 4 : 8},
                        {"GROUP", format.n_groups == 1 ? 0 : n_in / format.n_groups}};
  return kernel::make_request(tables.specs.get("quantize_weight"), tables.tuning, target, problem);
}

bool UnpackProblem::is_along_rows() const {
  return packing == model::WeightPacking::awq || is_of_zeros;
}

bool UnpackProblem::has_whole_rows() const {
  return packing == model::WeightPacking::compressed && !is_of_zeros;
}

std::int64_t UnpackProblem::q_row_bytes() const {
  return is_of_zeros ? n_in : model::WeightFormat{.dtype = q}.n_columns(n_in);
}

// [N, K / F] of compressed-tensors, [N / F, G] its zeros; the others' lie the other way round:
// [K / F, N] of GPTQ, [K, N / F] of AWQ, [G, N / F] the zeros of both.
std::int64_t UnpackProblem::row_stride() const {
  if (packing != model::WeightPacking::compressed) return 1;
  return is_of_zeros ? n_stored_in : (n_stored_in + n_fields() - 1) / n_fields();
}

std::int64_t UnpackProblem::column_stride() const {
  if (packing == model::WeightPacking::compressed) return 1;
  return is_along_rows() ? n_stored / n_fields() : n_stored;
}

kernel::KernelRequest UnpackProblem::request(const std::string& target,
                                             const KernelTables& tables) const {
  kernel::Problem problem;
  problem.pointers = {{"q_ptr", q}, {"w_ptr", DType::i32}, {"perm_ptr", DType::i32}};
  // Words of some of the rows may begin anywhere.
  problem.unaligned = {"w_ptr"};
  problem.sizes = {{"n_in", n_in}, {"n_stride", row_stride()}, {"k_stride", column_stride()}};
  problem.constexprs = {{"BITS", q == DType::u8 ? 4 : 8},
                        {"ALONG_N", is_along_rows() ? 1 : 0},
                        {"AWQ", packing == model::WeightPacking::awq ? 1 : 0},
                        {"ZEROS", is_of_zeros ? 1 : 0},
                        {"HAS_PERM", has_order ? 1 : 0}};
  return kernel::make_request(tables.specs.get("unpack_weight"), tables.tuning, target, problem);
}

std::int64_t PackProblem::n_words() const {
  const std::int64_t n_fields = q == DType::u8 ? 8 : 4;
  return (n_in + n_fields - 1) / n_fields;
}

kernel::KernelRequest PackProblem::request(const std::string& target,
                                           const KernelTables& tables) const {
  kernel::Problem problem;
  problem.pointers = {{"words_ptr", DType::i32}, {"q_ptr", q}};
  problem.sizes = {{"n_in", n_in}};
  problem.constexprs = {{"BITS", q == DType::u8 ? 4 : 8}};
  return kernel::make_request(tables.specs.get("pack_weight"), tables.tuning, target, problem);
}

WeightKernels::WeightKernels(device::Device& device, kernel::Bundle& bundle,
                             const KernelTables& tables)
    : device_(device),
      bundle_(bundle),
      tables_(tables),
      bad_(device.allocate(sizeof(std::int32_t), "a counter")) {
  device_.fill_zero(bad_.address(), bad_.size_bytes());
}

const WeightKernels::Loaded& WeightKernels::load(const kernel::KernelRequest& request) {
  auto& [variant, function] = loaded_[request.key()];
  if (variant == nullptr) {
    variant = bundle_.find(request.key());
    NEREID_CHECK(variant != nullptr, "the bundle lacks {}", request.key());
    function = device_.load(bundle_.image(*variant));
  }
  return loaded_[request.key()];
}

void WeightKernels::quantize(const QuantizeProblem& problem, device::Address source,
                             std::int64_t n_rows, device::Address q, device::Address scale) {
  const auto& [variant, function] = load(problem.request(device_.info().target, tables_));
  BoundLaunch launch(*variant, function);
  launch.set_pointer("q_ptr", q);
  launch.set_pointer("scale_ptr", scale);
  launch.set_pointer("bad_ptr", bad_.address());
  launch.set_pointer("w_ptr", source);
  launch.set_int("n_rows", n_rows);
  launch.set_int("n_in", problem.n_in);
  launch.set_int("w_stride", problem.n_in);
  launch.finish();
  launch.run(device_, {});
}

void WeightKernels::unpack(const UnpackProblem& problem, device::Address source,
                           device::Address order, std::int64_t n_rows, device::Address target) {
  const auto& [variant, function] = load(problem.request(device_.info().target, tables_));
  BoundLaunch launch(*variant, function);
  launch.set_pointer("q_ptr", target);
  launch.set_pointer("w_ptr", source);
  launch.set_pointer("perm_ptr", order);
  launch.set_int("n_rows", n_rows);
  launch.set_int("n_in", problem.n_in);
  launch.set_int("n_stride", problem.row_stride());
  launch.set_int("k_stride", problem.column_stride());
  launch.set_int("zero_add", problem.zero_add);
  launch.finish();
  launch.run(device_, {});
}

void WeightKernels::pack(const PackProblem& problem, device::Address q, std::int64_t n_rows,
                         device::Address words) {
  const auto& [variant, function] = load(problem.request(device_.info().target, tables_));
  BoundLaunch launch(*variant, function);
  launch.set_pointer("words_ptr", words);
  launch.set_pointer("q_ptr", q);
  launch.set_int("n_rows", n_rows);
  launch.set_int("n_in", problem.n_in);
  launch.finish();
  launch.run(device_, {});
}

void WeightKernels::refuse_bad(const std::string& tensor) {
  std::int32_t n_bad = 0;
  device_.download(std::as_writable_bytes(std::span(&n_bad, 1)), bad_.address());
  if (n_bad == 0) return;
  device_.fill_zero(bad_.address(), bad_.size_bytes());
  throw Error(
      "{}: NaN, infinite or too large numbers in {} of its groups of columns: expected weights to "
      "quantise; the file is damaged, or its type is not what it says",
      tensor, n_bad);
}

}  // namespace nereid::program
