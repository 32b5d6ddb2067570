// Goal: the tensors that a model needs, from the safetensors files of its directory. What is not
// needed does not matter: neither its type nor whether its file is there. What is needed and cannot
// be had is an Error that names the tensor, its file and the cure.
// Non-goal: knowing which tensors a model needs (its graph does), or converting them.
// Rejected: refusing a directory as a whole for one bad file. Snapshots hold more than one program
// reads.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/safetensors.h"

namespace nereid::model {

// model.safetensors or, where there is none, the shards that model.safetensors.index.json names.
class Checkpoint {
 public:
  // Whether there is such a checkpoint, good or bad.
  static bool exists(const std::filesystem::path& model_dir);
  // `has_tied_head`: head and embedding are one tensor, which may be stored under either name.
  static Checkpoint open(const std::filesystem::path& model_dir, bool has_tied_head = false);

  // By the name that a graph gives it (stored_name.h): "model.norm.weight" is also found as
  // "norm.weight", as the checkpoint of a base model calls it.
  bool contains(std::string_view name) const;
  // A tensor of floating-point numbers, or the rows of one, as it is stored; or an Error.
  HostTensor get(std::string_view name) const;
  // Likewise of any type: what quantised weights are made of.
  HostTensor get_of_any_type(std::string_view name) const;
  // Likewise, and of columns, where the name asks for some, a copy in `storage`.
  HostTensor get(std::string_view name, std::vector<std::byte>& storage) const;
  HostTensor get_of_any_type(std::string_view name, std::vector<std::byte>& storage) const;
  // Of the tensor that has it.
  DType dtype_of(std::string_view name) const;
  // These bytes will not be read again: they stop counting as resident memory.
  void release(const HostTensor& tensor) const;

  std::size_t n_tensors() const { return places_.size(); }  // all that are known by name

 private:
  struct Shard {
    std::string name;
    std::optional<SafetensorsFile> file;
    std::string problem;  // why there is no file
    ErrorCode code;       // of the problem
  };
  using Places = std::map<std::string, std::size_t, std::less<>>;  // tensor -> shard

  void add_shard(const std::string& name);
  void read_index();
  Places::const_iterator find(std::string_view name) const;
  const HostTensor& whole(std::string_view name, bool is_of_any_type) const;
  HostTensor rows_of(std::string_view name, bool is_of_any_type) const;
  HostTensor part_of(std::string_view name, bool is_of_any_type,
                     std::vector<std::byte>& storage) const;
  [[noreturn]] void fail_missing(std::string_view name) const;

  std::filesystem::path dir_;
  bool has_tied_head_ = false;
  std::vector<Shard> shards_;
  Places places_;
};

}  // namespace nereid::model
