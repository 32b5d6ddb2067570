#include "kernel/own_op.h"

#include <cctype>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "kernel/builtin.h"
#include "kernel/bundle_source.h"
#include "kernel/compile_client.h"

namespace nereid::kernel {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHashDigits = 12;
constexpr int kSchema = 1;

std::string line_text(const Json& json, const fs::path& file, const std::string& where) {
  return fmt::format("{}:{}", file.string(), json_field<int>(json, "line", where));
}

OwnOp parse(const std::string& exported, const fs::path& file, const std::string& name,
            std::string source) {
  const auto where = fmt::format("what Python said of {}", file.string());
  const Json json = parse_json(exported, where);
  if (const auto schema = json_field<int>(json, "schema", where); schema != kSchema)
    throw Error("{}: expected schema {}, got {}", where, kSchema, schema);
  OwnOp op;
  op.where = line_text(json, file, where);
  const Json& row = json_member(json, "row", where);
  const std::pair<const char*, OwnRow::Part*> parts[] = {{"name", &op.row.name},
                                                         {"operands", &op.row.operands},
                                                         {"results", &op.row.results},
                                                         {"in_place", &op.row.aliases},
                                                         {"attributes", &op.row.attributes}};
  for (const auto& [part_name, part] : parts) {
    const Json& given = json_member(row, part_name, where);
    part->text = json_field<std::string>(given, "text", where);
    part->where = line_text(given, file, where);
  }
  for (const auto& [param, line] : json_member(json, "params", where).items())
    op.lines[param] = fmt::format("{}:{}", file.string(), line.get<int>());
  auto kernel = std::make_shared<GeneratedKernel>();
  kernel->spec = parse_spec(json_member(json, "spec", where), name, op.where);
  kernel->source = std::move(source);
  kernel->exported = exported;
  op.kernel = std::move(kernel);
  return op;
}

// By all that decides what Python says of it: the file, and the program's own sources that it may
// import.
fs::path cached_path(const std::string& name, const std::string& source) {
  return cache_dir() / "ops" /
         (sha256_hex(fmt::format("{}\n{}\n{}", builtin_planner_sha256(), name, source)) + ".json");
}

void keep(const fs::path& path, const std::string& exported) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  try {
    write_text_file(path, exported);
  } catch (const Error&) {
    // A cache that cannot be written costs running the file each time, and no more.
  }
}

}  // namespace

std::string own_source_name(const fs::path& file, const std::string& source) {
  auto name = file.stem().string();
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return name + "_" + sha256_hex(source).substr(0, kHashDigits);
}

OwnOp load_own_op(const fs::path& file, const fs::path& bundle_dir) {
  auto source = read_text_file(file);
  const auto name = own_source_name(file, source);
  if (const auto brought = bundle_dir / exported_path(name);
      !bundle_dir.empty() && fs::exists(brought))
    return parse(read_text_file(brought), file, name, std::move(source));
  const auto path = cached_path(name, source);
  if (fs::exists(path)) return parse(read_text_file(path), file, name, std::move(source));
  const auto exported = run_own_export(file, name);
  auto op = parse(exported, file, name, std::move(source));
  keep(path, exported);
  return op;
}

}  // namespace nereid::kernel
