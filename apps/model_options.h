// Goal: the arguments that every command which opens a model shares, and what they mean.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "model/config.h"
#include "nereid/options.h"

namespace nereid::apps {

struct ModelArguments {
  std::string model;  // as given: a directory, "demo" or "llama3-8b-shape"
  Options options;    // model_dir is filled by model_directory()
};

// MODEL and nothing else.
void add_model(CLI::App& command, std::string& model);
// MODEL, and how strictly its config.json is read.
void add_model(CLI::App& command, ModelArguments& arguments);
// Passes of the graph compiler to leave out.
CLI::Option* add_skipped_passes(CLI::App& command, std::set<std::string>& passes);
// Users' operations.
CLI::Option* add_own_ops(CLI::App& command, std::vector<std::filesystem::path>& files);
// What weights are quantised to when they are loaded.
CLI::Option* add_quantize(CLI::App& command, std::string& format);
// What the products of fp8 weights take.
CLI::Option* add_activations(CLI::App& command, std::string& bits);
// What keys and values are kept as.
CLI::Option* add_kv_cache(CLI::App& command, std::string& format);
// By which design attention is computed.
CLI::Option* add_attention(CLI::App& command, std::string& design);
CLI::Option* add_untuned(CLI::App& command, bool& is_tuned);
// How many devices a model is to be planned for.
CLI::Option* add_ranks(CLI::App& command, std::int64_t& n_ranks);
// Where to compute, and with which kernels.
void add_device_options(CLI::App& command, Options& options);
// MODEL and the options that decide which kernels it needs.
void add_plan_options(CLI::App& command, ModelArguments& arguments);
// Those, and the options about device and memory.
void add_model_options(CLI::App& command, ModelArguments& arguments);

// The directory of `model`: `demo` is the bundled model unless there is a directory of that name
// here, of which a line on stderr tells; NAME-shape is the configuration NAME that comes with the
// program. An Error says that there is none, and what there is.
std::filesystem::path model_directory(const std::string& model);
// The directory's config.json; a line on stderr names the fields that are ignored.
model::ModelConfig load_config(const std::filesystem::path& directory, bool strict);
// The Options with their model directory, whose config.json was looked at so.
Options resolve(const ModelArguments& arguments);

// "1,2,3" as ids. An Error names what is not a number.
std::vector<std::int32_t> parse_ids(const std::string& text);
// A file's text; "-" reads standard input.
std::string read_input(const std::string& path);

}  // namespace nereid::apps
