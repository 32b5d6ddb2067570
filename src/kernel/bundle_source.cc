#include "kernel/bundle_source.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "device/cpu/isa.h"
#include "kernel/builtin.h"
#include "kernel/compile_client.h"

namespace nereid::kernel {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxNamed = 8;  // kernels listed in an error

fs::path beside_model(const fs::path& model_dir, std::string target) {
  std::replace(target.begin(), target.end(), ':', '-');
  return model_dir / "bundle" / target;
}

// All that decides what a bundle of these requests holds.
std::string bundle_id(const SpecTable& specs, const std::string& target, const std::string& isa,
                      std::span<const KernelRequest> requests) {
  std::set<std::string> lines;
  for (const auto& request : requests) {
    const Spec* spec = specs.find(request.kernel);
    lines.insert(fmt::format("{} {}\n", spec == nullptr ? "" : spec->source_sha256, request.key()));
  }
  const bool is_cpu = target_family(target) == "cpu";
  return sha256_hex(fmt::format("{}\n{}\n{}\n{}\n{}", target, isa, specs.triton_version(),
                                is_cpu ? builtin_ttir_sha256() : "", fmt::join(lines, "")));
}

std::string kernels_of(std::span<const std::string> keys) {
  std::set<std::string> kernels;
  for (const auto& key : keys) kernels.insert(KernelRequest::from_key(key, "request").kernel);
  std::vector<std::string> named(kernels.begin(), kernels.end());
  const bool is_cut = named.size() > kMaxNamed;
  if (is_cut) named.resize(kMaxNamed);
  return fmt::format("{}{}", fmt::join(named, ", "), is_cut ? ", ..." : "");
}

// Why the bundle cannot serve; empty if it can.
std::string unfitness(const Bundle& bundle, const SpecTable& specs, const std::string& target,
                      const std::string& isa, std::span<const KernelRequest> requests) {
  if (bundle.target() != target)
    return fmt::format("{} was made for target {}, expected {}", bundle.dir().string(),
                       bundle.target(), target);
  if (!isa.empty() && !device::isa_runs(isa, bundle.isa()))
    return fmt::format("{} was compiled for {}, but this processor is {}", bundle.dir().string(),
                       bundle.isa(), isa);
  const auto missing = missing_keys(bundle, specs, requests);
  if (missing.empty()) return {};
  return fmt::format("{} lacks {} of {} kernel variants, or has them from other sources ({})",
                     bundle.dir().string(), missing.size(), requests.size(), kernels_of(missing));
}

// A file of its own in the system's folder for such, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    std::string name = (fs::temp_directory_path() / "nereid-requests-XXXXXX").string();
    const int fd = ::mkstemp(name.data());
    if (fd < 0) throw Error(ErrorCode::device, "cannot write {}: {}", name, std::strerror(errno));
    ::close(fd);
    path_ = name;
    write_text_file(path_, text);
  }
  ~TemporaryFile() {
    std::error_code error;
    fs::remove(path_, error);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void make_dirs(const fs::path& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error)
    throw Error(ErrorCode::device,
                "cannot make the folder {}: {}; set XDG_CACHE_HOME to a folder that can be written",
                dir.string(), error.message());
}

// Removes an unfinished folder unless it was given a name.
struct Unfinished {
  fs::path dir;
  ~Unfinished() {
    std::error_code error;
    if (!dir.empty()) fs::remove_all(dir, error);
  }
};

// A damaged object is found now, not by the step that first needs it.
Bundle verified(Bundle bundle) {
  for (const auto& variant : bundle.variants()) static_cast<void>(bundle.image(variant));
  return bundle;
}

fs::path bundles_dir() { return cache_dir() / "bundles"; }

// Names the bundle of the cache that has all kernels of a plan.
fs::path plan_path(const std::string& target, const std::string& isa, const std::string& plan_id) {
  return cache_dir() / "plans" /
         sha256_hex(fmt::format("{}\n{}\n{}\n{}\n{}", builtin_planner_sha256(),
                                builtin_ttir_sha256(), target, isa, plan_id));
}

std::optional<Bundle> open_if_present(const fs::path& dir, const std::string& isa) {
  if (!fs::exists(dir / "manifest.json")) return std::nullopt;
  return Bundle::open(dir, isa);
}

}  // namespace

fs::path cache_dir() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return fs::path(cache) / "nereid";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return fs::path(home) / ".cache" / "nereid";
  throw Error("no place for compiled kernels: set HOME or XDG_CACHE_HOME to an absolute path");
}

std::string requests_text(std::span<const KernelRequest> requests) {
  std::set<std::string> keys;
  for (const auto& request : requests) keys.insert(request.key());
  return keys.empty() ? "" : fmt::format("{}\n", fmt::join(keys, "\n"));
}

std::vector<std::string> missing_keys(const Bundle& bundle, const SpecTable& specs,
                                      std::span<const KernelRequest> requests) {
  std::set<std::string> missing;
  for (const auto& request : requests) {
    const Variant* variant = bundle.find(request.key());
    const Spec* spec = specs.find(request.kernel);
    if (variant == nullptr || (spec != nullptr && variant->source_sha256 != spec->source_sha256))
      missing.insert(request.key());
  }
  return {missing.begin(), missing.end()};
}

Bundle compile_bundle(const std::string& target, const std::string& isas,
                      std::span<const KernelRequest> requests, const fs::path& out_dir, int n_jobs,
                      const ProgressSink& progress) {
  const CompilerPaths compiler = find_compiler(target);
  make_dirs(out_dir);
  for (const auto& request : requests) {
    for (const auto& [name, source] : request.function_files) {
      make_dirs(out_dir / "generated" / "functions");
      write_text_file(out_dir / "generated" / "functions" / (name + ".py"), source);
    }
    if (!request.generated) continue;
    make_dirs(out_dir / "generated");
    write_text_file(out_dir / generated_path(request.kernel), request.generated->source);
    if (const auto& exported = request.generated->exported; !exported.empty())
      write_text_file(out_dir / exported_path(request.kernel), exported);
  }
  const TemporaryFile requests_file(requests_text(requests));
  run_compiler(compiler, target, isas, requests_file.path(), out_dir, n_jobs, progress);
  Bundle bundle = Bundle::open(out_dir);
  for (const auto& request : requests)
    if (bundle.find(request.key()) == nullptr)
      throw Error(ErrorCode::internal, "the kernel compiler left out {} in {}: {}", request.kernel,
                  out_dir.string(), request.key());
  return bundle;
}

Bundle find_bundle(const SpecTable& specs, const std::string& target, const std::string& isa,
                   std::span<const KernelRequest> requests, const BundleOptions& options) {
  // The ranks of a model ask for the same bundle at the same time; it is made at one place.
  static std::mutex mutex;
  const std::lock_guard one_at_a_time(mutex);
  if (!options.bundle_dir.empty()) {
    Bundle bundle = Bundle::open(options.bundle_dir, isa);
    const auto why = unfitness(bundle, specs, target, isa, requests);
    if (!why.empty())
      throw Error(ErrorCode::not_found, "{}; make it anew: {} --target {} --out {}", why,
                  options.command, target, options.bundle_dir.string());
    return verified(std::move(bundle));
  }

  std::vector<std::string> reasons;
  std::vector<fs::path> places;
  if (!options.model_dir.empty()) places.push_back(beside_model(options.model_dir, target));
  const fs::path cached = bundles_dir() / bundle_id(specs, target, isa, requests);
  places.push_back(cached);
  for (const auto& place : places) {
    auto bundle = open_if_present(place, isa);
    if (!bundle) continue;
    const auto why = unfitness(*bundle, specs, target, isa, requests);
    if (why.empty()) return place == cached ? std::move(*bundle) : verified(std::move(*bundle));
    reasons.push_back(why);
  }

  const auto fail = [&](const std::string& reason) {
    std::set<std::string> keys;
    for (const auto& request : requests) keys.insert(request.key());
    const std::vector<std::string> all(keys.begin(), keys.end());
    throw Error(
        ErrorCode::not_found,
        "no bundle with the {} kernel variants of this {} for target {} ({}){}{}, and {}.\n"
        "Make one where Python is: {} --target {} --out DIR; then {}name it with --bundle",
        all.size(), options.model_dir.empty() ? "graph" : "model", target, kernels_of(all),
        reasons.empty() ? "" : ": ", fmt::join(reasons, "; "), reason, options.command, target,
        options.model_dir.empty()
            ? ""
            : fmt::format("put it at {} or ", beside_model(options.model_dir, target).string()));
  };
  if (!options.may_compile) fail("compiling was not allowed");
  try {
    find_compiler(target);
  } catch (const Error& error) {
    fail(error.what());
  }

  // Made beside its place and moved there whole, so that nobody opens half a bundle.
  Unfinished unfinished{cached.string() + fmt::format(".{}.part", ::getpid())};
  const auto why = unfitness(
      compile_bundle(target, isa, requests, unfinished.dir, options.n_jobs, options.progress),
      specs, target, isa, requests);
  if (!why.empty())
    throw Error(ErrorCode::internal,
                "{}, though it was compiled just now: this program and its kernels at hand are not "
                "of one version; build it anew (./dev build)",
                why);
  std::error_code error;
  fs::rename(unfinished.dir, cached, error);
  if (error) {
    // Another process was first, or a stale bundle lies there.
    auto other = open_if_present(cached, isa);
    if (other && unfitness(*other, specs, target, isa, requests).empty()) return std::move(*other);
    fs::remove_all(cached);
    fs::rename(unfinished.dir, cached);
  }
  unfinished.dir.clear();
  return Bundle::open(cached, isa);
}

Bundle find_planned_bundle(const SpecTable& specs, const std::string& target,
                           const std::string& isa, const std::string& plan_id,
                           const PlanRequests& plan, const BundleOptions& options) {
  const bool is_brought =
      !options.bundle_dir.empty() ||
      (!options.model_dir.empty() && fs::exists(beside_model(options.model_dir, target)));
  if (plan_id.empty() || is_brought) return find_bundle(specs, target, isa, plan(), options);

  const auto path = plan_path(target, isa, plan_id);
  if (fs::exists(path)) {
    const auto name = read_text_file(path);
    // What is not one of our names is no path either.
    if (auto bundle =
            is_sha256_hex(name) ? open_if_present(bundles_dir() / name, isa) : std::nullopt;
        bundle && unfitness(*bundle, specs, target, isa, {}).empty())
      return std::move(*bundle);
  }
  auto bundle = find_bundle(specs, target, isa, plan(), options);
  try {
    make_dirs(path.parent_path());
    write_text_file(path, bundle.dir().filename().string());
  } catch (const Error&) {
    // A cache that cannot be written costs the time of planning, each time, and no more.
  }
  return bundle;
}

}  // namespace nereid::kernel
