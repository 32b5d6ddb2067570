// Goal: the study of attention designs (program/attention_designs.h) as one run: which of them
// answer as this program's own does, in which modes and for which prompts; the kernels of a layer
// at one short prompt; attention over sizes. Non-goal: other kernels and whole steps
// (kernel_bench.h, end_to_end.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/device.h"
#include "nereid/options.h"

namespace nereid::measure {

struct AttentionBenchOptions {
  Options engine;                                  // random_weights: answers are not compared
  std::vector<std::string> designs;                // empty: all
  std::vector<std::string> variants = {"causal"};  // attention_variants.h
  std::string prompt = "def fibonacci(n):\n";
  std::int64_t max_tokens = 0;  // of the sizes, from 128 doubled; 0: as many as suit the device
  int n_repeats = 5;
};

// A design in a mode, against this program's own attention in eager mode: greedy ids of the prompt,
// and of prompts of many lengths together in steps with answers that go on.
struct AnswersRow {
  std::string design, mode;
  std::string text;
  std::int64_t n_same_ids = 0, n_ids = 0;
  std::int64_t n_same_lengths = 0, n_lengths = 0;
  std::string problem;  // why there is no answer
};

// One launch: of a layer, or attention alone.
struct AttentionRow {
  std::string design;  // empty: the same for all
  std::string what;    // "attention", or the name of the product
  std::string variant;
  std::string kernel;
  std::int64_t n_query = 0, n_context = 0;
  double us = 0;  // median
  double flops = 0;
};

struct AttentionBenchResult {
  device::DeviceInfo device;
  std::vector<std::string> designs;
  std::vector<AnswersRow> answers;
  std::vector<AttentionRow> layer;  // a prompt of 44 tokens; of attention a token after it, too
  std::vector<AttentionRow> sizes;  // one prompt, and one token behind so many
};

AttentionBenchResult run_attention_bench(const AttentionBenchOptions& options);

}  // namespace nereid::measure
