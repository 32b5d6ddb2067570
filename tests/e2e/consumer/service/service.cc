// service [MODEL]: eight threads ask one model at once, and give up half of what they ask for.
#include <chrono>
#include <future>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "nereid/engine.h"
#include "nereid/service.h"
#include "requests.h"

using Completions = std::map<std::size_t, nereid::Completion>;  // by the request's index

// The model is opened on the service's thread; kernels that are compiled take a while.
void show_opening(const nereid::Service& service) {
  std::string shown;
  for (auto status = service.status(); status.state == nereid::ServiceState::opening;
       status = service.status()) {
    if (status.stage != shown) std::cerr << (shown = status.stage) << '\n';
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// A server would tell its client to come back later; here the thread itself does.
nereid::Stream submit(nereid::Service& service, const nereid::Request& request) {
  while (true) {
    try {
      return service.submit(request);
    } catch (const nereid::Error& error) {
      if (error.code() != nereid::ErrorCode::overloaded) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

nereid::Completion read(nereid::Stream stream) {
  std::map<std::int32_t, std::string> texts;  // of each answer
  while (stream.next([&](const nereid::Progress& progress) {
    texts[progress.answer] += progress.text;  // whole characters: ready to be shown
  })) {
  }
  auto completion = stream.wait();  // all that was streamed, and what is known at the end
  for (const auto& [answer, text] : texts)
    if (text != completion.answers[std::size_t(answer)].text)
      throw std::runtime_error("the parts of an answer are not its text");
  return completion;
}

void give_up(nereid::Stream stream, bool wants_rest) {
  stream.next({});          // waits for the first token
  if (!wants_rest) return;  // a stream that is destroyed cancels its request
  stream.cancel();
  const auto reason = stream.wait().answers[0].finish_reason;
  if (reason != nereid::FinishReason::cancelled)
    throw std::runtime_error("cancelled, but: " + std::string(finish_reason_name(reason)));
}

Completions use(nereid::Service& service, std::size_t thread) {
  Completions completions;
  const auto requests = example_requests();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if ((thread + i) % 2 == 0) {
      completions[i] = read(submit(service, requests[i]));
    } else {
      auto endless = requests[i];
      endless.max_tokens = 1500;
      endless.ignore_eos = true;
      endless.stop.clear();
      give_up(submit(service, endless), /*wants_rest=*/i % 3 == 0);
    }
  }
  return completions;
}

void print(const nereid::Metrics& metrics) {
  const auto line = [](std::string_view name, auto value) {
    std::cout << name << ' ' << value << '\n';
  };
  line("requests_submitted", metrics.n_submitted);
  line("requests_finished", metrics.n_finished);
  line("requests_refused", metrics.n_refused);
  for (std::size_t i = 0; i < nereid::kNFinishReasons; ++i)
    line("answers_ended_" + std::string(finish_reason_name(nereid::FinishReason(i))),
         metrics.n_ended_answers[i]);
  line("prompt_tokens", metrics.n_prompt_tokens);
  line("cached_tokens", metrics.n_cached_tokens);
  line("generated_tokens", metrics.n_generated_tokens);
  line("steps", metrics.n_steps);
  line("used_kv_blocks", metrics.n_used_kv_blocks);
  const auto& first = metrics.first_token_s;
  line("first_token_mean_ms", 1e3 * first.sum_s / double(first.n()));
}

// Whatever else was computed at the same time: an answer is the one that a request alone gets.
int count_different(const nereid::Options& options, const std::vector<Completions>& all) {
  nereid::Engine engine(options);
  int n_different = 0;
  const auto requests = example_requests();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto alone = engine.run({&requests[i], 1})[0].answers;
    for (const auto& completions : all)
      if (completions.contains(i))
        for (std::size_t a = 0; a < alone.size(); ++a)
          n_different += completions.at(i).answers[a].ids != alone[a].ids;
  }
  return n_different;
}

int run(const nereid::Options& options) {
  constexpr std::size_t kNThreads = 8;
  std::vector<Completions> read_to_the_end;
  {
    nereid::Service service(options, {.max_queued_requests = 4});
    show_opening(service);
    service.wait_until_ready();  // throws where it could not be opened
    std::vector<std::future<Completions>> threads;
    for (std::size_t t = 0; t < kNThreads; ++t)
      threads.push_back(std::async(std::launch::async, [&, t] { return use(service, t); }));
    for (auto& thread : threads) read_to_the_end.push_back(thread.get());
    service.drain();
    print(service.metrics());
  }
  const int n_different = count_different(options, read_to_the_end);
  std::cout << "different " << n_different << '\n';
  return n_different == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  try {
    // Invariant, because the answers are compared to the last token.
    return run({.model_dir = argc > 1 ? argv[1] : DEMO_MODEL, .batch_invariant = true});
  } catch (const nereid::Error& error) {
    std::cerr << nereid::error_code_name(error.code()) << ": " << error.what() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
