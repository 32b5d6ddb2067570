// A decoding step takes no memory, from the public API down to the device: sampling, text and stop
// strings included. Counted on the host, over the whole of operator new.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "base/json.h"
#include "device/every_device.h"
#include "nereid/engine.h"
#include "tokenizer/tokenizer.h"

namespace {
std::atomic<long> n_allocations{0};

void* counted(void* memory) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  return memory;
}
}  // namespace

// None is inlined: gcc would take the malloc() or free() in a caller for a mistake.
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* memory = counted(std::malloc(size))) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto bytes = static_cast<std::size_t>(alignment);
  if (void* memory = counted(std::aligned_alloc(bytes, (size + bytes - 1) / bytes * bytes)))
    return memory;
  throw std::bad_alloc();
}
// std::stable_sort asks like this for its buffer.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(std::malloc(size));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace nereid {
namespace {

const std::filesystem::path kSource = NEREID_SOURCE_DIR;

class Step : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override { device::require_device(std::get<0>(GetParam())); }
};

TEST_P(Step, AllocatesNothing) {
  const auto& [device, mode] = GetParam();
  Engine engine({.model_dir = kSource / "models" / "demo",
                 .device = device,
                 .n_threads = 2,
                 .mode = mode,
                 .max_sequences = 4});
  const Request greedy{.prompt = "def fibonacci(n):", .max_tokens = 400, .ignore_eos = true};
  Request stopping = greedy;
  stopping.stop = {"\n\n\n\n\n\n\n\n\n\n", "<|never|>"};
  Request sampled = greedy;
  sampled.sampling = {.temperature = 0.8F, .top_k = 40, .top_p = 0.95F, .min_p = 0.01F, .seed = 3};
  Request penalised = sampled;
  penalised.sampling.repetition_penalty = 1.1F;
  for (const auto& request : {greedy, stopping, sampled, penalised}) engine.submit(request);

  std::string text;
  text.reserve(1 << 16);
  std::size_t n_tokens = 0;
  const ProgressCallback on_progress = [&](const Progress& progress) {
    n_tokens += progress.ids.size();
    text += progress.text;
  };
  // The prompts, and the first decodes, in which what grows reaches its size.
  constexpr int kWarmSteps = 40;
  for (int i = 0; i < kWarmSteps; ++i) engine.step(on_progress);
  n_tokens = 0;
  text.clear();
  const long before = n_allocations.load();
  // Across the ends of KV blocks too.
  constexpr int kSteps = 150;
  for (int i = 0; i < kSteps; ++i) ASSERT_TRUE(engine.step(on_progress));
  EXPECT_EQ(n_allocations.load() - before, 0);
  EXPECT_EQ(n_tokens, 4U * kSteps);
  EXPECT_GT(text.size(), std::size_t{kSteps});
}

INSTANTIATE_TEST_SUITE_P(Devices, Step,
                         testing::Combine(testing::Values("cpu", "cuda"),
                                          testing::Values("auto", "eager")),
                         [](const auto& param) {
                           return std::get<0>(param.param) + "_" + std::get<1>(param.param);
                         });

// The demo model's tokenizer is of one kind; text is as free of allocations with the others.
TEST(Stream, AllocatesNothing) {
  int n_tokenizers = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(kSource / "tests/golden/tokenizers")) {
    if (file.path().extension() != ".json") continue;
    const Json golden = read_json_file(file.path());
    const auto tokenizer =
        tokenizer::Tokenizer::parse(golden["tokenizer"].dump(), file.path().string());
    std::vector<std::int32_t> ids;
    for (const Json& of_case : golden["cases"])
      for (const auto id : of_case["ids"].get<std::vector<std::int32_t>>()) ids.push_back(id);
    tokenizer::StreamDecoder decoder(tokenizer);
    long before = 0;
    std::size_t n_bytes = 0;
    for (const bool is_counted : {false, true}) {
      if (is_counted) before = n_allocations.load();
      for (const auto id : ids) n_bytes += decoder.push(id).size() + decoder.pending().size();
    }
    EXPECT_EQ(n_allocations.load() - before, 0) << file.path();
    EXPECT_GT(n_bytes, ids.size()) << file.path();
    ++n_tokenizers;
  }
  EXPECT_GT(n_tokenizers, 10);
}

}  // namespace
}  // namespace nereid
