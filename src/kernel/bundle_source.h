// Goal: a complete bundle for a list of requests: the one asked for, the one beside the model, the
// user's cache, or compiled now by `python -m aot.compile`. With a complete bundle no process is
// started. Objects of a bundle that was brought here are all checked at once; those of the user's
// cache each as it is loaded.
// Non-goal: compiling in this process; fetching bundles from a network.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "kernel/bundle.h"
#include "kernel/request.h"
#include "kernel/spec.h"

namespace nereid::kernel {

// The user's folder for what can be made again: $XDG_CACHE_HOME/nereid or ~/.cache/nereid. An Error
// where the environment names neither.
std::filesystem::path cache_dir();

struct BundleOptions {
  std::filesystem::path model_dir;               // empty: no bundle beside a model
  std::filesystem::path bundle_dir;              // not empty: this bundle or an Error
  std::string command = "nereid compile MODEL";  // which makes one, as errors spell it
  bool may_compile = true;
  int n_jobs = 0;              // 0: the compiler decides
  ProgressSink progress = {};  // of compiling; without one it is shown on stderr
};

// `isa`: DeviceInfo::isa, empty where the target has none: a bundle compiled for more is passed
// over. Variants whose source differs from `specs` are stale and count as missing.
Bundle find_bundle(const SpecTable& specs, const std::string& target, const std::string& isa,
                   std::span<const KernelRequest> requests, const BundleOptions& options);

using PlanRequests = std::function<std::vector<KernelRequest>()>;

// The same for the requests that `plan` works out, which takes a while: of a bundle in the user's
// cache it is remembered that it is complete for `plan_id` (all that decides the requests besides
// the program itself; empty: nothing is remembered), and `plan` is not called again.
Bundle find_planned_bundle(const SpecTable& specs, const std::string& target,
                           const std::string& isa, const std::string& plan_id,
                           const PlanRequests& plan, const BundleOptions& options);

// Compiles `requests` into `out_dir`, for any target; what `nereid compile` does. `isas`: of the
// cpu, levels with commas between; empty: this machine's.
Bundle compile_bundle(const std::string& target, const std::string& isas,
                      std::span<const KernelRequest> requests, const std::filesystem::path& out_dir,
                      int n_jobs = 0, const ProgressSink& progress = {});

// The requests, one a line, sorted, each once.
std::string requests_text(std::span<const KernelRequest> requests);

// What of `requests` the bundle lacks or has from other sources than `specs`; keys.
std::vector<std::string> missing_keys(const Bundle& bundle, const SpecTable& specs,
                                      std::span<const KernelRequest> requests);

}  // namespace nereid::kernel
