// A server whose model says what it was told to: the text of a file, token by token, whatever it is
// asked. For tests of what a server makes of an answer.
//   scripted_server MODEL_DIR (for its tokenizer) CHAT_TEMPLATE SCRIPT [STEP_MS]
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "engine/service_impl.h"
#include "engine/session.h"
#include "server/server.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace nereid;  // NOLINT: a program of a test

class ScriptedRunner : public engine::Runner {
 public:
  ScriptedRunner(std::vector<TokenId> script, std::int64_t vocab_size,
                 std::chrono::milliseconds step)
      : limits_{.max_batch_tokens = 256,
                .max_mixed_tokens = 256,
                .max_sequences = 16,
                .max_logit_rows = 16,
                .block_tokens = 16,
                .n_kv_blocks = 2048,
                .max_context_tokens = 4096,
                .prefix_caching = false},
        script_(std::move(script)),
        vocab_size_(vocab_size),
        step_(step) {}

  const sched::Limits& limits() const override { return limits_; }
  std::int64_t vocab_size() const override { return vocab_size_; }
  std::int64_t weight_bytes() const override { return 1; }
  MemoryUse memory_use() const override { return {.weight_bytes = 1, .peak_bytes = 1}; }
  bool works_beside_host() const override { return false; }

  void queue(const engine::StepRequest& request) override {
    auto& ids = results_.emplace_back();
    for (const auto& row : request.sampling)
      ids.push_back(script_.at(std::size_t(row.n_generated)));
    std::this_thread::sleep_for(step_);
  }
  std::span<std::uint32_t> mask(std::int32_t) override {
    throw Error("a scripted model knows no constraints");
  }
  void queue_tail(std::span<const std::int32_t>) override {}
  engine::StepResult wait() override {
    read_[n_read_++ % 2] = std::move(results_.front());
    results_.pop_front();
    engine::StepResult result;
    result.ids = read_[(n_read_ - 1) % 2];
    return result;
  }
  void recover() override { results_.clear(); }
  void read_logits(std::span<float>) override {}
  void fill_slot(std::int32_t, const engine::SlotTables&) override {}

 private:
  const sched::Limits limits_;
  std::vector<TokenId> script_;
  std::int64_t vocab_size_;
  std::chrono::milliseconds step_;
  std::deque<std::vector<TokenId>> results_;
  std::array<std::vector<TokenId>, 2> read_;
  std::size_t n_read_ = 0;
};

int serve(int argc, char** argv) {
  if (argc < 4) throw Error("expected MODEL_DIR CHAT_TEMPLATE SCRIPT [STEP_MS]");
  std::ifstream file(argv[3]);
  std::stringstream text;
  text << file.rdbuf();
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer = engine::load_tokenizer(argv[1]);
  auto script = tokenizer->encode(text.str(), false);
  const TokenId end = tokenizer->vocab_size() - 1;
  script.resize(std::max<std::size_t>(script.size() + 1, 4096), end);
  const auto runner = std::make_shared<ScriptedRunner>(
      std::move(script), tokenizer->vocab_size(),
      std::chrono::milliseconds(argc > 4 ? std::atoi(argv[4]) : 0));
  server::ServerOptions options{.port = 0,
                                .model_names = {"scripted"},
                                .model_dir = argv[1],
                                .chat_template = argv[2],
                                .version = "test",
                                .logs_requests = false};
  server::Server server(options, [&](StepCallback on_step) {
    ServiceOptions service;
    service.on_step = std::move(on_step);
    return std::make_unique<Service>(std::make_unique<Service::Impl>(
        [&](const ProgressSink&) {
          return engine::ServedModel{
              .owner = runner,
              .runner = runner.get(),
              .tokenizer = tokenizer,
              .eos_ids = {end},
              .info = {.device = "scripted",
                       .mode = "eager",
                       .max_context_tokens = 4096,
                       .vocab_size = tokenizer->vocab_size(),
                       .has_tokenizer = true},
              .matchers_of = [](const Constraint&) { return engine::MatcherMaker(); }};
        },
        std::move(service)));
  });
  server.handle_signals();
  fmt::print(stderr, "http://127.0.0.1:{}/\n", server.port());
  server.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return serve(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "scripted_server: {}\n", error.what());
    return 1;
  }
}
