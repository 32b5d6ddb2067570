// Goal: tensors of safetensors files where they are mapped, by name. Every promise of the format is
// checked before the first byte is used: a broken or hostile file is an Error naming the tensor.
// Non-goal: converting, or knowing which tensors a model needs (its graph does).
// Rejected: a JSON tree of the header. It may be 100 MB; events need memory for tensors only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace nereid::model {

using TensorMap = std::map<std::string, HostTensor, std::less<>>;

// One file. The tensors' bytes live as long as this object, at whatever alignment the file gives
// them.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const TensorMap& tensors() const { return tensors_; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  TensorMap tensors_;
};

// A model's weights: model.safetensors, or the shards that model.safetensors.index.json names.
class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& model_dir);

  const TensorMap& tensors() const { return tensors_; }
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  // An Error where it is missing says how many there are and which name comes nearest in order.
  const HostTensor& get(std::string_view name) const;
  // These bytes will not be read again: they stop counting as resident memory.
  void release(const HostTensor& tensor) const;

  std::size_t size_bytes() const { return size_bytes_; }  // of all tensors

 private:
  std::filesystem::path model_dir_;
  std::vector<SafetensorsFile> files_;
  TensorMap tensors_;
  std::size_t size_bytes_ = 0;
};

// Replaces the file in one step. Tensors are stored in the order given, the first at a multiple of
// 64 bytes.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, HostTensor>>& tensors);

}  // namespace nereid::model
