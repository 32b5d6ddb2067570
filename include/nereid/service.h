// Goal: a model that many threads use at once. One thread of the service's own computes; any thread
// submits requests and takes their answers as they come.
// Non-goal: protocols and sockets (a server's), processes.
// Rejected: futures of whole answers only: who reads along wants each token when it comes.
//
//   nereid::Service service({.model_dir = "models/demo"});
//   service.wait_until_ready();
//   nereid::Stream stream = service.submit({.prompt = "def f(x):"});
//   while (stream.next([](const nereid::Progress& progress) { std::cout << progress.text; })) {
//   }
//
// Everything throws a nereid::Error, whose code says what may be done about it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nereid/error.h"
#include "nereid/metrics.h"
#include "nereid/options.h"
#include "nereid/request.h"

namespace nereid {

// The requests to whose streams a step brought something; none where the service has failed, which
// ends all of them.
using StepCallback = std::function<void(std::span<const RequestId> requests)>;

struct ServiceOptions {
  // Of requests that were submitted and not begun; more are refused as overloaded.
  std::int64_t max_queued_requests = 1024;
  std::int64_t max_queued_prompt_tokens = std::int64_t{1} << 20;
  // Called once after each step that brought any stream anything, on the service's thread: it
  // should only wake another. The service fails where it throws.
  StepCallback on_step = {};
};

enum class ServiceState : std::uint8_t {
  opening,  // see stage
  ready,
  draining,  // what was submitted is answered, nothing else is taken
  failed,    // see error
};
NEREID_API std::string_view service_state_name(ServiceState state);

struct ServiceStatus {
  ServiceState state = ServiceState::opening;
  std::string stage = {};                // opening: "reading weights"
  std::int64_t n_done = 0, n_total = 0;  // of the stage; 0 of 0 where it cannot be counted
  std::string error = {};
};

// Known once the service is ready.
struct ModelInfo {
  std::string device;  // "cuda:0"
  std::string mode;    // eager, compiled or graph
  std::int64_t max_context_tokens = 0;
  std::int64_t vocab_size = 0;
  bool has_tokenizer = false;
  // What the model's files suggest, over a temperature of 1. Requests are greedy unless they say
  // otherwise.
  SamplingParams suggested_sampling = {};
};

// The answers to one request. For one thread at a time. Its text is made here, on the thread that
// reads. Destroying it cancels the request; it may outlive its service, which ended it then.
class NEREID_API Stream {
 public:
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  // A number of the service's, as in Progress::request.
  RequestId id() const;
  // Waits until something came and hands it out. False once all answers have ended and all that
  // came was handed out. What the callback throws is passed on; the stream can still be read.
  bool next(const ProgressCallback& on_progress);
  // The same, but waits at most so long: none by default.
  bool poll(const ProgressCallback& on_progress,
            std::chrono::milliseconds longest_wait = std::chrono::milliseconds(0));
  // Reads to the end. The result is given once; invalid_argument after that.
  Completion wait();
  // The answers end with what they have; the ends come as all else does.
  void cancel();

 private:
  friend class Service;
  struct Impl;
  explicit Stream(std::unique_ptr<Impl> impl);
  Impl& impl() const;
  std::unique_ptr<Impl> impl_;
};

// All members may be called from any thread.
class NEREID_API Service {
 public:
  // Returns at once; the model is opened on the service's thread. status() tells how far it is.
  explicit Service(const Options& options, ServiceOptions service_options = {});
  struct Impl;  // the library's own
  explicit Service(std::unique_ptr<Impl> impl);
  // Cancels what is not finished.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  ServiceStatus status() const;
  // Throws what opening the model throws.
  void wait_until_ready();

  // Tokenises the prompt and compiles the constraint, on the caller's thread, and queues the
  // request. Throws invalid_argument or context_length where it can never run, overloaded where the
  // queue is full or the model still opens, draining after drain(), device where the device has
  // failed, internal where the service has, and what opening the model threw.
  Stream submit(const Request& request);
  // Takes no more requests, and waits until all are answered. False where that took longer than
  // `longest_wait`: they go on.
  bool drain(std::chrono::milliseconds longest_wait = std::chrono::milliseconds::max());

  Metrics metrics() const;

  // Once ready; overloaded before. Throws what opening the model threw.
  const ModelInfo& model() const;
  std::vector<TokenId> encode(std::string_view text) const;  // as Engine::encode()
  std::string decode(std::span<const TokenId> ids) const;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace nereid
