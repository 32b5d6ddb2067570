#include "model/checkpoint.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/json.h"
#include "model/config_fields.h"
#include "model/snapshot.h"
#include "model/stored_name.h"

namespace nereid::model {

namespace {

constexpr const char* kOneFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::string_view kBasePrefix = "model.";  // of the base model within the whole one
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";

using Index = std::map<std::string, std::string>;  // tensor -> shard

Index parse_index(const std::filesystem::path& path) {
  const Json index = read_json_file(path);
  const Json& map = json_member(index, "weight_map", path.string());
  if (!map.is_object() || map.empty())
    throw Error("{}: field \"weight_map\": expected an object of tensor names and their files",
                path.string());
  Index result;
  for (const auto& [name, shard] : map.items()) {
    const std::string file = json_field<std::string>(map, name, path.string() + ": weight_map");
    // Shards lie beside the index; a path elsewhere is somebody's trick.
    const auto is_out_of_place = [](char c) {
      return c == '/' || c == '\\' || (c >= 0 && c < ' ');
    };
    if (file.empty() || file == "." || file == ".." || std::ranges::any_of(file, is_out_of_place))
      throw Error(
          "{}: weight_map: tensor {} is in {}; expected the name of a file beside the index",
          path.string(), json_excerpt(Json(name)), json_excerpt(Json(file)));
    result[name] = file;
  }
  return result;
}

}  // namespace

bool Checkpoint::exists(const std::filesystem::path& model_dir) {
  return std::filesystem::exists(model_dir / kOneFile) ||
         std::filesystem::exists(model_dir / kIndex);
}

Checkpoint Checkpoint::open(const std::filesystem::path& model_dir, bool has_tied_head) {
  Checkpoint result;
  result.dir_ = model_dir;
  result.has_tied_head_ = has_tied_head;
  if (std::filesystem::exists(model_dir / kOneFile)) {
    result.add_shard(kOneFile);
    if (!result.shards_.front().file)
      throw Error(result.shards_.front().code, "{}", result.shards_.front().problem);
  } else if (std::filesystem::exists(model_dir / kIndex)) {
    result.read_index();
  } else {
    throw Error(ErrorCode::not_found,
                "neither {} nor {} found in {}; expected a Hugging Face snapshot directory with "
                "safetensors weights{}",
                kOneFile, kIndex, model_dir.string(), weights_advice(model_dir));
  }
  return result;
}

// Its tensors have their place here, but for those that have one already.
void Checkpoint::add_shard(const std::string& name) {
  const auto path = dir_ / name;
  Shard shard{name, std::nullopt, "", ErrorCode::not_found};
  try {
    if (std::filesystem::exists(path))
      shard.file.emplace(path);
    else
      shard.problem = fmt::format("{} {}: download it too", path.string(), absence_text(path));
  } catch (const Error& error) {
    shard.problem = error.what();
    shard.code = error.code();
  }
  if (shard.file) {
    for (const auto& [tensor, data] : shard.file->tensors())
      places_.emplace(tensor, shards_.size());
    for (const auto& [tensor, type] : shard.file->foreign())
      places_.emplace(tensor, shards_.size());
  }
  shards_.push_back(std::move(shard));
}

// A tensor is where the index says or, where that file is good and lacks it, in any other shard.
void Checkpoint::read_index() {
  const Index index = parse_index(dir_ / kIndex);
  std::map<std::string, std::size_t> shards;
  for (const auto& [tensor, name] : index)
    if (shards.emplace(name, shards.size()).second) add_shard(name);
  for (const auto& [tensor, name] : index) {
    const std::size_t shard = shards.at(name);
    const auto& file = shards_[shard].file;
    if (!file || file->tensors().contains(tensor) || file->foreign().contains(tensor))
      places_[tensor] = shard;
    else
      places_.emplace(tensor, shard);
  }
}

Checkpoint::Places::const_iterator Checkpoint::find(std::string_view name) const {
  const auto it = places_.find(name);
  if (it == places_.end() && has_tied_head_ && name == kHead) return find(kEmbedding);
  if (it != places_.end() || !name.starts_with(kBasePrefix)) return it;
  const auto unprefixed = places_.find(name.substr(kBasePrefix.size()));
  if (unprefixed == places_.end() && has_tied_head_ && name == kEmbedding)
    return places_.find(kHead);
  return unprefixed;
}

bool Checkpoint::contains(std::string_view name) const {
  return find(stored_name(name).tensor) != places_.end();
}

HostTensor Checkpoint::get(std::string_view name) const {
  std::vector<std::byte> none;
  const auto tensor = part_of(name, false, none);
  NEREID_CHECK(none.empty(), "columns of {} lie apart in the file", name);
  return tensor;
}

HostTensor Checkpoint::get_of_any_type(std::string_view name) const {
  std::vector<std::byte> none;
  const auto tensor = part_of(name, true, none);
  NEREID_CHECK(none.empty(), "columns of {} lie apart in the file", name);
  return tensor;
}

HostTensor Checkpoint::get(std::string_view name, std::vector<std::byte>& storage) const {
  return part_of(name, false, storage);
}

HostTensor Checkpoint::get_of_any_type(std::string_view name,
                                       std::vector<std::byte>& storage) const {
  return part_of(name, true, storage);
}

DType Checkpoint::dtype_of(std::string_view name) const {
  return whole(stored_name(name).tensor, false).dtype;
}

HostTensor Checkpoint::rows_of(std::string_view name, bool is_of_any_type) const {
  const auto stored = stored_name(name);
  HostTensor tensor = whole(stored.tensor, is_of_any_type);
  if (!stored.rows) return tensor;
  const auto [begin, count, n_stored] = *stored.rows;
  if (tensor.shape.empty() || tensor.shape[0] != n_stored)
    throw Error("{}: expected {} rows from config.json, got shape {}", stored.tensor, n_stored,
                shape_text(tensor.shape));
  const auto row_bytes = n_stored == 0 ? 0 : tensor.bytes.size() / std::size_t(n_stored);
  tensor.bytes =
      tensor.bytes.subspan(std::size_t(begin) * row_bytes, std::size_t(count) * row_bytes);
  tensor.shape[0] = count;
  return tensor;
}

HostTensor Checkpoint::part_of(std::string_view name, bool is_of_any_type,
                               std::vector<std::byte>& storage) const {
  auto tensor = rows_of(name, is_of_any_type);
  const auto stored = stored_name(name);
  if (!stored.columns) return tensor;
  const auto [begin, count, n_stored] = *stored.columns;
  if (tensor.shape.size() != 2 || tensor.shape[1] != n_stored)
    throw Error("{}: expected {} columns from config.json, got shape {}", stored.tensor, n_stored,
                shape_text(tensor.shape));
  const auto element_bytes = dtype_size_bytes(tensor.dtype);
  const auto row_bytes = std::size_t(n_stored) * element_bytes;
  const auto part_bytes = std::size_t(count) * element_bytes;
  storage.resize(std::size_t(tensor.shape[0]) * part_bytes);
  for (std::size_t row = 0; row < std::size_t(tensor.shape[0]); ++row)
    std::ranges::copy(
        tensor.bytes.subspan(row * row_bytes + std::size_t(begin) * element_bytes, part_bytes),
        storage.begin() + std::ptrdiff_t(row * part_bytes));
  release(tensor);
  tensor.bytes = storage;
  tensor.shape[1] = count;
  return tensor;
}

const HostTensor& Checkpoint::whole(std::string_view name, bool is_of_any_type) const {
  const auto it = find(name);
  if (it == places_.end()) fail_missing(name);
  const auto& [stored_name, index] = *it;
  const Shard& shard = shards_[index];
  if (!shard.file) throw Error(shard.code, "tensor {} is needed: {}", stored_name, shard.problem);
  const auto path = shard.file->path().string();
  const auto tensor = shard.file->tensors().find(stored_name);
  if (tensor != shard.file->tensors().end() &&
      (is_of_any_type || dtype_row(tensor->second.dtype).is_float))
    return tensor->second;
  const auto foreign = shard.file->foreign().find(stored_name);
  if (tensor == shard.file->tensors().end() && foreign == shard.file->foreign().end())
    throw Error("{}: tensor {} is not in this file, but {} says so; download both again", path,
                stored_name, kIndex);
  throw Error(
      "{}: tensor {} has the type {}; a weight may be F32, F16 or BF16, or of another type where "
      "\"quantization_config\" in config.json says which",
      path, stored_name,
      foreign != shard.file->foreign().end() ? json_excerpt(Json(foreign->second))
                                             : dtype_row(tensor->second.dtype).safetensors);
}

void Checkpoint::fail_missing(std::string_view name) const {
  std::string hint;
  const auto longer = std::ranges::find_if(
      places_,
      [end = "." + std::string(name)](const auto& place) { return place.first.ends_with(end); });
  if (longer != places_.end()) {
    hint = fmt::format(", and {}: its names have a prefix more, as programs for training add it",
                       json_excerpt(Json(longer->first)));
  } else if (name == kHead) {
    hint =
        "; it may be a base model, which has no head to write text with, or one whose head is its "
        "embedding, of which config.json must say \"tie_word_embeddings\": true";
  } else if (shards_.front().name == kOneFile && std::filesystem::exists(dir_ / kIndex)) {
    hint = fmt::format("; {} is not read where {} is: remove the one that you do not want", kIndex,
                       kOneFile);
  } else if (const auto next = places_.lower_bound(name); next != places_.end()) {
    hint = fmt::format(", the next one is {}; config.json may be another model's",
                       json_excerpt(Json(next->first)));
  }
  throw Error(ErrorCode::not_found, "tensor {} not found in {}: there are {}{}", name,
              dir_.string(), places_.size(), hint);
}

void Checkpoint::release(const HostTensor& tensor) const {
  const auto* begin = tensor.bytes.data();
  for (const auto& shard : shards_) {
    if (!shard.file) continue;
    const auto bytes = shard.file->file().bytes();
    if (std::less_equal<>()(bytes.data(), begin) &&
        std::less<>()(begin, bytes.data() + bytes.size()))
      shard.file->file().release(tensor.bytes);
  }
}

}  // namespace nereid::model
