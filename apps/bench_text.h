// Goal: what was measured, for people and for programs; bench/README.md describes the rows.
// Non-goal: measuring (src/measure).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "measure/attention_bench.h"
#include "measure/end_to_end.h"
#include "measure/kernel_bench.h"
#include "measure/serve_bench.h"
#include "measure/sweep.h"

namespace nereid::apps {

// `model`: as the user wrote it.
nlohmann::ordered_json bench_json(const measure::EndToEndResult& result,
                                  const measure::EndToEndOptions& options,
                                  const std::string& model);
nlohmann::ordered_json bench_json(const measure::KernelBenchResult& result,
                                  const std::string& model);

nlohmann::ordered_json bench_json(const measure::ServeBenchResult& result,
                                  const measure::ServeWorkload& workload, const std::string& model);

nlohmann::ordered_json bench_json(const measure::SweepResult& result, const std::string& model);

nlohmann::ordered_json bench_json(const measure::AttentionBenchResult& result,
                                  const std::string& model);

std::string table_text(const measure::AttentionBenchResult& result);
std::string table_text(const measure::SweepResult& result);
std::string table_text(const measure::ServeBenchResult& result);
std::string table_text(const measure::EndToEndResult& result,
                       const measure::EndToEndOptions& options);
std::string table_text(const measure::KernelBenchResult& result);
// The line of --prove.
std::string proof_text(const measure::Proof& proof);

}  // namespace nereid::apps
