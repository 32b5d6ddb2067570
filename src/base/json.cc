#include "base/json.h"

#include <cctype>

#include "base/file_kind.h"
#include "base/mapped_file.h"

namespace nereid {

namespace {
// Deeper than any file of ours; stops a hostile file from exhausting the stack when the value is
// destroyed.
constexpr int kMaxDepth = 64;

// Beforehand: a parser that asks at each value whether it may go on takes twice the time.
void check_depth(std::string_view text, const std::string& where) {
  int depth = 0;
  bool is_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"')
      is_string = !is_string;
    else if (is_string)
      i += c == '\\' ? 1 : 0;
    else if (c == '{' || c == '[')
      ++depth;
    else if (c == '}' || c == ']')
      --depth;
    if (depth > kMaxDepth) throw Error("{}: nested deeper than {} levels", where, kMaxDepth);
  }
}
}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  check_depth(text, where);
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw Error("{}: not valid JSON: {}", where, not_json_reason(text, error));
  }
}

std::string not_json_reason(std::string_view text, const Json::exception& error) {
  if (auto kind = mistaken_file(text); !kind.empty()) return kind;
  const auto* at = dynamic_cast<const Json::parse_error*>(&error);
  if (at != nullptr && at->byte > text.size())
    return fmt::format("it ends in the middle, after {} bytes: a download that was not finished?",
                       text.size());
  constexpr std::size_t kMaxShown = 60;
  if (!text.empty() && std::isalpha(static_cast<unsigned char>(text.front())) != 0)
    return fmt::format(
        "it is a text that begins with {}: a server's answer to the download?",
        Json(text.substr(0, kMaxShown)).dump(-1, ' ', true, Json::error_handler_t::replace));
  return error.what();
}

const Json& json_member(const Json& object, const std::string& key, const std::string& where) {
  if (!object.is_object())
    throw Error("{}: expected a JSON object, got {}", where, object.type_name());
  const auto it = object.find(key);
  if (it == object.end()) throw Error("{}: field \"{}\" is missing", where, key);
  return *it;
}

Json read_json_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace nereid
