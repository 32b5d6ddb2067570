#include "measure/serve_bench.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/quantile.h"
#include "measure/host_clock.h"
#include "nereid/service.h"

namespace nereid::measure {

namespace {

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

// One wake a step for all streams, as a server has it.
class StepSignal {
 public:
  void raise() {
    const std::lock_guard lock(mutex_);
    is_raised_ = true;
    changed_.notify_one();
  }
  void wait_until(Clock::time_point until) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, until, [&] { return is_raised_; });
    is_raised_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_raised_ = false;
};

struct Arrival {
  Request request;
  double at_s = 0;  // after the beginning
};

// What a run of requests came to.
struct ServedRun {
  double time_s = 0;
  std::vector<double> ttft_ms, itl_ms;
  std::int64_t n_tokens = 0;
  // From when all first tokens were there to the first end: only answers are computed then.
  double decode_s = 0;
  std::int64_t n_decode_tokens = 0;
};

class Client {
 public:
  Client(Service& service, StepSignal& signal) : service_(service), signal_(signal) {}

  ServedRun run(const std::vector<Arrival>& arrivals, std::int64_t n_at_once) {
    run_ = {};
    begin_ = Clock::now();
    const auto at = [&](double s) {
      return begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
    };
    std::size_t n_sent = 0;
    n_first_ = 0;
    n_ended_ = 0;
    while (n_sent < arrivals.size() || !open_.empty()) {
      const auto now = Clock::now();
      while (n_sent < arrivals.size() && std::ssize(open_) < n_at_once &&
             at(arrivals[n_sent].at_s) <= now) {
        const auto& arrival = arrivals[n_sent++];
        // One that comes all at once arrives when there is room for it.
        open_.push_back(
            {service_.submit(arrival.request), arrival.at_s > 0 ? at(arrival.at_s) : Clock::now()});
      }
      constexpr auto kLongestWait = std::chrono::seconds(1);
      auto until = now + kLongestWait;
      if (n_sent < arrivals.size() && std::ssize(open_) < n_at_once)
        until = std::min(until, at(arrivals[n_sent].at_s));
      signal_.wait_until(until);
      read_all(std::ssize(arrivals));
    }
    run_.time_s = seconds(Clock::now() - begin_);
    return std::move(run_);
  }

 private:
  struct Open {
    Stream stream;
    Clock::time_point arrived;
    Clock::time_point last = {};
  };

  void read_all(std::int64_t n_all) {
    const auto now = Clock::now();
    const bool only_decodes = n_first_ == n_all && n_ended_ == 0;
    const auto n_before = run_.n_tokens;
    for (auto it = open_.begin(); it != open_.end();) {
      const bool goes_on = it->stream.poll([&](const Progress& progress) {
        if (progress.finish_reason == FinishReason::error)
          throw Error("request {} failed", progress.request);
        run_.n_tokens += std::ssize(progress.ids);
        if (progress.ids.empty()) return;
        if (it->last == Clock::time_point()) {
          ++n_first_;
          run_.ttft_ms.push_back(1e3 * seconds(now - it->arrived));
        } else {
          run_.itl_ms.push_back(1e3 * seconds(now - it->last));
        }
        it->last = now;
      });
      if (!goes_on) ++n_ended_;
      it = goes_on ? std::next(it) : open_.erase(it);
    }
    if (only_decodes) {
      run_.decode_s += seconds(now - last_read_);
      run_.n_decode_tokens += run_.n_tokens - n_before;
    }
    last_read_ = now;
  }

  Service& service_;
  StepSignal& signal_;
  std::list<Open> open_;
  Clock::time_point begin_, last_read_;
  std::int64_t n_first_ = 0, n_ended_ = 0;
  ServedRun run_;
};

class RequestSource {
 public:
  RequestSource(const ServeWorkload& workload, std::int64_t vocab_size)
      : workload_(workload), vocab_size_(vocab_size), random_(workload.seed) {}

  std::vector<Arrival> mixed(std::int64_t n_requests) {
    std::vector<Arrival> arrivals;
    double at_s = 0;
    for (std::int64_t i = 0; i < n_requests; ++i) {
      if (workload_.requests_per_s > 0)
        at_s += std::exponential_distribution<double>(workload_.requests_per_s)(random_);
      const auto n_prompt = between(workload_.min_prompt_tokens, workload_.max_prompt_tokens);
      const auto n_answer = between(workload_.min_answer_tokens, workload_.max_answer_tokens);
      arrivals.push_back({request(n_prompt, n_answer), at_s});
    }
    return arrivals;
  }
  // Prompts of the same lengths, of other tokens.
  std::vector<Arrival> prompts_alone(const std::vector<Arrival>& mixed) {
    std::vector<Arrival> arrivals;
    for (const auto& [like, at_s] : mixed)
      arrivals.push_back({request(std::ssize(like.prompt_ids), 1), 0});
    return arrivals;
  }
  std::vector<Arrival> answers_alone(std::int64_t n_answer) {
    std::vector<Arrival> arrivals;
    const auto n_prompt = (workload_.min_prompt_tokens + workload_.max_prompt_tokens) / 2;
    for (std::int64_t i = 0; i < workload_.n_at_once; ++i)
      arrivals.push_back({request(n_prompt, n_answer), 0});
    return arrivals;
  }

 private:
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }
  Request request(std::int64_t n_prompt, std::int64_t n_answer) {
    Request request{.max_tokens = n_answer, .ignore_eos = true};
    request.prompt_ids.resize(std::size_t(n_prompt));
    for (auto& id : request.prompt_ids) id = TokenId(between(0, vocab_size_ - 1));
    return request;
  }

  const ServeWorkload workload_;
  std::int64_t vocab_size_;
  std::mt19937_64 random_;
};

void check(const ServeWorkload& workload) {
  if (workload.min_answer_tokens < 2)
    throw Error("answers of {} tokens; expected at least 2, which have a time between them",
                workload.min_answer_tokens);
  if (workload.min_prompt_tokens > workload.max_prompt_tokens ||
      workload.min_answer_tokens > workload.max_answer_tokens)
    throw Error(
        "prompts of {} to {} tokens, answers of {} to {}; expected the smaller number first",
        workload.min_prompt_tokens, workload.max_prompt_tokens, workload.min_answer_tokens,
        workload.max_answer_tokens);
}

// Where prompts are read slowly, the first answers end before the last have begun: longer ones
// then.
ServedRun run_answers_alone(Client& client, RequestSource& source, const ServeWorkload& of,
                            std::int64_t max_context_tokens) {
  for (auto n_answer = of.max_answer_tokens;; n_answer *= 2) {
    if ((of.min_prompt_tokens + of.max_prompt_tokens) / 2 + n_answer > max_context_tokens)
      throw Error(
          "{} answers at once never run without prompts: answers of {} tokens end before the last "
          "prompt is read; choose fewer --at-once, more --max-mixed-tokens or more --context",
          of.n_at_once, n_answer / 2);
    auto run = client.run(source.answers_alone(n_answer), of.n_at_once);
    if (run.n_decode_tokens > 0) return run;
  }
}

std::int64_t n_prompt_tokens(const std::vector<Arrival>& arrivals) {
  std::int64_t n_tokens = 0;
  for (const auto& arrival : arrivals) n_tokens += std::ssize(arrival.request.prompt_ids);
  return n_tokens;
}

}  // namespace

ServeBenchResult run_serve_bench(const ServeBenchOptions& options) {
  check(options.workload);
  auto engine = options.engine;
  engine.max_sequences = options.workload.n_at_once;
  StepSignal signal;
  Service service(engine, {.max_queued_requests = options.workload.n_at_once,
                           .on_step = [&](auto) { signal.raise(); }});
  service.wait_until_ready();
  Client client(service, signal);
  RequestSource source(options.workload, service.model().vocab_size);
  const auto n_at_once = options.workload.n_at_once;

  const auto mixed = source.mixed(options.workload.n_requests);
  // Kernels and captures of all kinds of steps are made ready by answers that nobody times.
  client.run(source.mixed(2 * n_at_once), n_at_once);
  const auto n_context = service.model().max_context_tokens;
  run_answers_alone(client, source, options.workload, n_context);
  const auto answers = run_answers_alone(client, source, options.workload, n_context);
  const auto prompts = client.run(source.prompts_alone(mixed), n_at_once);
  const auto before = service.metrics();
  auto run = client.run(mixed, n_at_once);
  const auto after = service.metrics();

  ServeBenchResult result{.device = service.model().device, .mode = service.model().mode};
  result.n_prompt_tokens = n_prompt_tokens(mixed);
  result.n_answer_tokens = run.n_tokens;
  result.time_s = run.time_s;
  const auto rate = [](std::int64_t n_tokens, double time_s) {
    return time_s > 0 ? static_cast<double>(n_tokens) / time_s : 0;
  };
  result.tokens_per_s = rate(result.n_prompt_tokens + result.n_answer_tokens, run.time_s);
  result.prefill_tokens_per_s = rate(result.n_prompt_tokens, prompts.time_s);
  result.decode_tokens_per_s = rate(answers.n_decode_tokens, answers.decode_s);
  const auto alone_s = static_cast<double>(result.n_prompt_tokens) / result.prefill_tokens_per_s +
                       static_cast<double>(result.n_answer_tokens) / result.decode_tokens_per_s;
  result.part_of_alone = alone_s / run.time_s;
  result.ttft_ms_median = quantile(run.ttft_ms, 0.5);
  result.ttft_ms_p99 = quantile(run.ttft_ms, 0.99);
  result.itl_ms_median = quantile(run.itl_ms, 0.5);
  result.itl_ms_p99 = quantile(run.itl_ms, 0.99);
  result.n_steps = after.n_steps - before.n_steps;
  result.n_preemptions = after.n_preemptions - before.n_preemptions;
  result.n_cached_tokens = after.n_cached_tokens - before.n_cached_tokens;
  return result;
}

}  // namespace nereid::measure
