#include "model/snapshot_writer.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace nereid::model {

namespace {

namespace fs = std::filesystem;

constexpr double kBytesPerMb = 1e6;
// As PyTorch's own files say; transformers looks for it.
const std::map<std::string, std::string> kMetadata{{"format", "pt"}};

// Where links lead, without "." or "/" at the end, so that a name may be put behind it.
fs::path resolved(const fs::path& dir) {
  std::error_code ignored;
  auto path = fs::weakly_canonical(fs::absolute(dir), ignored);
  if (path.empty()) path = fs::absolute(dir).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

void check_is_free(const fs::path& dir) {
  std::error_code error;
  const auto status = fs::status(dir, error);
  if (status.type() == fs::file_type::not_found) return;
  if (!fs::is_directory(status))
    throw Error("{} is no directory; expected a new one, or one that is empty", dir.string());
  const bool is_empty = fs::is_empty(dir, error);
  if (error) throw Error("cannot read {}: {}", dir.string(), error.message());
  if (!is_empty)
    throw Error("{} is not empty: nothing is overwritten; give a new directory", dir.string());
}

}  // namespace

SnapshotWriter::SnapshotWriter(const fs::path& dir, const std::vector<Group>& groups,
                               std::int64_t max_shard_bytes)
    : dir_(resolved(dir)), partial_(dir_.string() + fmt::format(".{}.part", ::getpid())) {
  check_is_free(dir_);
  std::size_t shard_bytes = 0;
  for (const auto& group : groups) {
    std::size_t group_bytes = 0;
    for (const auto& tensor : group) group_bytes += tensor.size_bytes();
    if (shards_.empty() || (shard_bytes > 0 && shard_bytes + group_bytes >
                                                   static_cast<std::size_t>(max_shard_bytes))) {
      shards_.emplace_back();
      shard_bytes = 0;
    }
    auto& tensors = shards_.back().tensors;
    tensors.insert(tensors.end(), group.begin(), group.end());
    shard_bytes += group_bytes;
    tensor_bytes_ += group_bytes;
  }
  for (std::size_t i = 0; i < shards_.size(); ++i)
    shards_[i].name = shards_.size() == 1
                          ? "model.safetensors"
                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards_.size());
  std::error_code error;
  fs::create_directories(partial_, error);
  if (error) throw Error(ErrorCode::device, "cannot make {}: {}", dir_.string(), error.message());
  const auto space = fs::space(partial_, error);
  if (!error && space.available < tensor_bytes_) {
    fs::remove_all(partial_, error);
    throw Error(ErrorCode::device, "{} takes {:.0f} MB, of which the disk has {:.0f}: make room",
                dir_.string(), static_cast<double>(tensor_bytes_) / kBytesPerMb,
                static_cast<double>(space.available) / kBytesPerMb);
  }
}

SnapshotWriter::~SnapshotWriter() {
  if (is_finished_) return;
  shard_.reset();
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

void SnapshotWriter::open_next() {
  const auto& shard = shards_[next_shard_++];
  shard_.emplace(partial_ / shard.name, shard.tensors, kMetadata);
}

void SnapshotWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (!shard_) {
      NEREID_CHECK(next_shard_ < shards_.size(), "{} bytes more than all tensors have",
                   bytes.size());
      open_next();
    }
    const auto part = bytes.first(std::min(bytes.size(), shard_->missing_bytes()));
    shard_->write(part);
    bytes = bytes.subspan(part.size());
    if (shard_->missing_bytes() > 0) continue;
    shard_->finish();
    shard_.reset();
  }
}

void SnapshotWriter::write_json(const std::string& name, const Json& document) {
  constexpr int kIndent = 2;
  write_text_file(partial_ / name,
                  document.dump(kIndent, ' ', false, Json::error_handler_t::replace) + "\n");
}

void SnapshotWriter::copy(const fs::path& source) {
  std::error_code error;
  fs::copy(source, partial_ / source.filename(), fs::copy_options::recursive, error);
  if (error)
    throw Error(ErrorCode::device, "cannot copy {} to {}: {}", source.string(), dir_.string(),
                error.message());
}

void SnapshotWriter::write_index() {
  Json places = Json::object();
  for (const auto& shard : shards_)
    for (const auto& tensor : shard.tensors) places[tensor.name] = shard.name;
  write_json("model.safetensors.index.json",
             {{"metadata", {{"total_size", tensor_bytes_}}}, {"weight_map", std::move(places)}});
}

void SnapshotWriter::finish() {
  // Shards of tensors without elements got no bytes.
  while (shard_ || next_shard_ < shards_.size()) {
    if (!shard_) open_next();
    shard_->finish();
    shard_.reset();
  }
  if (shards_.size() > 1) write_index();
  std::error_code error;
  fs::rename(partial_, dir_, error);
  if (error)
    throw Error(ErrorCode::device, "cannot name {}: {}; give a new directory", dir_.string(),
                error.message());
  is_finished_ = true;
}

}  // namespace nereid::model
