#include "measure/attention_bench.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

#include "base/error.h"
#include "device/registry.h"
#include "measure/attention_variants.h"
#include "measure/launch_bench.h"
#include "measure/model_cost.h"
#include "measure/step_planner.h"
#include "model/config.h"
#include "nereid/engine.h"
#include "program/attention_designs.h"

namespace nereid::measure {

namespace {

constexpr std::int64_t kAnswerTokens = 24;
// At the borders of tiles, and what is no multiple of anything.
constexpr std::int64_t kLengths[] = {1, 2, 15, 16, 17, 44, 63, 64, 65, 129, 300};
constexpr std::int64_t kLengthAnswerTokens = 4;
// The report's prompt.
constexpr StepShape kPrompt{1, 44, 44};
constexpr StepShape kDecode{1, 1, 44};
constexpr std::int64_t kSmallest = 128;

std::vector<std::string> designs_of(const AttentionBenchOptions& options) {
  std::vector<std::string> designs = options.designs;
  for (const auto& design : designs) program::attention_design(design);
  if (designs.empty())
    for (const auto& row : program::attention_designs()) designs.emplace_back(row.name);
  return designs;
}

Options engine_of(const AttentionBenchOptions& options, const std::string& design,
                  const std::string& mode) {
  auto engine = options.engine;
  engine.attention = design;
  engine.mode = mode;
  return engine;
}

// The prompt first, then one of each length.
std::vector<Request> requests_of(const AttentionBenchOptions& options, std::int64_t vocab_size,
                                 std::int64_t max_context_tokens) {
  std::vector<Request> requests{
      {.prompt = options.prompt, .max_tokens = kAnswerTokens, .ignore_eos = true}};
  std::mt19937_64 random(1);
  for (const auto n_tokens : kLengths) {
    if (n_tokens + kLengthAnswerTokens > max_context_tokens) continue;
    Request request{.max_tokens = kLengthAnswerTokens, .ignore_eos = true};
    for (std::int64_t i = 0; i < n_tokens; ++i)
      request.prompt_ids.push_back(
          static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocab_size)));
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<Answer> answers_of(const Options& options, const AttentionBenchOptions& bench,
                               std::int64_t vocab_size) {
  Engine engine(options);
  const auto requests = requests_of(bench, vocab_size, engine.max_context_tokens());
  // The prompt alone, as a person asks; then the lengths at once.
  auto completions = engine.run(std::span(requests).first(1));
  for (auto& completion : engine.run(std::span(requests).subspan(1)))
    completions.push_back(std::move(completion));
  std::vector<Answer> answers;
  for (auto& completion : completions) {
    if (!completion.answers[0].error.empty()) throw Error("{}", completion.answers[0].error);
    answers.push_back(std::move(completion.answers[0]));
  }
  return answers;
}

void compare(const std::vector<Answer>& answers, const std::vector<Answer>& expected,
             AnswersRow& row) {
  const auto& ids = answers[0].ids;
  const auto& expected_ids = expected[0].ids;
  row.text = answers[0].text;
  row.n_ids = std::ssize(expected_ids);
  row.n_same_ids = std::ranges::mismatch(ids, expected_ids).in1 - ids.begin();
  row.n_lengths = std::ssize(expected) - 1;
  for (std::size_t i = 1; i < expected.size(); ++i)
    row.n_same_lengths += answers[i].ids == expected[i].ids ? 1 : 0;
}

std::vector<AnswersRow> compare_answers(const AttentionBenchOptions& options,
                                        const std::vector<std::string>& designs) {
  const auto vocab_size = model::ModelConfig::load(options.engine.model_dir).vocab_size;
  const auto expected = answers_of(engine_of(options, std::string(program::kOwnAttention), "eager"),
                                   options, vocab_size);
  std::vector<AnswersRow> rows;
  for (const auto& design : designs)
    for (const char* mode : {"eager", "compiled"}) {
      AnswersRow row;
      row.design = design;
      row.mode = mode;
      try {
        compare(answers_of(engine_of(options, design, mode), options, vocab_size), expected, row);
      } catch (const Error& error) {
        row.problem = error.what();
      }
      rows.push_back(std::move(row));
    }
  return rows;
}

std::int64_t most_tokens(std::span<const StepShape> steps) {
  return std::ranges::max(steps, {}, &StepShape::n_context).n_context;
}

class LaunchTimes {
 public:
  LaunchTimes(const AttentionBenchOptions& options, device::Device& device,
              const std::string& design, const std::string& variant,
              std::span<const StepShape> steps)
      : options_(options),
        design_(design),
        variant_(variant),
        planner_(with_variant(model::ModelConfig::load(options.engine.model_dir), variant,
                              most_tokens(steps)),
                 engine_of(options, design, "compiled"), device.info().target, steps),
        bench_(planner_, device) {}

  // Attention's launches of the step, or its products, in order.
  void measure(const StepShape& shape, bool is_attention, std::vector<AttentionRow>& rows) {
    const auto step = bench_.make_step(shape, shape.n_sequences);
    for (const auto& launch : step.plan.launches) {
      const auto& node = step.plan.graph.nodes[launch.node];
      const bool is_attending = node.row().op_class == graph::OpClass::attention;
      const bool is_wanted = is_attention ? is_attending : is_product(launch);
      if (!is_wanted || launch.is_empty(step.plan.graph, step.sizes)) continue;
      // A variant that the design has not is computed by this program's own kernels.
      if (is_attention && design_ != program::kOwnAttention && launch.spec->design != design_)
        continue;
      AttentionRow row;
      row.design = is_attention ? design_ : "";
      row.what = is_attention ? "attention" : label_of(step.plan.graph, launch);
      row.variant = is_attention ? variant_ : "";
      row.kernel = launch.spec->name;
      row.n_query = shape.n_query;
      row.n_context = shape.n_context;
      row.flops = launch_cost(planner_.planner(), step.plan.graph, launch, shape, 1).flops;
      // Layers of another window are the same products again.
      if (std::ranges::any_of(rows, [&](const AttentionRow& other) {
            return other.design == row.design && other.what == row.what &&
                   other.variant == row.variant && other.n_query == row.n_query &&
                   other.n_context == row.n_context;
          }))
        continue;
      row.us = bench_.median_us(step, launch, options_.n_repeats);
      rows.push_back(std::move(row));
    }
  }

 private:
  const AttentionBenchOptions& options_;
  const std::string design_, variant_;
  const StepPlanner planner_;
  LaunchBench bench_;
};

std::vector<StepShape> steps_of(std::int64_t max_tokens) {
  std::vector<StepShape> steps{kPrompt, kDecode};
  for (auto n = kSmallest; n <= max_tokens; n *= 2) {
    steps.push_back({1, n, n});
    steps.push_back({1, 1, n});
  }
  return steps;
}

// The layer at the report's prompt is as the model has it.
void measure_design(const AttentionBenchOptions& options, device::Device& device,
                    const std::string& design, const std::string& variant,
                    std::span<const StepShape> steps, AttentionBenchResult& result) {
  const bool is_own = variant == kOwnVariant;
  LaunchTimes times(options, device, design, variant, steps);
  if (is_own && design == result.designs.front())
    times.measure(kPrompt, /*is_attention=*/false, result.layer);
  const bool serves_prompts = program::attention_design(design).serves_prompts;
  for (const auto& step : steps) {
    const bool is_of_layer = step.n_context == kPrompt.n_context;
    if ((step.n_query > 1 && !serves_prompts) || (is_of_layer && !is_own)) continue;
    times.measure(step, /*is_attention=*/true, is_of_layer ? result.layer : result.sizes);
  }
}

}  // namespace

AttentionBenchResult run_attention_bench(const AttentionBenchOptions& options) {
  AttentionBenchResult result;
  for (const auto& variant : options.variants) check_attention_variant(variant);
  result.designs = designs_of(options);
  if (!options.engine.random_weights) result.answers = compare_answers(options, result.designs);
  const auto device =
      device::open_device({.name = options.engine.device, .n_threads = options.engine.n_threads});
  result.device = device->info();
  const bool is_cpu = kernel::target_family(result.device.target) == "cpu";
  const auto steps = steps_of(options.max_tokens > 0 ? options.max_tokens : is_cpu ? 1024 : 16384);
  for (const auto& variant : options.variants)
    for (const auto& design : result.designs)
      measure_design(options, *device, design, variant, steps, result);
  return result;
}

}  // namespace nereid::measure
