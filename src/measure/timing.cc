#include "measure/timing.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace nereid::measure {

namespace {

// `n` runs of the work, captured where the device can.
class Repeated {
 public:
  Repeated(device::Device& device, const std::function<void()>& queue, std::int64_t n)
      : device_(device),
        queue_(queue),
        n_(n),
        begin_(device.make_event()),
        end_(device.make_event()) {
    if (device.can_capture()) captured_ = device.capture([&] { queue_all(); });
  }

  // Of one run.
  double seconds() {
    device_.record(*begin_);
    if (captured_)
      device_.replay(*captured_);
    else
      queue_all();
    device_.record(*end_);
    device_.wait(*begin_);
    device_.wait(*end_);
    constexpr double kMsPerSecond = 1e3;
    return device_.ms_between(*begin_, *end_) / kMsPerSecond / static_cast<double>(n_);
  }

 private:
  void queue_all() const {
    for (std::int64_t i = 0; i < n_; ++i) queue_();
  }

  device::Device& device_;
  const std::function<void()>& queue_;
  std::int64_t n_;
  std::unique_ptr<device::Event> begin_, end_;
  std::unique_ptr<device::CapturedWork> captured_;
};

// The work as often as takes `target_ms`, so that clocks and captures cost nothing beside it.
Repeated calibrated(device::Device& device, const std::function<void()>& queue, double target_ms,
                    std::int64_t max_queued) {
  queue();  // what is loaded when first used is there then
  device.synchronize();
  constexpr std::int64_t kTrials = 2;
  Repeated trial(device, queue, kTrials);
  trial.seconds();
  const double once = std::max(trial.seconds(), 1e-9);
  return {device, queue,
          std::clamp<std::int64_t>(std::llround(target_ms / 1e3 / once), 1, max_queued)};
}

}  // namespace

std::vector<double> time_launches(device::Device& device, const std::function<void()>& queue,
                                  const TimingOptions& options) {
  auto work = calibrated(device, queue, options.target_ms, options.max_queued);
  work.seconds();  // brings clocks up
  std::vector<double> samples;
  for (int i = 0; i < options.n_repeats; ++i) samples.push_back(work.seconds());
  return samples;
}

std::vector<std::vector<double>> time_in_turns(device::Device& device,
                                               std::span<const std::function<void()>> works,
                                               const TurnOptions& options,
                                               const std::function<bool()>& go_on) {
  std::vector<Repeated> repeated;
  for (const auto& work : works) {
    if (!go_on()) return {};
    repeated.push_back(calibrated(device, work, options.target_ms, options.max_queued));
  }
  std::vector<std::vector<double>> samples(works.size());
  std::vector<bool> is_out(works.size());
  for (int round = 0; round < options.n_rounds; ++round) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      if (is_out[i]) continue;
      if (!go_on()) return {};
      samples[i].push_back(repeated[i].seconds());
    }
    if (round == 0) continue;
    const auto worst = [](const auto& of_one) { return *std::ranges::max_element(of_one); };
    double limit = worst(samples[0]);
    for (const auto& of_one : samples) limit = std::min(limit, worst(of_one));
    for (std::size_t i = 0; i < works.size(); ++i)
      is_out[i] = *std::ranges::min_element(samples[i]) > options.give_up * limit;
  }
  return samples;
}

}  // namespace nereid::measure
