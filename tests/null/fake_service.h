// Goal: a Service over a FakeRunner.
// Non-goal: text; a test that needs it gives the model a tokenizer.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>

#include "engine/service_impl.h"
#include "null/fake_runner.h"
#include "null/generated_requests.h"

namespace nereid::engine {

inline ServedModel served(std::shared_ptr<FakeRunner> runner) {
  return {.owner = runner,
          .runner = runner.get(),
          .tokenizer = nullptr,
          .eos_ids = {kFakeEos},
          .info = {.device = "fake",
                   .mode = "eager",
                   .max_context_tokens = runner->limits().max_sequence_tokens(),
                   .vocab_size = FakeRunner::kVocab},
          .matchers_of = scripted_matchers};
}

inline std::unique_ptr<Service> serve(std::shared_ptr<FakeRunner> runner,
                                      ServiceOptions options = {}) {
  auto service = std::make_unique<Service>(std::make_unique<Service::Impl>(
      [runner](const ProgressSink&) { return served(runner); }, std::move(options)));
  service->wait_until_ready();
  return service;
}

inline ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::internal;
}

}  // namespace nereid::engine
