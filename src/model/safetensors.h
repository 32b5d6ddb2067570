// Goal: tensors of a safetensors file where they are mapped, by name. Every promise of the format
// is checked before the first byte is used: a broken or hostile file is an Error naming the tensor.
// Non-goal: converting, or which files make a model (checkpoint.h).
// Rejected: a JSON tree of the header. It may be 100 MB; events need memory for tensors only.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace nereid::model {

using TensorMap = std::map<std::string, HostTensor, std::less<>>;

// The tensors' bytes live as long as this object, at whatever alignment the file gives them.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const TensorMap& tensors() const { return tensors_; }
  // Tensors of types that are not ours, and the types as the file spells them.
  const std::map<std::string, std::string, std::less<>>& foreign() const { return foreign_; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  TensorMap tensors_;
  std::map<std::string, std::string, std::less<>> foreign_;
};

// Replaces the file in one step. Tensors are stored in the order given, the first at a multiple of
// 64 bytes.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, HostTensor>>& tensors);

}  // namespace nereid::model
