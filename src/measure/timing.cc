#include "measure/timing.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "base/error.h"

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
    if (device.can_capture()) captured_ = device.capture([this] { queue_all(); });
  }

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
    return device_.ms_between(*begin_, *end_) / kMsPerSecond;
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

}  // namespace

std::vector<double> time_launches(device::Device& device, const std::function<void()>& queue,
                                  const TimingOptions& options) {
  queue();  // what is loaded when first used is there then
  device.synchronize();
  constexpr std::int64_t kTrials = 2;
  Repeated trial(device, queue, kTrials);
  trial.seconds();
  const double once = std::max(trial.seconds() / static_cast<double>(kTrials), 1e-9);
  const auto n =
      std::clamp<std::int64_t>(std::llround(options.target_ms / 1e3 / once), 1, options.max_queued);
  Repeated work(device, queue, n);
  work.seconds();  // brings clocks up
  std::vector<double> samples;
  for (int i = 0; i < options.n_repeats; ++i)
    samples.push_back(work.seconds() / static_cast<double>(n));
  return samples;
}

std::vector<std::vector<double>> time_in_turns(device::Device& device,
                                               std::span<const std::function<void()>> works,
                                               const TurnOptions& options,
                                               const std::function<bool()>& go_on) {
  std::vector<std::unique_ptr<Repeated>> repeated;
  std::vector<std::int64_t> n_repeats;
  for (const auto& work : works) {
    if (!go_on()) return {};
    work();
    device.synchronize();
    const double once = std::max(Repeated(device, work, 1).seconds(), 1e-9);
    n_repeats.push_back(std::clamp<std::int64_t>(std::llround(options.target_ms / 1e3 / once), 1,
                                                 options.max_queued));
    repeated.push_back(std::make_unique<Repeated>(device, work, n_repeats.back()));
  }
  std::vector<std::vector<double>> samples(works.size());
  std::vector<bool> is_out(works.size());
  for (int round = 0; round < options.n_rounds; ++round) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      if (is_out[i]) continue;
      if (!go_on()) return {};
      samples[i].push_back(repeated[i]->seconds() / static_cast<double>(n_repeats[i]));
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
