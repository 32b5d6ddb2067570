#include "program/logit_comparison.h"

#include <array>
#include <string>

#include "base/error.h"
#include "kernel/bundle_source.h"

namespace nereid::program {

kernel::KernelRequest comparison_request(std::int64_t vocab_size, const std::string& target,
                                         const KernelTables& tables) {
  kernel::Problem problem;
  problem.pointers = {{"kl_ptr", DType::fp32},
                      {"same_ptr", DType::i32},
                      {"p_ptr", DType::fp32},
                      {"q_ptr", DType::fp32}};
  problem.sizes = {{"n_vocab", vocab_size}, {"p_stride", vocab_size}, {"q_stride", vocab_size}};
  return kernel::make_request(tables.specs.get("compare_logits"), tables.tuning, target, problem);
}

LogitComparison::LogitComparison(device::Device& device, std::int64_t vocab_size,
                                 const std::filesystem::path& model_dir,
                                 const std::filesystem::path& bundle_dir)
    : device_(device), vocab_size_(vocab_size) {
  const auto& info = device.info();
  const auto tables = KernelTables::builtin(true, info.target);
  const std::array requests{comparison_request(vocab_size, info.target, tables)};
  bundle_.emplace(
      kernel::find_bundle(tables.specs, info.target, info.isa, requests,
                          {.model_dir = model_dir,
                           .bundle_dir = bundle_dir,
                           .command = fmt::format("nereid compile {}", model_dir.string())}));
  variant_ = bundle_->find(requests[0].key());
  NEREID_CHECK(variant_ != nullptr, "the bundle cannot compare logits");
  function_ = device_.load(bundle_->image(*variant_));
}

void LogitComparison::reserve(std::size_t n_rows) {
  if (n_rows <= n_reserved_rows_) return;
  const auto n_bytes = n_rows * static_cast<std::size_t>(vocab_size_) * sizeof(float);
  p_ = device_.allocate(n_bytes, "logits to compare");
  q_ = device_.allocate(n_bytes, "logits to compare");
  kl_ = device_.allocate(n_rows * sizeof(float), "logits to compare");
  is_same_ = device_.allocate(n_rows * sizeof(std::int32_t), "logits to compare");
  n_reserved_rows_ = n_rows;
}

void LogitComparison::operator()(std::span<const float> p, std::span<const float> q,
                                 std::span<float> kl, std::span<std::int32_t> is_same) {
  const auto n_rows = kl.size();
  NEREID_CHECK(p.size() == q.size() && is_same.size() == n_rows &&
                   p.size() == n_rows * static_cast<std::size_t>(vocab_size_),
               "{} and {} logits for {} rows of {}", p.size(), q.size(), n_rows, vocab_size_);
  if (n_rows == 0) return;
  reserve(n_rows);
  device_.upload(p_.address(), std::as_bytes(p));
  device_.upload(q_.address(), std::as_bytes(q));
  BoundLaunch launch(*variant_, function_);
  launch.set_pointer("kl_ptr", kl_.address());
  launch.set_pointer("same_ptr", is_same_.address());
  launch.set_pointer("p_ptr", p_.address());
  launch.set_pointer("q_ptr", q_.address());
  launch.set_int("n_rows", static_cast<std::int64_t>(n_rows));
  launch.set_int("n_vocab", vocab_size_);
  launch.set_int("p_stride", vocab_size_);
  launch.set_int("q_stride", vocab_size_);
  launch.finish();
  launch.run(device_, {});
  device_.download(std::as_writable_bytes(kl), kl_.address());
  device_.download(std::as_writable_bytes(is_same), is_same_.address());
}

}  // namespace nereid::program
