#include "apps/bench_text.h"

#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <algorithm>
#include <utility>

#include "apps/output.h"
#include "device/cpu/host.h"
#include "program/attention_designs.h"

namespace nereid::apps {

namespace {

nlohmann::ordered_json limits_json(const measure::Limits& limits) {
  return {{"stream_gb_per_s", limits.stream_bytes_per_s / 1e9},
          {"stream_bytes", limits.stream_bytes},
          {"dot_tflop_per_s", limits.dot_flops_per_s / 1e12},
          {"dot_dtype", dtype_name(limits.dot_dtype)}};
}

nlohmann::ordered_json proof_json(const measure::Proof& proof) {
  return {{"functions", proof.n_functions},
          {"launches", proof.n_launches},
          {"mapped_files", proof.n_mapped_files},
          {"bundles", proof.bundles}};
}

nlohmann::ordered_json machine_json() {
  utsname system{};
  uname(&system);
  return {{"cpu", device::host_cpu_model()},
          {"n_cpus", device::host_cpus().n_usable},
          {"memory_bytes", device::host_memory().total_bytes},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)}};
}

nlohmann::ordered_json device_json(const device::DeviceInfo& info) {
  return {{"name", info.name},
          {"target", info.target},
          {"description", info.description},
          {"memory_bytes", info.memory_bytes},
          {"units", info.n_units}};
}

// "this device reads 12.3"
std::string reads_text(const measure::Limits& limits, std::size_t n_devices) {
  return fmt::format(
      "{} {:.1f}",
      n_devices == 1 ? "this device reads" : fmt::format("{} devices, which read", n_devices),
      limits.stream_bytes_per_s / 1e9);
}

// What every bench prints with --json.
nlohmann::ordered_json document(const device::DeviceInfo& info, const measure::Limits& limits,
                                nlohmann::ordered_json rows, std::size_t n_devices = 1) {
  return {{"machine", machine_json()},
          {"device", device_json(info)},
          {"n_devices", n_devices},
          {"limits", limits_json(limits)},
          {"time", utc_text("%Y-%m-%dT%H:%M:%SZ")},
          {"version", NEREID_VERSION},
          {"rows", std::move(rows)}};
}

nlohmann::ordered_json rows_json(const measure::EndToEndResult& result,
                                 const measure::EndToEndOptions& options,
                                 const std::string& model) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& row : result.rows)
    rows.push_back(
        {{"bench", "e2e"},
         {"engine", "nereid"},
         {"model", model},
         {"weights", result.weights},
         {"mode", row.mode},
         {"tuned", row.is_tuned},
         {"batch", options.workload.n_batch},
         {"prompt", options.workload.n_prompt_tokens},
         {"output", options.workload.n_output_tokens},
         {"repeats", options.n_repeats},
         {"tokens_per_s", row.tokens_per_s},
         {"ttft_ms", row.ttft_ms},
         {"itl_ms", row.itl_ms},
         {"itl_ms_median", row.itl_ms_median},
         {"itl_ms_p99", row.itl_ms_p99},
         {"weight_bytes", result.streamed_weight_bytes},
         {"weight_gb_per_s", row.weight_bytes_per_s / 1e9},
         {"bandwidth_percent", 100 * row.weight_bytes_per_s / result.limits.stream_bytes_per_s},
         {"floor_ms",
          1e3 * double(result.streamed_weight_bytes) / result.limits.stream_bytes_per_s},
         {"launches_per_step", row.launches_per_step},
         {"device_bytes", row.device_bytes},
         {"host_peak_bytes", row.host_peak_bytes},
         {"samples_tokens_per_s", row.samples_tokens_per_s}});
  return rows;
}

// What a row reached, as a part of the limit that binds it.
struct Reached {
  double gb_per_s, tflop_per_s, percent;
  const char* limit;
};

Reached reached(const measure::KernelRow& row, const measure::Limits& limits) {
  const double seconds = row.us * 1e-6;
  const double stream = row.bytes / seconds / limits.stream_bytes_per_s;
  const double dot = row.flops / seconds / limits.dot_flops_per_s;
  return {row.bytes / seconds / 1e9, row.flops / seconds / 1e12, 100 * std::max(stream, dot),
          stream >= dot ? "stream" : "dot"};
}

nlohmann::ordered_json rows_json(const measure::KernelBenchResult& result,
                                 const std::string& model) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& row : result.rows) {
    const auto figures = reached(row, result.limits);
    nlohmann::ordered_json json{{"bench", "kernels"},  {"engine", "nereid"},
                                {"model", model},      {"weights", result.weights},
                                {"op", row.op},        {"name", row.name},
                                {"kernel", row.kernel}};
    if (row.op == "attention")
      json.update({{"batch", row.n_batch}, {"query", row.n_query}, {"context", row.n_context}});
    else
      json.update({{"rows", row.n_rows}, {"n_out", row.n_out}, {"n_in", row.n_in}});
    json.update({{"us", row.us},
                 {"gb_per_s", figures.gb_per_s},
                 {"tflop_per_s", figures.tflop_per_s},
                 {"limit", figures.limit},
                 {"percent", figures.percent},
                 {"grid", row.grid},
                 {"choice", row.choice}});
    rows.push_back(std::move(json));
  }
  return rows;
}

}  // namespace

nlohmann::ordered_json bench_json(const measure::EndToEndResult& result,
                                  const measure::EndToEndOptions& options,
                                  const std::string& model) {
  auto json =
      document(result.device, result.limits, rows_json(result, options, model), result.n_devices);
  if (result.proof) json["proof"] = proof_json(*result.proof);
  return json;
}

nlohmann::ordered_json bench_json(const measure::KernelBenchResult& result,
                                  const std::string& model) {
  return document(result.device, result.limits, rows_json(result, model));
}

std::string table_text(const measure::EndToEndResult& result,
                       const measure::EndToEndOptions& options) {
  std::string text = fmt::format(
      "{}: {}\nbatch {}, prompt {}, output {}; medians of {} repeats after {} warm-up\n"
      "{} GB/s; products: {:.2f} TFLOP/s ({}); a decode step reads "
      "{:.1f} "
      "MB of weights: {:.3f} ms at least\n\n",
      result.device.name, result.device.description, options.workload.n_batch,
      options.workload.n_prompt_tokens, options.workload.n_output_tokens, options.n_repeats,
      options.n_warmup, reads_text(result.limits, result.n_devices),
      result.limits.dot_flops_per_s / 1e12, dtype_name(result.limits.dot_dtype),
      double(result.streamed_weight_bytes) / 1e6,
      1e3 * double(result.streamed_weight_bytes) / result.limits.stream_bytes_per_s);
  text += fmt::format("{:<17} {:>10} {:>10} {:>9} {:>9} {:>9} {:>8} {:>7} {:>9} {:>10}\n", "mode",
                      "tokens/s", "first ms", "next ms", "median", "p99", "GB/s", "% peak",
                      "launches", "memory MB");
  for (const auto& row : result.rows)
    text += fmt::format(
        "{:<17} {:>10.1f} {:>10.2f} {:>9.3f} {:>9.3f} {:>9.3f} {:>8.1f} {:>7.1f} {:>9} {:>10.1f}\n",
        row.mode + (row.is_tuned ? "" : " untuned"), row.tokens_per_s, row.ttft_ms, row.itl_ms,
        row.itl_ms_median, row.itl_ms_p99, row.weight_bytes_per_s / 1e9,
        100 * row.weight_bytes_per_s / result.limits.stream_bytes_per_s, row.launches_per_step,
        double(row.device_bytes) / 1e6);
  if (options.compares_tuning) {
    const auto& tuned = result.rows[0];
    const auto& defaults = result.rows[1];
    text += fmt::format(
        "\ntuning: {:.3f} x the tokens a second of defaults; first token {:.3f} x, next {:.3f} x "
        "as fast\n",
        tuned.tokens_per_s / defaults.tokens_per_s, defaults.ttft_ms / tuned.ttft_ms,
        defaults.itl_ms / tuned.itl_ms);
  }
  if (result.proof) text += "\n" + proof_text(*result.proof);
  return text;
}

std::string proof_text(const measure::Proof& proof) {
  return fmt::format(
      "proved: all {} launches were of {} functions whose objects' SHA-256 stand in {}; none of {} "
      "mapped files is a vendor's compute library\n",
      proof.n_launches, proof.n_functions, fmt::format("{}", fmt::join(proof.bundles, ", ")),
      proof.n_mapped_files);
}

std::string table_text(const measure::KernelBenchResult& result) {
  std::string text = fmt::format(
      "{}: {}\nlimits: {:.1f} GB/s, {:.3f} TFLOP/s ({})\n\n{:<10} {:<24} {:<20} {:>22} {:>11} "
      "{:>9} {:>9} {:>6} {}\n",
      result.device.name, result.device.description, result.limits.stream_bytes_per_s / 1e9,
      result.limits.dot_flops_per_s / 1e12, dtype_name(result.limits.dot_dtype), "op", "name",
      "kernel", "shape", "us", "GB/s", "GFLOP/s", "%", "of");
  for (const auto& row : result.rows) {
    const auto figures = reached(row, result.limits);
    const auto shape = !row.shape.empty() ? row.shape
                       : row.op == "attention"
                           ? fmt::format("B{} Q{} C{}", row.n_batch, row.n_query, row.n_context)
                           : fmt::format("{} x {} x {}", row.n_rows, row.n_out, row.n_in);
    text += fmt::format("{:<10} {:<24} {:<20} {:>22} {:>11.2f} {:>9.1f} {:>9.1f} {:>6.1f} {}\n",
                        row.op, row.name, row.kernel, shape, row.us, figures.gb_per_s,
                        figures.tflop_per_s * 1e3, figures.percent, figures.limit);
  }
  return text;
}

nlohmann::ordered_json bench_json(const measure::ServeBenchResult& result,
                                  const measure::ServeWorkload& workload,
                                  const std::string& model) {
  return {{"machine", machine_json()},
          {"model", model},
          {"device", result.device},
          {"mode", result.mode},
          {"time", utc_text("%Y-%m-%dT%H:%M:%SZ")},
          {"version", NEREID_VERSION},
          {"n_requests", workload.n_requests},
          {"n_at_once", workload.n_at_once},
          {"requests_per_s", workload.requests_per_s},
          {"prompt_tokens", {workload.min_prompt_tokens, workload.max_prompt_tokens}},
          {"answer_tokens", {workload.min_answer_tokens, workload.max_answer_tokens}},
          {"seed", workload.seed},
          {"n_prompt_tokens", result.n_prompt_tokens},
          {"n_answer_tokens", result.n_answer_tokens},
          {"time_s", result.time_s},
          {"tokens_per_s", result.tokens_per_s},
          {"prefill_tokens_per_s", result.prefill_tokens_per_s},
          {"decode_tokens_per_s", result.decode_tokens_per_s},
          {"part_of_alone", result.part_of_alone},
          {"ttft_ms_median", result.ttft_ms_median},
          {"ttft_ms_p99", result.ttft_ms_p99},
          {"itl_ms_median", result.itl_ms_median},
          {"itl_ms_p99", result.itl_ms_p99},
          {"n_steps", result.n_steps},
          {"n_preemptions", result.n_preemptions},
          {"n_cached_tokens", result.n_cached_tokens}};
}

std::string table_text(const measure::ServeBenchResult& result) {
  return fmt::format(
      "{} ({}): {} prompt and {} answer tokens in {:.2f} s, {} steps\n"
      "together          {:9.0f} tokens/s, {:.0f} % of what prompts and answers alone add up to\n"
      "prompts alone     {:9.0f} tokens/s\n"
      "answers alone     {:9.0f} tokens/s\n"
      "first token       {:9.2f} ms median, {:.2f} ms p99\n"
      "between tokens    {:9.2f} ms median, {:.2f} ms p99 ({:.2f} x)\n",
      result.device, result.mode, result.n_prompt_tokens, result.n_answer_tokens, result.time_s,
      result.n_steps, result.tokens_per_s, 100 * result.part_of_alone, result.prefill_tokens_per_s,
      result.decode_tokens_per_s, result.ttft_ms_median, result.ttft_ms_p99, result.itl_ms_median,
      result.itl_ms_p99, result.itl_ms_p99 / result.itl_ms_median);
}

nlohmann::ordered_json bench_json(const measure::SweepResult& result, const std::string& model) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& cell : result.decode)
    rows.push_back({{"bench", "sweep"},
                    {"engine", "nereid"},
                    {"model", model},
                    {"weights", result.weights},
                    {"mode", result.mode},
                    {"sequences", cell.n_sequences},
                    {"context", cell.n_context},
                    {"sampler", cell.sampler},
                    {"step_ms", cell.step_ms},
                    {"step_ms_p99", cell.step_ms_p99},
                    {"floor_ms", cell.floor_ms}});
  for (const auto& cell : result.prompts)
    rows.push_back({{"bench", "sweep"},
                    {"engine", "nereid"},
                    {"model", model},
                    {"weights", result.weights},
                    {"mode", result.mode},
                    {"prompt", cell.n_tokens},
                    {"first_token_ms", cell.first_token_ms}});
  return document(result.device, result.limits, std::move(rows), result.n_devices);
}

std::string table_text(const measure::SweepResult& result) {
  std::string text = fmt::format(
      "{}: {}, mode {}\n{} GB/s\n\n{:>9} {:>8}  {:<12} {:>9} {:>9} {:>9} "
      "{:>8}\n",
      result.device.name, result.device.description, result.mode,
      reads_text(result.limits, result.n_devices), "sequences", "context", "sampler", "step ms",
      "p99", "floor", "x floor");
  for (const auto& cell : result.decode)
    text += fmt::format("{:>9} {:>8}  {:<12} {:>9.3f} {:>9.3f} {:>9.3f} {:>8.2f}\n",
                        cell.n_sequences, cell.n_context, cell.sampler, cell.step_ms,
                        cell.step_ms_p99, cell.floor_ms, cell.step_ms / cell.floor_ms);
  if (!result.prompts.empty())
    text += fmt::format("\n{:>9} {:>15} {:>9}\n", "prompt", "first token ms", "tokens/s");
  for (const auto& cell : result.prompts)
    text += fmt::format("{:>9} {:>15.2f} {:>9.0f}\n", cell.n_tokens, cell.first_token_ms,
                        1e3 * double(cell.n_tokens) / cell.first_token_ms);
  return text;
}

nlohmann::ordered_json bench_json(const measure::AttentionBenchResult& result,
                                  const std::string& model) {
  auto rows = nlohmann::ordered_json::array();
  const auto add = [&](const char* part, nlohmann::ordered_json row) {
    nlohmann::ordered_json all{
        {"bench", "attention"}, {"engine", "nereid"}, {"model", model}, {"part", part}};
    all.update(row);
    rows.push_back(std::move(all));
  };
  for (const auto& row : result.answers)
    add("answers", {{"design", row.design},
                    {"mode", row.mode},
                    {"text", row.text},
                    {"same_ids", row.n_same_ids},
                    {"ids", row.n_ids},
                    {"same_lengths", row.n_same_lengths},
                    {"lengths", row.n_lengths},
                    {"problem", row.problem}});
  for (const auto& [part, launches] : {std::pair("layer", &result.layer), {"sizes", &result.sizes}})
    for (const auto& row : *launches)
      add(part, {{"design", row.design},
                 {"name", row.what},
                 {"variant", row.variant},
                 {"kernel", row.kernel},
                 {"query", row.n_query},
                 {"context", row.n_context},
                 {"us", row.us},
                 {"tflop_per_s", row.flops / row.us / 1e6}});
  return {{"machine", machine_json()},
          {"device", device_json(result.device)},
          {"time", utc_text("%Y-%m-%dT%H:%M:%SZ")},
          {"version", NEREID_VERSION},
          {"rows", std::move(rows)}};
}

std::string table_text(const measure::AttentionBenchResult& result) {
  std::string text = fmt::format("{}: {}, {}\n", result.device.name, result.device.description,
                                 utc_text("%Y-%m-%d"));
  if (!result.answers.empty())
    text += fmt::format("\n{:<15} {:<27} {:<9} {:>7} {:>8}  {:<9} {}\n", "design", "after", "mode",
                        "ids", "lengths", "serves", "text");
  for (const auto& row : result.answers) {
    const auto& design = program::attention_design(row.design);
    const auto what =
        row.problem.empty() ? row.text.substr(0, row.text.find('\n', 1)) : row.problem;
    text += fmt::format("{:<15} {:<27} {:<9} {:>7} {:>8}  {:<9} {}\n", row.design, design.source,
                        row.mode, fmt::format("{}/{}", row.n_same_ids, row.n_ids),
                        fmt::format("{}/{}", row.n_same_lengths, row.n_lengths),
                        design.serves_prompts ? "all" : "decoding", nlohmann::json(what).dump());
  }
  const auto launches = [&](const std::vector<measure::AttentionRow>& rows) {
    text += fmt::format("\n{:<15} {:<24} {:<8} {:<22} {:>7} {:>8} {:>11} {:>10}\n", "design",
                        "name", "variant", "kernel", "queries", "keys", "us", "TFLOP/s");
    for (const auto& row : rows)
      text += fmt::format("{:<15} {:<24} {:<8} {:<22} {:>7} {:>8} {:>11.2f} {:>10.4f}\n",
                          row.design.empty() ? "(all)" : row.design, row.what, row.variant,
                          row.kernel, row.n_query, row.n_context, row.us, row.flops / row.us / 1e6);
  };
  launches(result.layer);
  launches(result.sizes);
  return text;
}

}  // namespace nereid::apps
