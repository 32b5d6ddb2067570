#include "kernel/bundle.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "device/cpu/isa.h"
#include "kernel/spec.h"

namespace nereid::kernel {

namespace {

constexpr int kBundleSchema = 2;
// Far above anything a kernel of ours needs; a manifest that asks for more is damaged.
constexpr std::size_t kMaxManifestBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxArgs = 64;
constexpr std::int64_t kMaxArenaBytes = std::int64_t{1} << 30;
constexpr std::int64_t kMaxSharedBytes = std::int64_t{1} << 24;
constexpr std::int64_t kMaxThreads = 4096;

bool is_identifier(std::string_view text) {
  return !text.empty() && text.size() <= 512 &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$."
             "-") == std::string_view::npos;
}

// An integer field within [low, high].
std::int64_t bounded(const Json& json, const char* name, std::int64_t low, std::int64_t high,
                     const std::string& where) {
  const auto it = json.find(name);
  if (it == json.end()) throw Error("{}: field \"{}\" is missing", where, name);
  if (!it->is_number_integer() || it->is_number_float() ||
      (it->is_number_unsigned() && it->get<std::uint64_t>() > INT64_MAX) ||
      it->get<std::int64_t>() < low || it->get<std::int64_t>() > high)
    throw Error("{}: field \"{}\": expected an integer from {} to {}, got {}", where, name, low,
                high, it->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 100));
  return it->get<std::int64_t>();
}

std::optional<std::int64_t> optional_count(const Json& json, const char* name,
                                           const std::string& where) {
  if (!json.contains(name) || json.at(name).is_null()) return std::nullopt;
  return bounded(json, name, 0, INT32_MAX, where);
}

// An expression over the variant's constexprs, element sizes and integer arguments.
Expression parse_over_args(const std::string& text, const Variant& variant,
                           const std::string& where) {
  const Expression::Lookup known = [&](std::string_view symbol) -> std::optional<std::int64_t> {
    const auto& constexprs = variant.request.constexprs;
    if (const auto it = constexprs.find(std::string(symbol)); it != constexprs.end())
      return it->second;
    if (!symbol.starts_with("sizeof(")) return std::nullopt;
    const auto arg = variant.request.args.find(std::string(symbol.substr(7, symbol.size() - 8)));
    if (arg == variant.request.args.end() || !arg->second.starts_with('*')) return std::nullopt;
    const auto dtype =
        dtype_from_name(std::string_view(arg->second).substr(1, arg->second.find(':') - 1));
    if (!dtype) return std::nullopt;
    return static_cast<std::int64_t>(dtype_size_bytes(*dtype));
  };
  auto expression = Expression::parse(text, where).substitute(known);
  for (const auto& symbol : expression.symbols()) {
    const bool is_integer =
        std::any_of(variant.args.begin(), variant.args.end(), [&](const VariantArg& arg) {
          return arg.name == symbol && arg.type >= device::ArgType::i8 &&
                 arg.type <= device::ArgType::i64;
        });
    if (!is_integer)
      throw Error("{}: \"{}\" reads {}, which is no integer argument", where, text, symbol);
  }
  return expression;
}

// The arguments that give a tensor map's shape and strides: right behind it, in this order.
std::vector<VariantArg> rows_behind(const std::string& name, std::size_t rank) {
  std::vector<VariantArg> rows;
  for (std::size_t i = 0; i < rank; ++i)
    rows.push_back({fmt::format("{}.shape{}", name, i), device::ArgType::i32});
  for (std::size_t i = 0; i < rank; ++i)
    rows.push_back({fmt::format("{}.stride{}", name, i), device::ArgType::i64});
  return rows;
}

// The launch arguments, which must be what the request names: the planner binds by these names and
// types.
std::vector<VariantArg> parse_args(const Json& json, const KernelRequest& request,
                                   const std::map<std::string, std::size_t>& ranks,
                                   const std::string& where) {
  const auto rows = json_field<std::vector<std::array<std::string, 2>>>(json, "args", where);
  if (rows.size() > kMaxArgs) throw Error("{}: {} arguments", where, rows.size());
  std::vector<VariantArg> args;
  std::vector<VariantArg> behind;  // still to come
  for (const auto& [name, type_name] : rows) {
    const auto type = device::arg_type_from_name(type_name);
    if (!type) throw Error("{}: argument {} has the unknown type \"{}\"", where, name, type_name);
    for (const auto& other : args)
      if (other.name == name) throw Error("{}: argument {} appears twice", where, name);
    if (!behind.empty()) {
      if (name != behind.front().name || *type != behind.front().type)
        throw Error("{}: expected the argument {}, got {} {}", where, behind.front().name, name,
                    type_name);
      args.push_back(behind.front());
      behind.erase(behind.begin());
      continue;
    }
    const auto asked = request.args.find(name);
    if (asked == request.args.end())
      throw Error("{}: argument {} is not in the variant's key", where, name);
    const std::string_view asked_type =
        std::string_view(asked->second).substr(0, asked->second.find(':'));
    const bool is_pointer =
        *type == device::ArgType::pointer || *type == device::ArgType::tensor_map;
    if (asked_type.starts_with('*') ? !is_pointer : asked_type != type_name)
      throw Error("{}: argument {} is {}, but its key says {}", where, name, type_name,
                  asked->second);
    args.push_back({name, *type});
    if (*type == device::ArgType::tensor_map) {
      const auto rank = ranks.find(name);
      if (rank == ranks.end()) throw Error("{}: nothing says what {} maps", where, name);
      behind = rows_behind(name, rank->second);
    }
  }
  if (!behind.empty()) throw Error("{}: argument {} is missing", where, behind.front().name);
  return args;
}

std::array<Expression, 3> parse_grid(const Json& json, const Variant& variant,
                                     const std::string& where) {
  const auto texts = json_field<std::array<std::string, 3>>(json, "grid", where);
  std::array<Expression, 3> grid;
  for (std::size_t i = 0; i < 3; ++i)
    grid[i] = parse_over_args(texts[i], variant, where + ", grid");
  return grid;
}

// "tensor_maps": by argument name. Absent where a variant has none.
Json maps_json(const Json& json, const std::string& where) {
  const auto it = json.find("tensor_maps");
  if (it == json.end()) return Json::object();
  if (!it->is_object()) throw Error("{}: \"tensor_maps\" is no object", where);
  return *it;
}

std::map<std::string, std::size_t> map_ranks(const Json& maps, const std::string& where) {
  std::map<std::string, std::size_t> ranks;
  for (const auto& [name, row] : maps.items()) {
    const auto n = json_field<std::vector<std::uint32_t>>(row, "box", where + ", " + name).size();
    if (n < 1 || n > device::kMaxTensorMapRank)
      throw Error("{}: a tensor map of rank {}; expected 1 to {}", where + ", " + name, n,
                  device::kMaxTensorMapRank);
    ranks[name] = n;
  }
  return ranks;
}

std::vector<TensorMapArg> parse_tensor_maps(const Json& maps, const Variant& variant,
                                            const std::string& where) {
  std::vector<TensorMapArg> parsed;
  for (std::size_t i = 0; i < variant.args.size(); ++i) {
    if (variant.args[i].type != device::ArgType::tensor_map) continue;
    const auto& name = variant.args[i].name;
    const std::string here = where + ", tensor map " + name;
    const Json& row = maps.at(name);
    TensorMapArg map;
    map.arg = i;
    const auto element = json_field<std::string>(row, "element", here);
    const auto dtype = dtype_from_name(element);
    if (!dtype) throw Error("{}: unknown element type \"{}\"", here, element);
    map.element = *dtype;
    map.swizzle_bytes = static_cast<int>(bounded(row, "swizzle_bytes", 0, 128, here));
    map.box = json_field<std::vector<std::uint32_t>>(row, "box", here);
    const auto parse_each = [&](const char* field) {
      std::vector<Expression> expressions;
      for (const auto& text : json_field<std::vector<std::string>>(row, field, here))
        expressions.push_back(parse_over_args(text, variant, here));
      if (expressions.size() != map.rank())
        throw Error("{}: {} expressions of its {}, rank {}", here, expressions.size(), field,
                    map.rank());
      return expressions;
    };
    map.shape = parse_each("shape");
    map.strides = parse_each("strides");
    parsed.push_back(std::move(map));
  }
  if (parsed.size() != maps.size())
    throw Error("{}: {} tensor maps for {} arguments that take one", where, maps.size(),
                parsed.size());
  return parsed;
}

Variant parse_variant(const Json& json, const std::string& where) {
  Variant variant;
  variant.key = json_field<std::string>(json, "key", where);
  variant.request = KernelRequest::from_key(variant.key, where + ", key");
  if (variant.request.key() != variant.key)
    throw Error("{}: the key is not in canonical form; expected {}", where, variant.request.key());
  variant.symbol = json_field<std::string>(json, "symbol", where);
  if (!is_identifier(variant.symbol)) throw Error("{}: the symbol is no identifier", where);
  variant.object = json_field<std::string>(json, "object", where);
  variant.object_sha256 = json_field<std::string>(json, "object_sha256", where);
  variant.source_sha256 = json_field<std::string>(json, "source_sha256", where);
  if (!is_sha256_hex(variant.object_sha256) || !is_sha256_hex(variant.source_sha256))
    throw Error("{}: expected SHA-256 hashes of 64 hexadecimal digits", where);
  variant.isa = json_field_or<std::string>(json, "isa", "", where);
  variant.source = json_field_or<std::string>(json, "source", "", where);
  if (!variant.source.empty() && variant.source != generated_path(variant.request.kernel))
    throw Error("{}: source is \"{}\"; expected {}", where, variant.source.substr(0, 200),
                generated_path(variant.request.kernel));
  bool is_right_path = false;
  for (const char* suffix : {".so", ".cubin", ".hsaco"})
    is_right_path |= variant.object == "objects/" + variant.object_sha256 + suffix;
  if (!is_right_path)
    throw Error("{}: object is \"{}\"; expected objects/{}.so, .cubin or .hsaco", where,
                variant.object.substr(0, 200), variant.object_sha256);
  const Json maps = maps_json(json, where);
  variant.args = parse_args(json, variant.request, map_ranks(maps, where), where);
  variant.tensor_maps = parse_tensor_maps(maps, variant, where);
  variant.grid = parse_grid(json, variant, where);
  variant.num_warps = static_cast<std::uint32_t>(bounded(json, "num_warps", 1, 64, where));
  variant.n_threads = static_cast<std::uint32_t>(bounded(json, "n_threads", 1, kMaxThreads, where));
  variant.shared_bytes =
      static_cast<std::uint32_t>(bounded(json, "shared_bytes", 0, kMaxSharedBytes, where));
  variant.arena_bytes =
      static_cast<std::size_t>(bounded(json, "arena_bytes", 0, kMaxArenaBytes, where));
  variant.global_scratch_bytes =
      static_cast<std::uint32_t>(bounded(json, "global_scratch_bytes", 0, INT32_MAX, where));
  if (json.contains("programmatic_launch"))
    variant.programmatic_launch = json_field<bool>(json, "programmatic_launch", where);
  variant.registers = optional_count(json, "registers", where);
  variant.spills = optional_count(json, "spills", where);
  return variant;
}

// The highest level that a processor of level `isa` runs; where it runs none, the highest.
std::string best_isa(const std::set<std::string>& isas, std::string_view isa) {
  const auto rank = [&](const std::string& level) {
    const bool is_running = isa.empty() || device::isa_runs(isa, level);
    const auto n_below = std::ranges::count_if(
        isas, [&](const std::string& other) { return device::isa_runs(level, other); });
    return std::pair(is_running, n_below);
  };
  const auto best = std::ranges::max_element(isas, {}, rank);
  return best == isas.end() ? "" : *best;
}

}  // namespace

std::string generated_path(std::string_view kernel) {
  return fmt::format("generated/{}.py", kernel);
}

std::string exported_path(std::string_view kernel) {
  return fmt::format("generated/{}.json", kernel);
}

Bundle Bundle::open(const std::filesystem::path& dir, std::string_view isa) {
  const auto path = dir / "manifest.json";
  const MappedFile file(path);
  const std::string where = path.string();
  const auto bytes = file.bytes();
  if (bytes.size() > kMaxManifestBytes)
    throw Error("{}: {} bytes; expected at most {}", where, bytes.size(), kMaxManifestBytes);
  const Json json = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, where);
  const auto schema = json_field<std::int64_t>(json, "schema", where);
  if (schema != kBundleSchema)
    throw Error("{}: expected schema {}, got {}; make the bundle anew with this version", where,
                kBundleSchema, schema);
  Bundle bundle;
  bundle.dir_ = dir;
  bundle.target_ = json_field<std::string>(json, "target", where);
  bundle.triton_ = json_field<std::string>(json, "triton", where);
  bundle.compiler_ = json_field_or<std::string>(json, "compiler", "", where);
  const auto variants = json.find("variants");
  if (variants == json.end() || !variants->is_array())
    throw Error("{}: field \"variants\" is missing or no list", where);
  const bool is_cpu = target_family(bundle.target_) == "cpu";
  std::set<std::pair<std::string, std::string>> seen;
  std::vector<Variant> all;
  for (const auto& json_variant : *variants) {
    const auto which = fmt::format("{}: variant {}", where, all.size());
    all.push_back(parse_variant(json_variant, which));
    const auto& variant = all.back();
    if (is_cpu && variant.isa.empty()) throw Error("{}: field \"isa\" is missing", which);
    if (!seen.emplace(variant.key, variant.isa).second)
      throw Error("{}: its key appears twice", which);
    bundle.isas_.insert(variant.isa);
  }
  bundle.isa_ = best_isa(bundle.isas_, isa);
  for (auto& variant : all) {
    if (variant.isa != bundle.isa_) continue;
    bundle.by_key_.emplace(variant.key, bundle.variants_.size());
    bundle.variants_.push_back(std::move(variant));
  }
  return bundle;
}

const Variant* Bundle::find(std::string_view key) const {
  const auto it = by_key_.find(key);
  return it == by_key_.end() ? nullptr : &variants_[it->second];
}

device::KernelImage Bundle::image(const Variant& variant) {
  const auto path = dir_ / variant.object;
  auto it = objects_.find(variant.object);
  if (it == objects_.end()) {
    MappedFile file(path);
    const std::string got = sha256_hex(file.bytes());
    if (got != variant.object_sha256)
      throw Error(
          "{} (kernel {}) is damaged: expected SHA-256 {}, got {}; remove {} and run again, or "
          "make "
          "the bundle anew with nereid compile",
          path.string(), variant.request.kernel, variant.object_sha256, got, dir_.string());
    it = objects_.emplace(variant.object, std::move(file)).first;
  }
  device::KernelImage image;
  image.symbol = variant.symbol;
  image.object_path = path.string();
  image.object = it->second.bytes();
  for (const auto& arg : variant.args) image.args.push_back(arg.type);
  image.n_threads = variant.n_threads;
  image.shared_bytes = variant.shared_bytes;
  image.arena_bytes = variant.arena_bytes;
  image.global_scratch_bytes = variant.global_scratch_bytes;
  image.programmatic_launch = variant.programmatic_launch;
  image.isa = variant.isa;
  // Options of the compiler that a launch must know, too.
  const auto option = [&](const char* name, std::int64_t otherwise) {
    const auto found = variant.request.options.find(name);
    return found == variant.request.options.end() ? otherwise : found->second;
  };
  image.cooperative = option("launch_cooperative_grid", 0) != 0;
  image.cluster_size = static_cast<std::uint32_t>(option("num_ctas", 1));
  return image;
}

std::string target_text(const Bundle& bundle) {
  if (bundle.isa().empty()) return bundle.target();
  return fmt::format("{} ({})", bundle.target(), fmt::join(bundle.isas(), ", "));
}

}  // namespace nereid::kernel
