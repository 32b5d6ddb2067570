#include "measure/tuner.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>

#include "base/error.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/quantile.h"
#include "kernel/builtin.h"
#include "kernel/bundle_source.h"
#include "measure/launch_bench.h"
#include "measure/timing.h"
#include "measure/tune_plan.h"
#include "measure/tune_state.h"

namespace nereid::measure {

namespace {

namespace fs = std::filesystem;

// Keys of a decoding sequence.
constexpr std::int64_t kDecodeContext = 512;
// Choices that race once more, the present one among them: the best of many is good luck in part.
constexpr std::size_t kNFinalists = 3;
// Times as many rounds as the first race has.
constexpr int kFinalRounds = 2;
constexpr double kUsPerSecond = 1e6;
// In the state: the device cannot run it.
constexpr double kImpossible = -1;
std::string folder_of(std::string target) {
  std::ranges::replace(target, ':', '-');
  return target;
}

std::vector<StepShape> steps_of(const TuneOptions& options) {
  const auto config = model::ModelConfig::load(options.engine.model_dir);
  std::vector<StepShape> steps;
  for (const auto n_rows : options.rows) {
    if (n_rows < 1 || n_rows > config.max_context_tokens)
      throw Error("--rows {}: expected 1 to {}, the model's context", n_rows,
                  config.max_context_tokens);
    steps.push_back(
        StepPlanner::shape_of(n_rows, std::min(kDecodeContext, config.max_context_tokens)));
  }
  return steps;
}

using Requests = std::vector<kernel::KernelRequest>;

class Tuner {
 public:
  Tuner(const TuneOptions& options, const TuneObserver& observe)
      : options_(options),
        observe_(observe),
        steps_(steps_of(options)),
        planner_(options.engine, options.target, steps_),
        contests_(plan_contests(planner_, steps_, options.kernels)),
        state_(options.state_path.empty()
                   ? kernel::cache_dir() / "tuning" / (folder_of(options.target) + ".jsonl")
                   : options.state_path) {
    for (const auto& contest : contests_) n_total_ += contest.candidates.size();
  }

  TuneResult run() {
    TuneResult result;
    result.state_path = state_.path();
    for (const auto& contest : contests_) {
      auto& launch = result.launches.emplace_back();
      launch.kernel = contest.kernel;
      launch.name = contest.name;
      launch.shape = contest.shape;
      launch.n_rows = contest.step.n_tokens();
      launch.n_choices = contest.candidates.size();
      launch.row.when = contest.when;
    }
    if (options_.only_planned) return result;
    if (!options_.compile_dir.empty()) {
      Requests requests;
      for (const auto& contest : contests_) append(requests, contest);
      result.was_stopped = !compile(requests);
      result.n_refused = refused_.size();
      return result;
    }
    device_ = open_device_of(options_.target, options_.engine.n_threads);
    result.was_stopped = !measure(result.launches);
    result.n_refused = refused_.size();
    return result;
  }

 private:
  bool tell(const std::string& text, const TunedLaunch* finished = nullptr,
            std::size_t n_halfway = 0) const {
    return observe_({n_done_ + n_halfway, n_total_, text, finished});
  }

  static void append(Requests& requests, const Contest& contest) {
    requests.insert(requests.end(), contest.candidates.begin(), contest.candidates.end());
  }

  // ---- compiling: every choice in one bundle; what does not compile is no choice

  // False if told to stop.
  bool compile(Requests& requests) {
    if (!options_.engine.bundle_dir.empty()) return take_bundle(requests);
    if (!tell(fmt::format("compiling {} choices", requests.size()))) return false;
    try {
      bundle_ = bundle_of(requests);
      return true;
    } catch (const Error&) {
      if (!tell("compiling what is chosen now")) return false;
    }
    // Without these nothing can be said, whatever the reason is.
    Requests present;
    for (const auto& contest : contests_) present.push_back(contest.candidates[0]);
    bundle_of(present);
    if (!find_refused(requests)) return false;
    std::erase_if(requests, [&](const auto& request) { return refused_.contains(request.key()); });
    bundle_ = bundle_of(requests);
    return true;
  }

  // Halves until what does not compile is alone; what compiled is found again. False if told to
  // stop.
  bool find_refused(std::span<const kernel::KernelRequest> requests) {
    if (!tell(fmt::format("compiling {} choices", requests.size()))) return false;
    try {
      bundle_of(requests);
      return true;
    } catch (const Error&) {
      if (requests.size() == 1) {
        refused_.insert(requests[0].key());
        return tell("");
      }
    }
    const auto half = requests.size() / 2;
    return find_refused(requests.first(half)) && find_refused(requests.subspan(half));
  }

  kernel::Bundle bundle_of(std::span<const kernel::KernelRequest> requests) const {
    Requests wanted(requests.begin(), requests.end());
    wanted.push_back(planner_.fill_request());
    if (!options_.compile_dir.empty())
      return kernel::compile_bundle(options_.target, "", wanted, options_.compile_dir,
                                    options_.n_jobs);
    return kernel::find_bundle(
        planner_.tables().specs, options_.target, device_->info().isa, wanted,
        {.model_dir = {},
         .bundle_dir = {},
         .command = fmt::format("nereid compile {}", options_.engine.model_dir.string()),
         .n_jobs = options_.n_jobs});
  }

  // Of a machine that has a compiler. What it lacks did not compile there.
  bool take_bundle(const Requests& requests) {
    const auto& dir = options_.engine.bundle_dir;
    bundle_ = kernel::Bundle::open(dir, device_->info().isa);
    const auto missing = kernel::missing_keys(*bundle_, planner_.tables().specs, requests);
    refused_ = {missing.begin(), missing.end()};
    Requests needed{planner_.fill_request()};
    for (const auto& contest : contests_) needed.push_back(contest.candidates[0]);
    const auto lacking = kernel::missing_keys(*bundle_, planner_.tables().specs, needed);
    if (bundle_->target() != options_.target || !lacking.empty())
      throw Error(
          "{}, of target {}, lacks {} of the {} kernels that are chosen now; make it with this "
          "version and the same model, rows and kernels: nereid tune ... --compile-to {}",
          dir.string(), bundle_->target(), lacking.size(), needed.size(), dir.string());
    return true;
  }

  // ---- measuring

  // All that the time depends on, of each choice.
  std::vector<std::string> ids_of(const Contest& contest) const {
    const bool is_cpu = kernel::target_family(options_.target) == "cpu";
    std::vector<std::string> ids;
    for (const auto& request : contest.candidates)
      ids.push_back(sha256_hex(fmt::format(
          "{}\n{}\n{}\n{}\n{}\n{}\n{} {} {} {}\n{}", options_.target, device_->info().description,
          planner_.tables().specs.triton_version(), is_cpu ? kernel::builtin_ttir_sha256() : "",
          planner_.tables().specs.get(contest.kernel).source_sha256, conditions_text(contest.when),
          contest.step.n_sequences, contest.step.n_query, contest.step.n_context, contest.n_logits,
          request.key())));
    return ids;
  }

  bool is_measured(const std::vector<std::string>& ids) const {
    return !options_.is_fresh &&
           std::ranges::all_of(ids, [&](const auto& id) { return state_.find(id).has_value(); });
  }

  // False if told to stop.
  bool measure(std::vector<TunedLaunch>& launches) {
    Requests requests;
    std::vector<std::vector<std::string>> ids;
    std::vector<std::size_t> pending;
    for (std::size_t i = 0; i < contests_.size(); ++i) {
      ids.push_back(ids_of(contests_[i]));
      if (is_measured(ids[i])) {
        n_done_ += contests_[i].candidates.size();
        judge(contests_[i], ids[i], launches[i]);
      } else {
        pending.push_back(i);
        append(requests, contests_[i]);
      }
    }
    if (pending.empty()) return true;
    if (!compile(requests)) return false;
    LaunchBench bench(planner_, *device_, std::move(*bundle_));
    for (const auto i : pending) {
      const auto times = race(bench, contests_[i]);
      if (!times) return false;
      keep(contests_[i], ids[i], *times);
      judge(contests_[i], ids[i], launches[i]);
      launches[i].n_measured = times->size();
      n_done_ += times->size();
      if (!tell("", &launches[i])) return false;
    }
    return true;
  }

  static std::string text_of(const Contest& contest) {
    return fmt::format("{} {}, {} rows", contest.kernel, contest.name, contest.step.n_tokens());
  }

  // Microseconds of every choice, or nothing if told to stop.
  std::optional<std::vector<double>> race(LaunchBench& bench, const Contest& contest) const {
    const auto step = bench.make_step(contest.step, contest.n_logits);
    std::vector<std::size_t> runners;  // indices of candidates; the present choice is the first
    std::vector<LaunchBench::Copies> copies;
    for (std::size_t i = 0; i < contest.candidates.size(); ++i) {
      if (refused_.contains(contest.candidates[i].key())) continue;
      auto launch = contest.launch;
      launch.choice = std::make_shared<const program::Choice>(contest.candidates[i],
                                                              contest.candidates[i].key());
      try {
        copies.push_back(bench.copies_of(step, launch));
        runners.push_back(i);
      } catch (const Error&) {
        if (i == 0) throw;  // what is chosen now must run
      }
    }
    // Fewer where some are out of the race early; a little more than all, so that it ends below 1.
    const auto n_rounds = static_cast<std::size_t>(options_.n_rounds);
    const auto n_expected =
        runners.size() * (n_rounds + 1) + kNFinalists * (kFinalRounds * n_rounds + 1) + 1;
    std::size_t n_samples = 0;
    const auto samples_of = [&](const std::vector<std::size_t>& entrants, int n_turns) {
      std::vector<std::function<void()>> works;
      for (const auto entrant : entrants) works.push_back(copies[entrant].queue);
      auto samples = time_in_turns(
          *device_, works, {.n_rounds = n_turns, .target_ms = LaunchBench::kSampleMs}, [&] {
            ++n_samples;
            return tell(text_of(contest), nullptr, runners.size() * n_samples / n_expected);
          });
      for (std::size_t i = 0; i < samples.size(); ++i)
        for (auto& sample : samples[i])
          sample *= kUsPerSecond / static_cast<double>(copies[entrants[i]].n);
      return samples;
    };

    std::vector<std::size_t> entrants(runners.size());
    for (std::size_t i = 0; i < entrants.size(); ++i) entrants[i] = i;
    const auto first = samples_of(entrants, options_.n_rounds);
    if (first.empty()) return std::nullopt;
    std::vector<double> us(first.size());
    std::ranges::transform(first, us.begin(), [](const auto& samples) { return median(samples); });

    // The present choice and the best others once more, compared within each round.
    std::ranges::sort(entrants, {}, [&](std::size_t i) { return i == 0 ? 0.0 : us[i]; });
    entrants.resize(std::min(entrants.size(), kNFinalists));
    const auto last = samples_of(entrants, kFinalRounds * options_.n_rounds);
    if (last.empty()) return std::nullopt;
    us[0] = median(last[0]);
    double slowest = us[0];
    for (std::size_t f = 1; f < entrants.size(); ++f) {
      std::vector<double> ratios;
      for (std::size_t r = 0; r < std::min(last[0].size(), last[f].size()); ++r)
        ratios.push_back(last[f][r] / last[0][r]);
      us[entrants[f]] = us[0] * median(ratios);
      slowest = std::max(slowest, us[entrants[f]]);
    }
    // What was not in the last race does not win it.
    std::vector<double> result(contest.candidates.size(), kImpossible);
    for (std::size_t i = 0; i < us.size(); ++i)
      result[runners[i]] =
          std::ranges::find(entrants, i) != entrants.end() ? us[i] : std::max(us[i], slowest);
    return result;
  }

  void keep(const Contest& contest, const std::vector<std::string>& ids,
            const std::vector<double>& us) {
    for (std::size_t i = 0; i < us.size(); ++i) {
      auto what = fmt::format("{} {}", text_of(contest), conditions_text(contest.when));
      for (const auto& [name, value] : choice_of(contest.candidates[i]))
        what += fmt::format(" {}={}", name, value);
      state_.add(ids[i], {us[i], options_.date}, what);
    }
  }

  // ---- judging

  // The values of the tunable names, in the order of the spec.
  std::vector<std::pair<std::string, std::int64_t>> choice_of(
      const kernel::KernelRequest& request) const {
    std::vector<std::pair<std::string, std::int64_t>> choice;
    for (const auto& param : planner_.tables().specs.get(request.kernel).params)
      if (param.is_tuned) choice.emplace_back(param.name, request.constexprs.at(param.name));
    choice.emplace_back("num_warps", request.num_warps);
    choice.emplace_back("num_stages", request.num_stages);
    return choice;
  }

  void judge(const Contest& contest, const std::vector<std::string>& ids,
             TunedLaunch& result) const {
    std::size_t best = 0;
    std::vector<MeasuredTime> times;
    for (const auto& id : ids) {
      times.push_back(state_.find(id).value());
      if (times.back().us > 0 && times.back().us < times[best].us) best = times.size() - 1;
    }
    result.before_us = times[0].us;
    result.best_us = times[best].us;
    result.has_gain = best != 0 && result.gain() >= options_.min_gain;
    const auto before = choice_of(contest.candidates[0]);
    result.row.choice = choice_of(contest.candidates[best]);
    for (std::size_t i = 0; i < before.size(); ++i)
      if (before[i] != result.row.choice[i]) result.changes.push_back(result.row.choice[i]);
    result.row.note =
        fmt::format("{:.4g} us at {} rows, {:.4g} before; {}, {}", result.best_us, result.n_rows,
                    result.before_us, device_->info().description, times[best].date);
  }

  const TuneOptions& options_;
  const TuneObserver& observe_;
  const std::vector<StepShape> steps_;
  const StepPlanner planner_;
  const std::vector<Contest> contests_;
  TuneState state_;
  std::unique_ptr<device::Device> device_;
  std::optional<kernel::Bundle> bundle_;
  std::set<std::string> refused_;  // keys of choices that do not compile
  std::size_t n_done_ = 0, n_total_ = 0;
};

}  // namespace

TuneResult run_tune(const TuneOptions& options, const TuneObserver& observe) {
  if (options.rows.empty()) throw Error("no number of rows to tune for; expected at least one");
  return Tuner(options, observe).run();
}

std::vector<fs::path> write_tables(const TuneResult& result, const std::string& target,
                                   const fs::path& dir) {
  std::map<std::string, std::vector<MeasuredRow>> by_kernel;
  for (const auto& launch : result.launches)
    if (launch.has_gain) by_kernel[launch.kernel].push_back(launch.row);
  std::vector<fs::path> written;
  for (const auto& [kernel, rows] : by_kernel) {
    const auto path = dir / folder_of(target) / (kernel + ".json");
    nlohmann::ordered_json table;
    if (fs::exists(path)) {
      table = nlohmann::ordered_json::parse(read_text_file(path), nullptr, false);
      if (table.is_discarded()) throw Error("{} is not JSON; mend or remove it", path.string());
    }
    table = merged_table(std::move(table), kernel, target, rows, path.string());
    fs::create_directories(path.parent_path());
    write_text_file(path, tuning_text(table));
    written.push_back(path);
  }
  return written;
}

}  // namespace nereid::measure
