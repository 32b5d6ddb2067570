// Goal: what a model needs of the kernel compiler, known without weights and without the device.
#pragma once

#include <string>
#include <vector>

#include "engine/runner.h"
#include "graph/plan.h"
#include "kernel/request.h"
#include "model/config.h"

namespace nereid::engine {

// Every kernel variant that any step of this model can launch on `target` ("cpu", "cuda:90",
// "hip:gfx942"). With `tables` where they are at hand: reading them takes milliseconds.
std::vector<kernel::KernelRequest> requests_for(const model::ModelConfig& config,
                                                const std::string& target,
                                                const RunnerOptions& options,
                                                const graph::KernelTables& tables);
std::vector<kernel::KernelRequest> requests_for(const model::ModelConfig& config,
                                                const std::string& target,
                                                const RunnerOptions& options);

// Of all that decides requests_for besides target and program; empty where the config was not read
// from a file.
std::string plan_id(const model::ModelConfig& config, const RunnerOptions& resolved);

// The same for every mode: what `nereid compile` puts into a bundle.
std::vector<kernel::KernelRequest> requests_for_all_modes(const model::ModelConfig& config,
                                                          const std::string& target,
                                                          const RunnerOptions& options);

// For people: the graph before the passes and after each, with the time it took; then what a
// decoding step and a prefill step run.
std::string describe_passes(const model::ModelConfig& config, const std::string& target,
                            const RunnerOptions& options);

// For people: what was asked, what was chosen and why; each launch with its variant, grid, bytes
// and flops.
std::string describe_plans(const model::ModelConfig& config, const std::string& target,
                           const RunnerOptions& options);

}  // namespace nereid::engine
