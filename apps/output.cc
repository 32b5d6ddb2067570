#include "apps/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/error.h"

namespace nereid::apps {

namespace {

// A signal handler has no other way to tell the program.
volatile std::sig_atomic_t interrupt_received = 0;

void on_interrupt(int /*signal*/) { interrupt_received = 1; }

constexpr double kBytesPerMb = 1e6;

}  // namespace

void write_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(std::size_t(n));
    } else if (errno != EINTR) {
      throw Error("stdout: {}; stopped", std::strerror(errno));
    }
  }
}

void note_written_start(std::string_view who, std::string_view start) {
  if (start.empty()) return;
  fmt::print(stderr,
             "nereid: {} begins with {}, which is put before every prompt: it stands there once, "
             "not twice\n",
             who, start);
}

std::string utc_text(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

void write_json(const nlohmann::ordered_json& document) {
  write_out(document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

namespace {

void catch_interrupt(struct sigaction* before) {
  interrupt_received = 0;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, before);
}

}  // namespace

InterruptFlag::InterruptFlag() { catch_interrupt(&before_); }

InterruptFlag::~InterruptFlag() { sigaction(SIGINT, &before_, nullptr); }

bool InterruptFlag::is_set() const { return interrupt_received != 0; }

bool InterruptFlag::take() {
  if (!is_set()) return false;
  catch_interrupt(nullptr);
  return true;
}

namespace {

std::string memory_text(const MemoryUse& use) {
  const auto mb = [](std::int64_t n_bytes) { return double(n_bytes) / kBytesPerMb; };
  return fmt::format(
      "device memory {:.1f} MB at most: weights {:.1f}, cache {:.1f}, activations {:.1f}, other "
      "{:.1f}",
      mb(use.peak_bytes), mb(use.weight_bytes), mb(use.cache_bytes), mb(use.activation_bytes),
      mb(use.other_bytes()));
}

nlohmann::ordered_json memory_json(const MemoryUse& use) {
  return {{"peak_bytes", use.peak_bytes},
          {"weight_bytes", use.weight_bytes},
          {"cache_bytes", use.cache_bytes},
          {"activation_bytes", use.activation_bytes},
          {"other_bytes", use.other_bytes()}};
}

}  // namespace

nlohmann::ordered_json stats_json(const Stats& stats, double start_to_first_token_ms) {
  return {{"ttft_ms", stats.ttft_ms},
          {"start_to_first_token_ms", start_to_first_token_ms},
          {"itl_ms_median", stats.itl_ms_median},
          {"itl_ms_p99", stats.itl_ms_p99},
          {"host_us_median", stats.host_us_median},
          {"prefill_tokens_per_s", stats.prefill_tokens_per_s},
          {"decode_tokens_per_s", stats.decode_tokens_per_s},
          {"weight_gb_per_s", stats.weight_gb_per_s},
          {"prompt_tokens", stats.n_prompt_tokens},
          {"generated_tokens", stats.n_generated_tokens},
          {"steps", stats.n_steps},
          {"preemptions", stats.n_preemptions},
          {"peak_memory_bytes", stats.peak_memory_bytes},
          {"device_memory", memory_json(stats.device_memory)}};
}

std::string stats_line(const Stats& stats, double start_to_first_token_ms) {
  return fmt::format(
      "{} prompt + {} new tokens | first token {:.1f} ms ({:.1f} ms from process start) | "
      "between tokens {:.2f} ms (p99 {:.2f}) | prefill {:.1f} tokens/s | decode {:.1f} tokens/s | "
      "weights {:.2f} GB/s | peak memory {:.1f} MB | {}",
      stats.n_prompt_tokens, stats.n_generated_tokens, stats.ttft_ms, start_to_first_token_ms,
      stats.itl_ms_median, stats.itl_ms_p99, stats.prefill_tokens_per_s, stats.decode_tokens_per_s,
      stats.weight_gb_per_s, double(stats.peak_memory_bytes) / kBytesPerMb,
      memory_text(stats.device_memory));
}

}  // namespace nereid::apps
