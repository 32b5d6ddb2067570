// Goal: what the server and its engine have done, in Prometheus' text form, with the suffixes that
// dashboards and routers know from vLLM.
// Non-goal: prometheus-cpp, whose Debian package is a shared library that brings a web server
// along.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "nereid/metrics.h"
#include "server/serving.h"

namespace nereid::server {

// Of values of any unit; Histogram's counterpart for what the server counts.
class Distribution {
 public:
  explicit Distribution(std::vector<double> bounds);
  void add(double value);

 private:
  friend class MetricsText;
  std::vector<double> bounds_;
  std::vector<std::int64_t> counts_;  // [bounds + 1]
  double sum_ = 0;
};

// What happens to requests outside the engine. Of the I/O thread.
struct WireMetrics {
  // handler, method, status
  std::map<std::tuple<std::string, std::string, int>, std::int64_t> n_requests;
  std::map<std::string, Distribution> request_s;  // by handler
  Distribution prompt_tokens, generated_tokens;   // of an answered request
  std::size_t n_connections = 0;
  std::size_t n_cut_off = 0;
  std::int64_t n_disconnected = 0;  // clients that went away before their answer's end

  WireMetrics();
  void count(const std::string& handler, const std::string& method, int status, double seconds);
};

std::string metrics_text(const Serving& serving, const WireMetrics& wire);

}  // namespace nereid::server
