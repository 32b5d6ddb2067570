// Goal: a file's bytes, read-only, without copying them. Errors name the path.
// Non-goal: writing, or watching for changes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace nereid {

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }
  const std::filesystem::path& path() const { return path_; }

  // Tells the kernel that these bytes will not be read again, so that they stop counting as
  // resident.
  void release(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

// The whole file as text; an Error names the path and the reason.
std::string read_text_file(const std::filesystem::path& path);

// Replaces the file in one step (written beside it, then renamed), so that a reader never sees half
// of it.
void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_text_file(const std::filesystem::path& path, const std::string& text);

}  // namespace nereid
