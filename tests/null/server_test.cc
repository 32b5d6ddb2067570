#include "server/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "null/fake_service.h"

namespace nereid::server {
namespace {

using engine::FakeOptions;
using engine::FakeRunner;
using testing::HasSubstr;
using testing::StartsWith;

// Computes a step in no less than a millisecond, so that a client can go away in the middle.
class SlowRunner : public FakeRunner {
 public:
  using FakeRunner::FakeRunner;

 private:
  void on_queue(int) override { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }
};

class Client {
 public:
  explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval timeout{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // The peer may have closed already.
  void send(std::string_view bytes) const {
    ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void close_sending() const { ::shutdown(socket_, SHUT_WR); }
  // What has come by the time that `end` is there, or the server closed.
  std::string read_until(std::string_view end) const {
    std::string said;
    char buffer[4096];
    while (said.find(end) == std::string::npos) {
      const auto n = ::recv(socket_, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      said.append(buffer, std::size_t(n));
    }
    return said;
  }
  std::string read_all() const { return read_until("\x01 never"); }

 private:
  int socket_;
};

std::string post(const std::string& path, const std::string& body) {
  return "POST " + path +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

class ServerTest : public testing::Test {
 protected:
  void start(const FakeOptions& fake = {}, const ServerOptions& changed = {}) {
    runner_ = std::make_shared<SlowRunner>(fake);
    ServerOptions options = changed;
    options.port = 0;
    options.model_names = {"fake"};
    options.logs_requests = false;
    server_ = std::make_unique<Server>(options, [this](StepCallback on_step) {
      ServiceOptions service;
      service.on_step = std::move(on_step);
      return engine::serve(runner_, service);
    });
    thread_ = std::thread([this] { server_->run(); });
  }
  void TearDown() override {
    if (!server_) return;
    server_->stop();
    thread_.join();
    EXPECT_EQ(metrics().n_used_kv_blocks, 0);
  }

  Metrics metrics() const { return server_->serving().service().metrics(); }
  std::int64_t n_cancelled() const {
    return metrics().n_ended_answers[std::size_t(FinishReason::cancelled)];
  }
  static void wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 20'000; ++i) {
      if (condition()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << "it did not happen";
  }
  std::uint16_t port() const { return server_->port(); }

  std::shared_ptr<FakeRunner> runner_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

constexpr const char* kLong =
    R"({"prompt": [1], "max_tokens": 60, "ignore_eos": true, "stream": true})";
constexpr const char* kWhole = R"({"prompt": [1], "max_tokens": 60, "ignore_eos": true})";

TEST_F(ServerTest, ClientsThatLeaveAreCancelledInEachState) {
  start({.max_batch_tokens = 2, .max_sequences = 1});
  const auto leave_when = [&](const std::string& body, const std::function<bool()>& condition) {
    const auto before = n_cancelled();
    {
      const Client client(port());
      client.send(post("/v1/completions", body));
      wait_for(condition);
    }
    wait_for([&] { return n_cancelled() == before + 1; });
  };
  // While it decodes, streamed and not.
  leave_when(kLong, [&] { return metrics().n_running == 1; });
  leave_when(kWhole, [&] { return metrics().n_running == 1; });
  wait_for([&] { return metrics().n_used_kv_blocks == 0; });
  // In its prompt, of which a step computes two tokens.
  const int n_steps = runner_->n_steps;
  std::string ids = "1";
  for (int i = 0; i < 55; ++i) ids += ", 2";
  leave_when(R"({"prompt": [)" + ids + R"(], "max_tokens": 1})",
             [&] { return runner_->n_steps > n_steps; });
  wait_for([&] { return metrics().n_used_kv_blocks == 0; });
  // In the queue, behind another.
  const Client other(port());
  other.send(post("/v1/completions", kLong));
  wait_for([&] { return metrics().n_running == 1; });
  leave_when(kLong, [&] { return metrics().n_queued == 1; });
}

TEST_F(ServerTest, AHalfClosedClientHasLeft) {
  start();
  const Client client(port());
  client.send(post("/v1/completions", kLong));
  wait_for([&] { return metrics().n_running == 1; });
  client.close_sending();
  wait_for([&] { return n_cancelled() == 1; });
}

TEST_F(ServerTest, DrainingFinishesWhatWasBegun) {
  start();
  const Client client(port());
  client.send(post("/v1/completions", kLong));
  wait_for([&] { return metrics().n_running == 1; });
  server_->stop();
  wait_for([&] { return server_->serving().service().status().state == ServiceState::draining; });
  const Client late(port());
  late.send(post("/v1/completions", kWhole));
  EXPECT_THAT(late.read_until("}}"), AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("Retry-After")));
  EXPECT_THAT(client.read_all(), HasSubstr("data: [DONE]"));
  thread_.join();
  server_.reset();
}

TEST_F(ServerTest, AStepThatFailsIsAnErrorBeforeTheFirstByteOrAfterIt) {
  start();
  runner_->odd_id = 1;  // in every prompt below
  const Client client(port());
  client.send(post("/v1/completions", kWhole));
  EXPECT_THAT(client.read_until("}}"), AllOf(StartsWith("HTTP/1.1 500"), HasSubstr("\"error\"")));
}

// Requests as clients write them, broken at random: whatever comes, the next is answered.
TEST_F(ServerTest, SurvivesRandomBytes) {
  start({.n_kv_blocks = 64});
  const char* text = std::getenv("NEREID_SERVER_FUZZ");
  const int n_rounds = text == nullptr ? 3000 : std::atoi(text);
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<std::string> parts = {
      post("/v1/completions", R"({"prompt": [1, 2], "max_tokens": 2})"),
      post("/v1/completions", R"({"prompt": [[1], [2]], "n": 2, "stream": true, "stop": ["a"]})"),
      post("/v1/completions",
           R"({"prompt": [1], "logprobs": 2, "echo": true, "temperature": 0.5})"),
      post("/v1/completions", R"({"prompt": [1], "response_format": {"type": "json_object"}})"),
      post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})"),
      post("/tokenize", R"({"prompt": "a"})"),
      "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      "7\r\n{\"a\": 1\r\n1\r\n}\r\n0\r\n\r\n",
      "\r\n",
      "Content-Length: 3\r\n",
      std::string(20'000, 'a'),
  };
  for (int i = 0; i < n_rounds; ++i) {
    std::string sent;
    for (auto n = 1 + random() % 3; n > 0; --n) sent += parts[random() % parts.size()];
    for (auto n = random() % 5; n > 0; --n) {
      const auto at = random() % sent.size();
      switch (random() % 3) {
        case 0:
          sent[at] = char(random() % 256);
          break;
        case 1:
          sent.erase(at, 1 + random() % 20);
          break;
        default:
          sent.insert(at, 1, "\r\n:{}[]\"0-,\0 "[random() % 13]);
      }
      if (sent.empty()) sent = " ";
    }
    const Client client(port());
    const auto cut = random() % (sent.size() + 1);
    client.send(std::string_view(sent).substr(0, cut));
    if (random() % 2 == 0) client.send(std::string_view(sent).substr(cut));
    if (random() % 4 == 0) {
      client.close_sending();
      client.read_all();
    }
    if (i % 500 == 0) {
      const Client asks(port());
      asks.send(parts[6]);
      EXPECT_THAT(asks.read_until("}"), StartsWith("HTTP/1.1 200"));
    }
  }
  wait_for([&] { return metrics().n_used_kv_blocks == 0; });
}

}  // namespace
}  // namespace nereid::server
