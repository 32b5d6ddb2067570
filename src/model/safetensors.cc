#include "model/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "model/safetensors_header.h"

namespace nereid::model {

namespace {

constexpr const char* kOneFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::size_t kDataAlignmentBytes = 64;

using WeightMap = std::map<std::string, std::string>;  // tensor -> shard

WeightMap read_index(const std::filesystem::path& path) {
  const Json index = read_json_file(path);
  const Json& map = json_member(index, "weight_map", path.string());
  if (!map.is_object() || map.empty())
    throw Error("{}: field \"weight_map\": expected an object of tensor names and their files",
                path.string());
  WeightMap result;
  for (const auto& [name, shard] : map.items()) {
    const std::string file = json_field<std::string>(map, name, path.string() + ": weight_map");
    // Shards lie beside the index; a path elsewhere is somebody's trick.
    if (file.empty() || file == "." || file == ".." ||
        file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      throw Error(
          "{}: weight_map: tensor {} is in {}; expected the name of a file beside the index",
          path.string(), Json(name).dump(), Json(file).dump());
    result[name] = file;
  }
  return result;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const auto bytes = file_.bytes();
  for (auto& entry : parse_safetensors_header(bytes, path.string()))
    tensors_[std::move(entry.name)] = {entry.dtype, std::move(entry.shape),
                                       bytes.subspan(entry.begin, entry.end - entry.begin)};
}

Checkpoint Checkpoint::open(const std::filesystem::path& model_dir) {
  Checkpoint result;
  result.model_dir_ = model_dir;
  if (std::filesystem::exists(model_dir / kOneFile)) {
    result.files_.emplace_back(model_dir / kOneFile);
    result.tensors_ = result.files_.back().tensors();
  } else if (std::filesystem::exists(model_dir / kIndex)) {
    const WeightMap index = read_index(model_dir / kIndex);
    std::map<std::string, std::size_t> shards;
    for (const auto& [name, file] : index) shards.emplace(file, 0);
    for (auto& [file, i] : shards) {
      if (!std::filesystem::exists(model_dir / file))
        throw Error("{} not found in {}; {} names it: download this shard too", file,
                    model_dir.string(), kIndex);
      i = result.files_.size();
      result.files_.emplace_back(model_dir / file);
    }
    for (const auto& [name, file] : index) {
      const auto& tensors = result.files_[shards.at(file)].tensors();
      const auto it = tensors.find(name);
      if (it == tensors.end())
        throw Error("{}: tensor {} is not in this file, but {} says so; download both again",
                    (model_dir / file).string(), Json(name).dump(), kIndex);
      result.tensors_.insert(*it);
    }
  } else {
    throw Error(
        "neither {} nor {} found in {}; expected a Hugging Face snapshot directory with "
        "safetensors weights",
        kOneFile, kIndex, model_dir.string());
  }
  for (const auto& [name, tensor] : result.tensors_) result.size_bytes_ += tensor.bytes.size();
  return result;
}

const HostTensor& Checkpoint::get(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it != tensors_.end()) return it->second;
  const auto next = tensors_.lower_bound(name);
  throw Error("tensor {} not found in {}: there are {}{}; config.json may be another model's", name,
              model_dir_.string(), tensors_.size(),
              next == tensors_.end() ? "" : ", the next one is " + Json(next->first).dump());
}

void Checkpoint::release(const HostTensor& tensor) const {
  const auto* begin = tensor.bytes.data();
  for (const auto& shard : files_) {
    const auto bytes = shard.file().bytes();
    if (std::less_equal<>()(bytes.data(), begin) &&
        std::less<>()(begin, bytes.data() + bytes.size()))
      shard.file().release(tensor.bytes);
  }
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, HostTensor>>& tensors) {
  // An ordered JSON: readers list tensors as they are stored.
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::size_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    NEREID_CHECK(std::size_t(n_elements(tensor.shape)) * dtype_size_bytes(tensor.dtype) ==
                         tensor.bytes.size() &&
                     !header.contains(name),
                 "{}: shape {} of {} and {} bytes", name, shape_text(tensor.shape),
                 dtype_name(tensor.dtype), tensor.bytes.size());
    header[name] = {{"dtype", dtype_row(tensor.dtype).safetensors},
                    {"shape", tensor.shape},
                    {"data_offsets", {end, end + tensor.bytes.size()}}};
    end += tensor.bytes.size();
  }
  std::string text = header.dump();
  const std::size_t unaligned = (sizeof(std::uint64_t) + text.size()) % kDataAlignmentBytes;
  if (unaligned != 0) text.append(kDataAlignmentBytes - unaligned, ' ');
  const std::uint64_t header_bytes = text.size();

  // Beside the target, then renamed: tensors may be large, so they are not gathered in memory
  // first.
  const std::filesystem::path partial = path.string() + fmt::format(".{}.part", ::getpid());
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  const auto write = [&](const void* data, std::size_t n_bytes) {
    out.write(static_cast<const char*>(data), std::streamsize(n_bytes));
  };
  write(&header_bytes, sizeof header_bytes);
  write(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) write(tensor.bytes.data(), tensor.bytes.size());
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(partial, path, error);
  if (!out || error) {
    const std::string reason = error ? error.message() : std::strerror(errno);
    std::filesystem::remove(partial, error);
    throw Error("cannot write {} ({} bytes of tensors): {}", path.string(), end, reason);
  }
}

}  // namespace nereid::model
