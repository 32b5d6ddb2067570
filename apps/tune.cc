// nereid tune: measures the kernels' tile sizes here, and writes them where the build finds them.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "measure/tuner.h"

namespace nereid::apps {

namespace {

struct TuneArguments {
  ModelArguments model;
  measure::TuneOptions tune;
  std::string out_dir = "tuning";
};

std::string line_of(const measure::TunedLaunch& launch) {
  return fmt::format("{} {} ({}), {} rows: {:.2f} us, best of {} choices {:.2f}", launch.kernel,
                     launch.name, launch.shape, launch.n_rows, launch.before_us, launch.n_choices,
                     launch.best_us);
}

// A bar where somebody watches, else a line for each launch.
class Progress {
 public:
  ~Progress() { clear(); }

  void show(const measure::TuneProgress& progress) {
    if (!is_terminal_) {
      if (progress.finished != nullptr)
        fmt::print(stderr, "{}/{} {}\n", progress.n_done, progress.n_total,
                   line_of(*progress.finished));
      return;
    }
    constexpr std::size_t kBarWidth = 30;
    constexpr std::size_t kTextWidth = 40;
    const auto filled = progress.n_done * kBarWidth / std::max<std::size_t>(progress.n_total, 1);
    const auto text =
        fmt::format("tuning kernels [{:=<{}}{: <{}}] {}/{} {}", "", filled, "", kBarWidth - filled,
                    progress.n_done, progress.n_total, progress.text.substr(0, kTextWidth));
    if (text == shown_) return;
    fmt::print(stderr, "\r\033[K{}", text);
    std::fflush(stderr);
    shown_ = text;
  }

  void clear() {
    if (!shown_.empty()) fmt::print(stderr, "\r\033[K");
    shown_.clear();
  }

 private:
  bool is_terminal_ = ::isatty(STDERR_FILENO) == 1;
  std::string shown_;
};

// Of the table for people; the first are words, the others numbers, the last is words again.
constexpr std::size_t kNColumns = 9;
constexpr std::size_t kNTextColumns = 3;

std::string table_text(const measure::TuneResult& result) {
  std::vector<std::array<std::string, kNColumns>> lines{
      {"kernel", "of", "shape", "rows", "choices", "us now", "us best", "gain", "choice"}};
  for (const auto& launch : result.launches) {
    std::string changes;
    for (const auto& [name, value] : launch.changes)
      changes += fmt::format("{}{}={}", changes.empty() ? "" : " ", name, value);
    const bool is_measured = launch.before_us > 0;
    const auto figure = [&](double value) {
      return is_measured ? fmt::format("{:.2f}", value) : std::string("-");
    };
    lines.push_back({launch.kernel, launch.name, launch.shape, std::to_string(launch.n_rows),
                     std::to_string(launch.n_choices), figure(launch.before_us),
                     figure(launch.best_us),
                     is_measured ? fmt::format("{:.1f} %", 100 * launch.gain()) : "-",
                     !is_measured      ? "-"
                     : launch.has_gain ? changes
                                       : "as it is"});
  }
  std::array<std::size_t, kNColumns> widths{};
  for (const auto& line : lines)
    for (std::size_t i = 0; i < kNColumns; ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string text;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i + 1 < kNColumns; ++i)
      text += i < kNTextColumns ? fmt::format("{:<{}}  ", line[i], widths[i])
                                : fmt::format("{:>{}}  ", line[i], widths[i]);
    text += line.back() + "\n";
  }
  return text;
}

int run_tune(TuneArguments arguments) {
  auto& options = arguments.tune;
  options.engine = resolve(arguments.model);
  options.date = utc_text("%Y-%m-%d");
  Progress progress;
  InterruptFlag interrupt;
  const auto result = measure::run_tune(options, [&](const measure::TuneProgress& now) {
    progress.show(now);
    return !interrupt.is_set();
  });
  progress.clear();
  if (result.was_stopped) {
    fmt::print(stderr, "stopped; what was measured is kept in {}: the same command goes on\n",
               result.state_path.string());
    return 1;
  }
  if (result.n_refused > 0)
    fmt::print(stderr, "left out, since they do not compile: {} choices\n", result.n_refused);
  if (!options.compile_dir.empty()) {
    fmt::print(stderr, "{}: measure with --bundle, on a machine with a device of {}\n",
               options.compile_dir.string(), options.target);
    return 0;
  }
  write_out(table_text(result));
  if (options.only_planned) return 0;
  std::size_t n_measured = 0;
  for (const auto& launch : result.launches) n_measured += launch.n_measured;
  fmt::print(stderr, "{} choices measured now, the others known from {}\n", n_measured,
             result.state_path.string());
  const auto written = write_tables(result, options.target, arguments.out_dir);
  for (const auto& path : written) fmt::print(stderr, "wrote {}\n", path.string());
  fmt::print(stderr, "{}\n",
             written.empty() ? "nothing gains enough: no table is changed"
                             : "build nereid anew to use them (./dev build)");
  return 0;
}

}  // namespace

void add_tune(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<TuneArguments>();
  auto& options = arguments->tune;
  CLI::App& command =
      *app.add_subcommand("tune", "Measure the kernels' tile sizes on this machine");
  command.footer(
      "\nNeeds config.json only, and Python with the pinned Triton (or --bundle). Each launch of "
      "the model's "
      "steps "
      "is timed\nwith every choice that its kernel allows; rows that gain are merged into "
      "DIR/TARGET/KERNEL.json.\nStopped, it goes on where it was.\n"
      "Examples:\n  nereid tune demo --target cpu --rows 1,64\n"
      "  nereid tune configs/llama3-8b --target cuda:90 --kernel linear_tiled --rows 512,1024");
  add_model(command, arguments->model);
  command.add_option("--target", options.target, "Of the device here: cpu, cuda:90")
      ->required()
      ->type_name("NAME");
  command
      .add_option("--kernel", options.kernels,
                  "Only this kernel; may be repeated; default: all that leave a choice")
      ->allow_extra_args(false)
      ->type_name("NAME");
  command
      .add_option("--rows", options.rows,
                  "Tokens in a step: up to 16 of as many sequences, else of one")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(in_range(engine::ranges::kCount))
      ->type_name("LIST")
      ->capture_default_str();
  command
      .add_option("--mode", arguments->model.options.mode, "As the model is planned in this mode")
      ->type_name("NAME")
      ->capture_default_str();
  add_quantize(command, arguments->model.options.quantize);
  add_activations(command, arguments->model.options.activations);
  add_skipped_passes(command, arguments->model.options.skip_passes);
  command.add_option("--out", arguments->out_dir, "Where the tables are")
      ->type_name("DIR")
      ->capture_default_str();
  command
      .add_option("--threads", arguments->model.options.n_threads,
                  "Threads of the cpu device; 0: all")
      ->check(in_range(engine::ranges::kThreads))
      ->capture_default_str();
  command
      .add_option("--rounds", options.n_rounds,
                  "Turns of each choice, of which the median counts; the best take as many again")
      ->check(in_range(engine::ranges::kCount))
      ->capture_default_str();
  command
      .add_option("--min-gain", options.min_gain,
                  "Part of the time that a row must save to be kept")
      ->check(in_range(engine::ranges::kPart))
      ->capture_default_str();
  command
      .add_option("--jobs", options.n_jobs,
                  "Compilers running at the same time; 0: one a processor")
      ->check(in_range(engine::ranges::kJobs))
      ->capture_default_str();
  command
      .add_option("--state", options.state_path,
                  "What was measured, a line a choice; default: in the user's cache")
      ->type_name("FILE");
  CLI::Option* compile_to =
      command
          .add_option("--compile-to", options.compile_dir,
                      "Compile all choices into this directory and stop; needs no such device")
          ->type_name("DIR");
  command
      .add_option("--bundle", arguments->model.options.bundle_dir,
                  "Directory that --compile-to made; without it they are compiled here")
      ->type_name("DIR")
      ->excludes(compile_to);
  command.add_flag("--fresh", options.is_fresh, "Measure what is known, too");
  command.add_flag("--dry-run", options.only_planned, "Say what there is to measure, and stop");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_tune(*arguments); };
  });
}

}  // namespace nereid::apps
