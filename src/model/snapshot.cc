#include "model/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace nereid::model {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxFilesLookedAt = 10000;

// A file whose name begins and ends so says how the weights were stored instead.
struct OtherForm {
  std::string_view begin;
  std::string_view end;
  std::string_view advice;
};

constexpr std::string_view kPickle =
    "a PyTorch checkpoint (a pickle), which is not read, since reading one can run code; convert "
    "it "
    "with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)";

constexpr std::array<OtherForm, 11> kOtherForms{{
    {"adapter_", ".safetensors",
     "an adapter (LoRA), not a model; merge it into its base model with peft: "
     "merge_and_unload(), then save_pretrained(DIR)"},
    {"adapter_", ".bin", "an adapter (LoRA), not a model; merge it into its base model with peft"},
    {"consolidated", "",
     "weights in the form of the model's makers; download model*.safetensors of the same model"},
    {"model-", ".safetensors",
     "a shard; download model.safetensors.index.json too, which says where the tensors are"},
    {"", ".gguf",
     "a GGUF file, which is not read; take the Hugging Face snapshot that it was made from"},
    {"pytorch_model", ".bin", kPickle},
    {"model", ".pt", kPickle},
    {"", ".pth", kPickle},
    {"", ".h5", "TensorFlow weights, which are not read; take the model's safetensors files"},
    {"", ".msgpack", "Flax weights, which are not read; take the model's safetensors files"},
    {"", ".safetensors",
     "not looked for under this name; if it is the whole model, name it model.safetensors"},
}};

}  // namespace

std::string weights_advice(const fs::path& directory) {
  std::error_code ignored;
  if (fs::is_directory(directory / "snapshots", ignored))
    return fmt::format(
        "; this is an entry of the Hugging Face cache: the model is a directory in {}",
        (directory / "snapshots").string());
  for (const char* expected : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(directory / expected, ignored)) return {};
  std::vector<std::string> names;
  for (fs::directory_iterator it(directory, ignored), end;
       !ignored && it != end && names.size() < kMaxFilesLookedAt; it.increment(ignored))
    names.push_back(it->path().filename().string());
  std::ranges::sort(names);
  for (const auto& form : kOtherForms)
    for (const auto& name : names)
      if (name.starts_with(form.begin) && name.ends_with(form.end))
        return fmt::format("; {} is {}", name, form.advice);
  return {};
}

std::string absence_text(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_symlink(path, ignored)) return "not found";
  return fmt::format("is a link to {}, which is not there",
                     fs::read_symlink(path, ignored).string());
}

std::string no_directory_text(const std::string& model) {
  std::error_code ignored;
  const fs::path path(model);
  if (fs::is_regular_file(path, ignored)) {
    if (path.extension() == ".gguf")
      return "a GGUF file, which is not read; take the Hugging Face snapshot that it was made from";
    const auto parent = path.parent_path();
    return fmt::format("a file; give the directory that holds it: {}",
                       parent.empty() ? "." : parent.string());
  }
  const bool is_hub_name = std::ranges::count(model, '/') == 1 && model.front() != '/' &&
                           model.front() != '.' && model.back() != '/';
  return is_hub_name ? fmt::format(
                           "not there; nothing is downloaded: fetch a model with `hf download "
                           "{} --local-dir DIR`, then give DIR",
                           model)
                     : "not a directory";
}

}  // namespace nereid::model
