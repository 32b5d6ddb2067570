#include "model/safetensors.h"

#include "base/error.h"
#include "model/safetensors_header.h"
#include "model/safetensors_writer.h"

namespace nereid::model {

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
  std::vector<TensorPlace> places;
  for (const auto& [name, tensor] : tensors) {
    places.push_back({name, tensor.dtype, tensor.shape});
    NEREID_CHECK(places.back().size_bytes() == tensor.bytes.size(),
                 "{}: shape {} of {} and {} bytes", name, shape_text(tensor.shape),
                 dtype_name(tensor.dtype), tensor.bytes.size());
  }
  SafetensorsWriter writer(path, places);
  for (const auto& [name, tensor] : tensors) writer.write(tensor.bytes);
  writer.finish();
}

}  // namespace nereid::model
