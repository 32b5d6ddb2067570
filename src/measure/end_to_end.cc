#include "measure/end_to_end.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/quantile.h"
#include "device/registry.h"
#include "engine/generator.h"
#include "engine/session.h"
#include "engine/stats.h"
#include "measure/host_clock.h"
#include "measure/model_cost.h"
#include "measure/timing.h"
#include "model/config.h"
#include "program/settings.h"

namespace nereid::measure {

namespace {

struct Variant {
  std::string mode;
  bool is_tuned = true;
};

// Its runner, and what that took.
struct OpenMode {
  Variant variant;
  std::unique_ptr<engine::Runner> runner;
  std::size_t device_bytes = 0;
};

// Those that share the model; recorded, to count and to prove.
using Devices = std::vector<std::unique_ptr<RecordingDevice>>;

std::size_t allocated_bytes(const Devices& devices) {
  std::size_t n_bytes = 0;
  for (const auto& device : devices) n_bytes += device->memory_count().allocated_bytes;
  return n_bytes;
}

OpenMode open_mode(const Devices& devices, const model::ModelConfig& config,
                   const EndToEndOptions& options, const Variant& variant) {
  const auto before = allocated_bytes(devices);
  auto engine = engine_options(options.engine, options.workload);
  engine.mode = variant.mode;
  engine.is_tuned = variant.is_tuned;
  std::vector<device::Device*> ranks;
  for (const auto& device : devices) ranks.push_back(device.get());
  auto runner = engine::Runner::create(ranks, config, engine);
  return {variant, std::move(runner), allocated_bytes(devices) - before};
}

// One whole generation.
struct Run {
  double total_ms = 0;
  double ttft_ms = 0;
  std::vector<double> gaps_ms;
  std::uint64_t n_decode_launches = 0;  // of the steps that were not queued when counting began
  std::int64_t n_counted_steps = 0;
};

Run generate_once(engine::Runner& runner, const RecordingDevice& device,
                  const model::ModelConfig& config, const EndToEndOptions& options) {
  const auto& workload = options.workload;
  const auto requests = make_requests(workload, config.vocab_size);
  engine::Generator generator(runner, /*eos_ids=*/{});
  Run run;
  run.gaps_ms.reserve(static_cast<std::size_t>(workload.n_output_tokens));
  std::int64_t n_tokens = 0;
  std::string failure;
  const auto count = [&](const engine::AnswerEvent& event) {
    n_tokens += static_cast<std::int64_t>(event.ids.size());
    if (failure.empty()) failure = event.error;
    return false;
  };
  const auto begin = Clock::now();
  for (const auto& request : requests) generator.submit(request);
  Clock::time_point last = begin;
  std::uint64_t n_launches_before = 0;
  std::int64_t n_rounds = 0;  // tokens that every sequence has
  bool is_going = true;
  while (is_going) {
    is_going = generator.step(count);
    if (n_tokens < (n_rounds + 1) * workload.n_batch) continue;
    const auto now = Clock::now();
    if (n_rounds++ == 0) {
      run.ttft_ms = ms_between(begin, now);
      n_launches_before = device.n_launches();
      run.n_counted_steps = workload.n_output_tokens - 1 - (runner.works_beside_host() ? 1 : 0);
    } else {
      run.gaps_ms.push_back(ms_between(last, now));
    }
    last = now;
  }
  run.total_ms = ms_between(begin, last);
  run.n_decode_launches = device.n_launches() - n_launches_before;
  if (!failure.empty()) throw Error("{}", failure);
  NEREID_CHECK(n_tokens == workload.n_batch * workload.n_output_tokens, "{} tokens came", n_tokens);
  return run;
}

double median_of(const std::vector<Run>& runs, double (*value)(const Run&)) {
  std::vector<double> samples;
  for (const auto& run : runs) samples.push_back(value(run));
  return median(std::move(samples));
}

EndToEndRow summarise(const OpenMode& open, const std::vector<Run>& runs,
                      const EndToEndOptions& options, std::int64_t streamed_weight_bytes) {
  EndToEndRow row;
  row.mode = open.variant.mode;
  row.is_tuned = open.variant.is_tuned;
  row.device_bytes = open.device_bytes;
  row.host_peak_bytes = engine::peak_memory_bytes();
  const auto n_generated =
      static_cast<double>(options.workload.n_batch * options.workload.n_output_tokens);
  std::vector<double> gaps;
  std::vector<double> itl;
  for (const auto& run : runs) {
    row.samples_tokens_per_s.push_back(n_generated / run.total_ms * 1e3);
    gaps.insert(gaps.end(), run.gaps_ms.begin(), run.gaps_ms.end());
    itl.push_back((run.total_ms - run.ttft_ms) /
                  static_cast<double>(options.workload.n_output_tokens - 1));
  }
  row.tokens_per_s = median(row.samples_tokens_per_s);
  row.ttft_ms = median_of(runs, [](const Run& run) { return run.ttft_ms; });
  row.itl_ms = median(itl);
  row.itl_ms_median = median(gaps);
  row.itl_ms_p99 = quantile(gaps, 0.99);
  row.weight_bytes_per_s = static_cast<double>(streamed_weight_bytes) / row.itl_ms * 1e3;
  row.launches_per_step = static_cast<std::int64_t>(runs.back().n_decode_launches) /
                          std::max<std::int64_t>(1, runs.back().n_counted_steps);
  return row;
}

void check(const EndToEndOptions& options) {
  if (options.workload.n_output_tokens < 2)
    throw Error("an output of {} tokens; expected at least 2, which have a time between them",
                options.workload.n_output_tokens);
  if (options.modes.empty())
    throw Error("no mode to measure; expected auto, eager, compiled or graph");
}

// "auto" by its name. What is refused is refused before anything long begins.
std::vector<Variant> variants_of(const EndToEndOptions& options, const device::Device& device) {
  std::vector<std::string> modes;
  for (const auto& mode : options.modes) {
    modes.push_back(program::resolve_mode(mode, device.info().target));
    if (modes.back() == "graph" && !device.can_capture())
      throw Error("mode \"graph\": {} cannot capture steps; leave it out", device.info().name);
  }
  if (std::set(modes.begin(), modes.end()).size() != modes.size())
    throw Error("a mode is named twice: {}", fmt::join(modes, ", "));
  std::vector<Variant> variants;
  for (const auto& mode : modes) {
    variants.push_back({mode, options.engine.is_tuned});
    if (options.compares_tuning) variants.push_back({mode, !options.engine.is_tuned});
  }
  return variants;
}

}  // namespace

EndToEndResult run_end_to_end(const EndToEndOptions& options) {
  check(options);
  const auto config = model::ModelConfig::load(options.engine.model_dir);
  Devices devices;
  for (auto& device :
       device::open_devices({.name = options.engine.device, .n_threads = options.engine.n_threads}))
    devices.push_back(std::make_unique<RecordingDevice>(std::move(device)));
  auto& device = *devices[0];
  const auto variants = variants_of(options, device);
  EndToEndResult result;
  result.device = device.info();
  result.n_devices = devices.size();
  const auto quantization = program::quantization_of(config, options.engine.quantize);
  result.weights = weights_name(config, quantization);
  result.streamed_weight_bytes = streamed_weight_bytes(config, quantization);
  result.limits = of_devices(measure_limits(device, config, options.engine,
                                            static_cast<std::size_t>(result.streamed_weight_bytes)),
                             devices.size());

  // Where memory holds them all, they take turns, so that a machine that slows down slows all.
  std::vector<OpenMode> open;
  std::vector<std::vector<Run>> runs(variants.size());
  const auto run_all = [&](std::size_t first) {
    for (int i = 0; i < options.n_warmup + options.n_repeats; ++i)
      for (std::size_t m = 0; m < open.size(); ++m) {
        auto run = generate_once(*open[m].runner, device, config, options);
        if (i >= options.n_warmup) runs[first + m].push_back(std::move(run));
      }
    for (std::size_t m = 0; m < open.size(); ++m)
      result.rows.push_back(
          summarise(open[m], runs[first + m], options, result.streamed_weight_bytes));
    open.clear();
  };
  std::size_t first = 0;
  for (std::size_t i = 0; i < variants.size(); ++i) {
    // As much again as the last one took, and some of it for what a driver keeps.
    if (!open.empty() && device.free_bytes() < open.back().device_bytes / devices.size() / 4 * 5) {
      run_all(first);
      first = i;
    }
    open.push_back(open_mode(devices, config, options, variants[i]));
  }
  run_all(first);
  if (options.must_prove) {
    std::vector<const RecordingDevice*> recorded;
    for (const auto& each : devices) recorded.push_back(each.get());
    result.proof = prove(recorded);
  }
  return result;
}

}  // namespace nereid::measure
