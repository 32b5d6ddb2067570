// Goal: a safetensors file whose tensors' bytes come one piece after another: no more of it is in
// memory than a piece.
// Non-goal: what the tensors are, and reading (safetensors.h).
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace nereid::model {

// What a header says of a tensor.
struct TensorPlace {
  std::string name;
  DType dtype = DType::fp32;
  Shape shape = {};

  std::size_t size_bytes() const;
};

class SafetensorsWriter {
 public:
  // Tensors in the order in which their bytes will come; the first begins at a multiple of 64.
  // `metadata`: as the format has it, texts by name.
  SafetensorsWriter(std::filesystem::path path, std::span<const TensorPlace> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  // Of a file that was not finished nothing is left.
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // An Error names the path and the reason: the disk is full, say.
  void write(std::span<const std::byte> bytes);
  std::size_t missing_bytes() const { return missing_bytes_; }
  // All bytes came: replaces the file of that name in one step.
  void finish();

 private:
  void write_all(const void* data, std::size_t n_bytes);
  [[noreturn]] void fail(const std::string& reason);

  std::filesystem::path path_, partial_;
  std::ofstream out_;
  std::size_t all_bytes_ = 0, missing_bytes_ = 0;
  bool is_finished_ = false;
};

}  // namespace nereid::model
