// Goal: a bundle of every kernel that a model may ask for, whose objects are what the CUDA driver
// stand-in takes, and the null device too.
// Non-goal: kernels that compute anything.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "program/planner.h"

namespace nereid {

class StandInBundle {
 public:
  // For the model's config.json, in every mode; of a model on so many devices.
  StandInBundle(const std::filesystem::path& model_dir, const Options& options,
                const std::string& target, std::int64_t n_ranks = 1) {
    auto dir = (std::filesystem::path(testing::TempDir()) / "nereid-stand-in-XXXXXX").string();
    NEREID_CHECK(::mkdtemp(dir.data()) != nullptr, "no folder {}", dir);
    dir_ = dir;
    std::filesystem::create_directories(dir_ / "objects");
    Json variants = Json::array();
    const auto config = model::ModelConfig::load(model_dir);
    for (const auto& request : program::requests_for_all_modes(
             config, program::resolve(config, options, target, {0, n_ranks}), tables_))
      variants.push_back(variant(request));
    const Json manifest{{"schema", 2},
                        {"target", target},
                        {"triton", tables_.specs.triton_version()},
                        {"variants", variants}};
    std::ofstream(dir_ / "manifest.json") << manifest.dump();
  }
  ~StandInBundle() { std::filesystem::remove_all(dir_); }
  StandInBundle(const StandInBundle&) = delete;
  StandInBundle& operator=(const StandInBundle&) = delete;

  const std::filesystem::path& dir() const { return dir_; }
  // Names of a kernel's launch arguments, in order.
  const std::vector<std::string>& args(const std::string& symbol) const { return args_.at(symbol); }

 private:
  static char kind_of(device::ArgType type) {
    switch (device::arg_type_row(type).size_bytes) {
      case 2:
        return 'h';
      case 4:
        return 'i';
      default:
        return type == device::ArgType::pointer ? 'o' : 'l';
    }
  }

  Json variant(const kernel::KernelRequest& request) {
    const auto& spec =
        request.generated ? request.generated->spec : tables_.specs.get(request.kernel);
    Json args = Json::array();
    std::string kinds;
    auto& names = args_[request.kernel];
    names.clear();
    for (const auto& param : spec.params) {
      if (param.is_constexpr()) continue;
      const auto& asked = request.args.at(param.name);
      const auto type =
          param.is_pointer() ? std::string("pointer") : asked.substr(0, asked.find(':'));
      args.push_back({param.name, type});
      kinds += kind_of(device::arg_type_from_name(type).value());
      names.push_back(param.name);
    }
    const auto text = fmt::format(
                          "\x7f"
                          "ELF90 {} {}ss\n",
                          request.kernel, kinds) +
                      '\0';
    const auto hash = sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
    const auto object = "objects/" + hash + ".cubin";
    std::ofstream(dir_ / object) << text;
    return {{"key", request.key()},
            {"kernel", request.kernel},
            {"symbol", request.kernel},
            {"object", object},
            {"object_sha256", hash},
            {"source_sha256", spec.source_sha256},
            {"args", args},
            {"grid", {spec.grid[0].text(), spec.grid[1].text(), spec.grid[2].text()}},
            {"num_warps", request.num_warps},
            {"n_threads", 32 * request.num_warps},
            {"shared_bytes", 0},
            {"arena_bytes", 0},
            {"global_scratch_bytes", 0}};
  }

  const program::KernelTables tables_ = program::KernelTables::builtin();
  std::filesystem::path dir_;
  std::map<std::string, std::vector<std::string>> args_;
};

}  // namespace nereid
