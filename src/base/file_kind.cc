#include "base/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace nereid {

namespace {

constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(), [](char a, char b) {
           return a == std::tolower(static_cast<unsigned char>(b));
         });
}

// The "size 4976698672" of a pointer; the text after it where it has none.
std::string lfs_size(std::string_view pointer) {
  constexpr std::string_view kSize = "\nsize ";
  const auto at = pointer.find(kSize);
  if (at == std::string_view::npos) return {};
  const auto digits = pointer.substr(at + kSize.size()).substr(0, 20);
  const auto n_digits = std::min(digits.find_first_not_of("0123456789"), digits.size());
  return n_digits == 0 ? std::string() : fmt::format(" of {} bytes", digits.substr(0, n_digits));
}

bool is_markup(std::string_view content) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (content.starts_with(kByteOrderMark)) content.remove_prefix(kByteOrderMark.size());
  content.remove_prefix(std::min(content.find_first_not_of(" \t\r\n"), content.size()));
  return std::ranges::any_of(
      std::initializer_list<std::string_view>{"<!doctype html", "<html", "<head", "<?xml",
                                              "<error"},
      [&](std::string_view tag) { return starts_with_ignoring_case(content, tag); });
}

}  // namespace

std::string mistaken_file(std::string_view content) {
  if (content.empty())
    return "the file is empty, as a download that failed leaves it; download it again";
  if (content.starts_with(kLfsPointer))
    return fmt::format(
        "this is a git-lfs pointer, not the file{} itself; run `git lfs pull` in its repository, "
        "or "
        "download the file",
        lfs_size(content));
  if (is_markup(content))
    return "this is a web page (HTML or XML), not the file: a server answered the download with a "
           "page, such as a login or an error; download it again, with the access that it needs";
  if (content.starts_with("GGUF"))
    return "this is a GGUF file, which is not read; take the Hugging Face snapshot with "
           "safetensors "
           "weights that it was made from";
  // A safetensors file may begin with any bytes, the length of its header, but then comes a '{'.
  if (content.size() > 8 && content[8] == '{') return {};
  if (content.starts_with("PK\x03\x04") || content.starts_with("\x80\x02"))
    return "this is a PyTorch checkpoint (a pickle), which is not read, since reading one can run "
           "code; convert it with transformers: model.save_pretrained(DIRECTORY)";
  return {};
}

}  // namespace nereid
