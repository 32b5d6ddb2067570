#include "model/safetensors_writer.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "base/json.h"

namespace nereid::model {

namespace {

constexpr std::size_t kDataAlignmentBytes = 64;

}  // namespace

std::size_t TensorPlace::size_bytes() const {
  return static_cast<std::size_t>(n_elements(shape)) * dtype_size_bytes(dtype);
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path,
                                     std::span<const TensorPlace> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)), partial_(path_.string() + fmt::format(".{}.part", ::getpid())) {
  // An ordered JSON: readers list tensors as they are stored.
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const auto& tensor : tensors) {
    NEREID_CHECK(!header.contains(tensor.name), "{} is there twice", tensor.name);
    const auto end = all_bytes_ + tensor.size_bytes();
    header[tensor.name] = {{"dtype", dtype_row(tensor.dtype).safetensors},
                           {"shape", tensor.shape},
                           {"data_offsets", {all_bytes_, end}}};
    all_bytes_ = end;
  }
  missing_bytes_ = all_bytes_;
  std::string text = header.dump();
  const std::size_t unaligned = (sizeof(std::uint64_t) + text.size()) % kDataAlignmentBytes;
  if (unaligned != 0) text.append(kDataAlignmentBytes - unaligned, ' ');
  const std::uint64_t header_bytes = text.size();
  out_.open(partial_, std::ios::binary | std::ios::trunc);
  write_all(&header_bytes, sizeof header_bytes);
  write_all(text.data(), text.size());
}

SafetensorsWriter::~SafetensorsWriter() {
  if (is_finished_) return;
  out_.close();
  std::error_code ignored;
  std::filesystem::remove(partial_, ignored);
}

void SafetensorsWriter::fail(const std::string& reason) {
  out_.close();
  std::error_code ignored;
  std::filesystem::remove(partial_, ignored);
  throw Error(ErrorCode::device, "cannot write {} ({} bytes of tensors): {}", path_.string(),
              all_bytes_, reason);
}

void SafetensorsWriter::write_all(const void* data, std::size_t n_bytes) {
  out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(n_bytes));
  if (!out_) fail(std::strerror(errno));
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  NEREID_CHECK(bytes.size() <= missing_bytes_, "{} bytes of tensors of which {} are missing",
               bytes.size(), missing_bytes_);
  write_all(bytes.data(), bytes.size());
  missing_bytes_ -= bytes.size();
}

void SafetensorsWriter::finish() {
  NEREID_CHECK(missing_bytes_ == 0, "{} bytes of {} are missing", missing_bytes_, path_.string());
  out_.close();
  if (!out_) fail(std::strerror(errno));
  std::error_code error;
  std::filesystem::rename(partial_, path_, error);
  if (error) fail(error.message());
  is_finished_ = true;
}

}  // namespace nereid::model
