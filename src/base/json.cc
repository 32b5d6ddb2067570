#include "base/json.h"

#include "base/mapped_file.h"

namespace nereid {

namespace {
// Deeper than any file of ours; stops a hostile file from exhausting the stack when the value is
// destroyed.
constexpr int kMaxDepth = 64;
}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  const Json::parser_callback_t limit = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) throw Error("{}: nested deeper than {} levels", where, kMaxDepth);
    return true;
  };
  try {
    return Json::parse(text, limit);
  } catch (const Json::exception& error) {
    throw Error("{}: not valid JSON: {}", where, error.what());
  }
}

Json read_json_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace nereid
