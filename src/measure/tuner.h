// Goal: the choices of the kernels' tuned constexprs, measured here: for each launch of a model's
// steps all that its Spec's space allows, in turns, against what would be chosen anyway.
// Non-goal: whole steps (end_to_end.h); choices that change what a kernel computes.
// Rejected: a search that learns. Spaces are small, kernels are quick, and a table of all that was
// measured can be read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "measure/tuning_file.h"
#include "nereid/options.h"

namespace nereid::measure {

struct TuneOptions {
  Options engine;
  std::string target;                // of a device that is here
  std::vector<std::string> kernels;  // empty: all that have a space
  // Tokens of a step: of as many sequences up to 16, else of one. Of numbers that are planned alike
  // (3 and 4) the first counts.
  std::vector<std::int64_t> rows{1, 2, 8, 64, 512};
  std::filesystem::path state_path;  // empty: in the user's cache
  int n_rounds = 5;
  double min_gain = 0.03;
  bool is_fresh = false;      // measure what the state knows, too
  bool only_planned = false;  // say what there is to measure, and measure nothing
  // Not empty: compile all choices into this folder and measure nothing. engine.bundle_dir then
  // brings them to a machine without the compiler. Neither this nor planning needs the device.
  std::filesystem::path compile_dir;
  int n_jobs = 0;    // compilers at the same time; 0: one a processor
  std::string date;  // of the notes
};

struct TunedLaunch {
  std::string kernel, name, shape;
  std::int64_t n_rows = 0;
  std::size_t n_choices = 0;
  std::size_t n_measured = 0;  // in this run
  double before_us = 0, best_us = 0;
  std::vector<std::pair<std::string, std::int64_t>> changes;  // tunables that are chosen otherwise
  bool has_gain = false;
  MeasuredRow row;

  double gain() const { return before_us > 0 ? 1 - best_us / before_us : 0; }
};

struct TuneProgress {
  std::size_t n_done = 0, n_total = 0;    // choices
  std::string text;                       // what is being measured
  const TunedLaunch* finished = nullptr;  // one that was measured just now
};

// Told of progress; false to stop.
using TuneObserver = std::function<bool(const TuneProgress&)>;

struct TuneResult {
  std::vector<TunedLaunch> launches;
  std::filesystem::path state_path;
  std::size_t n_refused = 0;  // choices that did not compile
  bool was_stopped = false;
};

TuneResult run_tune(const TuneOptions& options, const TuneObserver& observe);

// Merges the rows that gain into DIR/<target>/<kernel>.json; the files that were written.
std::vector<std::filesystem::path> write_tables(const TuneResult& result, const std::string& target,
                                                const std::filesystem::path& dir);

}  // namespace nereid::measure
