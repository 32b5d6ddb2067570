// Goal: what to tell somebody whose directory is not the Hugging Face snapshot that is expected.
// Non-goal: reading any of it.
#pragma once

#include <filesystem>
#include <string>

namespace nereid::model {

// "; it has pytorch_model.bin: ...": what is there instead of weights, and how to come to weights;
// empty where nothing is recognised.
std::string weights_advice(const std::filesystem::path& directory);

// "not found", or "is a link to X, which is not there" as a cache of which a part was removed has.
std::string absence_text(const std::filesystem::path& path);

// What is wrong with `model`, which is no directory: a file of a model, a name to download.
std::string no_directory_text(const std::string& model);

}  // namespace nereid::model
