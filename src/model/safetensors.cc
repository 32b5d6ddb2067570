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

constexpr std::size_t kDataAlignmentBytes = 64;

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const auto bytes = file_.bytes();
  for (auto& entry : parse_safetensors_header(bytes, path.string())) {
    if (entry.dtype)
      tensors_[std::move(entry.name)] = {*entry.dtype, std::move(entry.shape),
                                         bytes.subspan(entry.begin, entry.end - entry.begin)};
    else
      foreign_[std::move(entry.name)] = std::move(entry.dtype_name);
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
