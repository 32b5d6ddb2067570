#include "server/metrics_text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <utility>

#include "server/error_body.h"

namespace nereid::server {

namespace {

std::vector<double> token_bounds() {
  std::vector<double> bounds;
  for (double decade = 1; decade <= 100'000; decade *= 10)
    for (const double step : {1.0, 2.0, 5.0}) bounds.push_back(decade * step);
  return bounds;
}

std::vector<double> second_bounds() {
  return {.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300};
}

std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n')
      text += "\\n";
    else
      text += c;
  }
  return text;
}

// Resident bytes; 0 where the system does not tell.
std::int64_t resident_bytes() {
  std::int64_t n_pages = 0, n_resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  const int n_read = std::fscanf(file, "%ld %ld", &n_pages, &n_resident);
  std::fclose(file);
  return n_read == 2 ? n_resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace

Distribution::Distribution(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Distribution::add(double value) {
  ++counts_[std::size_t(std::ranges::lower_bound(bounds_, value) - bounds_.begin())];
  sum_ += value;
}

WireMetrics::WireMetrics() : prompt_tokens(token_bounds()), generated_tokens(token_bounds()) {}

void WireMetrics::count(const std::string& handler, const std::string& method, int status,
                        double seconds) {
  ++n_requests[{handler, method, status}];
  request_s.try_emplace(handler, second_bounds()).first->second.add(seconds);
}

class MetricsText {
 public:
  explicit MetricsText(const Serving& serving)
      : prefix_(serving.options().metrics_prefix),
        model_(fmt::format("model_name=\"{}\"", escaped(serving.model_name()))) {}

  void begin(std::string_view name, std::string_view type, std::string_view help) {
    // What every program tells has no prefix.
    name_ = name.starts_with("process_") ? std::string(name) : fmt::format("{}:{}", prefix_, name);
    fmt::format_to(out(), "# HELP {} {}\n# TYPE {} {}\n", name_, help, name_, type);
  }
  template <typename Value>
  void value(Value value, std::string_view labels = {}, std::string_view suffix = {}) {
    fmt::format_to(out(), "{}{}{{{}{}{}}} {}\n", name_, suffix, model_, labels.empty() ? "" : ",",
                   labels, value);
  }
  template <typename Value>
  void gauge(std::string_view name, std::string_view help, Value of) {
    begin(name, "gauge", help);
    value(of);
  }
  template <typename Value>
  void counter(std::string_view name, std::string_view help, Value of) {
    begin(name, "counter", help);
    value(of);
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& of) {
    begin(name, "histogram", help);
    buckets(of.bounds_s, of.counts, of.sum_s, {});
  }
  void histogram(std::string_view name, std::string_view help, const Distribution& of) {
    begin(name, "histogram", help);
    distribution(of, {});
  }
  void distribution(const Distribution& of, const std::string& labels) {
    buckets(of.bounds_, of.counts_, of.sum_, labels);
  }
  std::string take() { return std::move(text_); }

 private:
  std::back_insert_iterator<std::string> out() { return std::back_inserter(text_); }
  void buckets(const std::vector<double>& bounds, const std::vector<std::int64_t>& counts,
               double sum, const std::string& labels) {
    const std::string lead = labels.empty() ? "" : labels + ",";
    std::int64_t n = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      n += counts[i];
      value(n, lead + (i < bounds.size() ? fmt::format("le=\"{}\"", bounds[i]) : "le=\"+Inf\""),
            "_bucket");
    }
    if (counts.empty()) value(0, lead + "le=\"+Inf\"", "_bucket");
    value(sum, labels, "_sum");
    value(n, labels, "_count");
  }

  std::string prefix_, model_, name_, text_;
};

std::string metrics_text(const Serving& serving, const WireMetrics& wire) {
  const Metrics metrics = serving.service().metrics();
  MetricsText text(serving);
  text.gauge("num_requests_running", "Requests that are computed.", metrics.n_running);
  text.gauge("num_requests_waiting", "Requests in the queue.", metrics.n_queued);
  text.gauge("num_prompt_tokens_waiting", "Prompt tokens of the requests in the queue.",
             metrics.n_queued_prompt_tokens);
  text.gauge("num_answers_running", "Answers that are computed; a request may ask for several.",
             metrics.n_running_answers);
  text.gauge("kv_cache_usage_perc", "Blocks of the cache that running answers hold, 0 to 1.",
             metrics.n_kv_blocks > 0
                 ? double(metrics.n_used_kv_blocks) / double(metrics.n_kv_blocks)
                 : 0.0);
  text.begin("cache_config_info", "gauge", "The cache of keys and values.");
  text.value(1, fmt::format("block_size=\"{}\",num_gpu_blocks=\"{}\"", serving.kv_block_tokens(),
                            metrics.n_kv_blocks));
  const MemoryUse& memory = metrics.device_memory;
  text.begin("device_memory_bytes", "gauge", "Memory of the device; other: the rest of the peak.");
  text.value(memory.weight_bytes, "kind=\"weights\"");
  text.value(memory.cache_bytes, "kind=\"cache\"");
  text.value(memory.activation_bytes, "kind=\"activations\"");
  text.value(memory.other_bytes(), "kind=\"other\"");
  text.gauge("device_memory_peak_bytes", "The most memory of the device that was taken at a time.",
             memory.peak_bytes);
  text.counter("prompt_tokens_total", "Prompt tokens computed.", metrics.n_prompt_tokens);
  text.counter("prefix_cache_queries_total", "Prompt tokens looked up in the cache.",
               metrics.n_prompt_tokens + metrics.n_cached_tokens);
  text.counter("prefix_cache_hits_total", "Prompt tokens found in the cache.",
               metrics.n_cached_tokens);
  text.counter("generation_tokens_total", "Tokens generated.", metrics.n_generated_tokens);
  text.counter("num_steps_total", "Steps computed.", metrics.n_steps);
  text.counter("num_failed_steps_total", "Steps that failed.", metrics.n_failed_steps);
  text.counter("num_preemptions_total", "Answers put back because the cache was full.",
               metrics.n_preemptions);
  text.begin("request_success_total", "counter", "Answers that ended, by the reason.");
  for (std::size_t i = 1; i < kNFinishReasons; ++i) {
    const auto reason = FinishReason(i);
    text.value(metrics.n_ended_answers[i],
               fmt::format("finished_reason=\"{}\"", reason == FinishReason::cancelled
                                                         ? "abort"  // as vLLM has it
                                                         : finish_reason_name(reason)));
  }
  text.counter("requests_cancelled_total", "Answers that were cancelled.",
               metrics.n_ended_answers[std::size_t(FinishReason::cancelled)]);
  text.begin("admission_rejections_total", "counter", "Requests refused before they were queued.");
  text.value(metrics.n_refused, "reason=\"overloaded_or_draining\"");
  text.histogram("request_queue_time_seconds", "From submitted to the first step's end.",
                 metrics.queue_s);
  text.histogram("time_to_first_token_seconds", "From submitted to the first token.",
                 metrics.first_token_s);
  text.histogram("inter_token_latency_seconds", "Between two tokens of an answer.",
                 metrics.between_tokens_s);
  text.histogram("e2e_request_latency_seconds", "From submitted to the last token.",
                 metrics.request_s);
  text.histogram("request_prompt_tokens", "Prompt tokens of an answered request.",
                 wire.prompt_tokens);
  text.histogram("request_generation_tokens", "Tokens generated for an answered request.",
                 wire.generated_tokens);

  text.begin("http_requests_total", "counter", "Requests answered, by handler, method and status.");
  for (const auto& [key, n] : wire.n_requests) {
    const auto& [handler, method, status] = key;
    text.value(n, fmt::format("handler=\"{}\",method=\"{}\",status=\"{}\"", escaped(handler),
                              escaped(method), status));
  }
  text.begin("http_request_duration_seconds", "histogram", "From a request's head to its answer.");
  for (const auto& [handler, seconds] : wire.request_s)
    text.distribution(seconds, fmt::format("handler=\"{}\"", escaped(handler)));
  text.gauge("http_connections", "Connections that are open.", wire.n_connections);
  text.counter("http_disconnected_total", "Clients that went away before their answer's end.",
               wire.n_disconnected);
  text.counter("http_slow_readers_total", "Streams cut off because nobody read them.",
               wire.n_cut_off);
  text.begin("unknown_request_fields_total", "counter",
             "Fields of requests that mean nothing here.");
  for (const auto& [name, n] : serving.unknown_fields().counts())
    text.value(n, fmt::format("field=\"{}\"", escaped(name)));
  text.gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes());
  return text.take();
}

}  // namespace nereid::server
