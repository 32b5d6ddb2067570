// Goal: a model's directory, written whole or not at all: shards of a stated size as bytes come,
// their index, and files beside them. It lies beside its place until all is there.
// Non-goal: what is in it (program/quantize_model.h).
// Rejected: writing into the directory itself. A program that opens a model half-written finds
// something wrong in it, or nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "model/safetensors_writer.h"

namespace nereid::model {

class SnapshotWriter {
 public:
  // What belongs together lies in one shard.
  using Group = std::vector<TensorPlace>;

  // Groups in the order in which their bytes will come. A shard has at most so many bytes of
  // tensors, or one group. An Error where `dir` is no new or empty directory, or the disk has not
  // the room.
  SnapshotWriter(const std::filesystem::path& dir, const std::vector<Group>& groups,
                 std::int64_t max_shard_bytes);
  // Of what was not finished nothing is left.
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  std::size_t tensor_bytes() const { return tensor_bytes_; }
  std::size_t n_shards() const { return shards_.size(); }

  void write(std::span<const std::byte> bytes);  // of the next tensors
  void write_json(const std::string& name, const Json& document);
  void copy(const std::filesystem::path& source);  // a file, or a folder with all in it
  // All bytes came: the directory is there now.
  void finish();

 private:
  struct Shard {
    std::string name;
    std::vector<TensorPlace> tensors;
  };
  void open_next();
  void write_index();

  std::filesystem::path dir_, partial_;
  std::vector<Shard> shards_;
  std::size_t next_shard_ = 0, tensor_bytes_ = 0;
  std::optional<SafetensorsWriter> shard_;  // the one before the next
  bool is_finished_ = false;
};

}  // namespace nereid::model
