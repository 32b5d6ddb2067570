#include "measure/proof.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "kernel/bundle.h"

namespace nereid::measure {

namespace {

namespace fs = std::filesystem;

// Libraries of vendors and frameworks that compute, by what their file names contain. The driver
// (libcuda.so.1 and the libnvidia-* it opens) is not one: it loads and launches.
constexpr std::array<std::string_view, 33> kVendorLibraries{
    "cublas",   "cudnn",     "cudart",     "nvrtc",       "nvjitlink", "cufft",   "curand",
    "cusparse", "cusolver",  "cutensor",   "cutlass",     "nvinfer",   "nccl",    "libtorch",
    "libc10",   "libtriton", "libpython",  "mkl",         "blas",      "lapack",  "onednn",
    "dnnl",     "xnnpack",   "tensorflow", "onnxruntime", "rocblas",   "hipblas", "miopen",
    "amdhip",   "rocfft",    "rocsparse",  "rccl",        "level_zero"};

// The manifest beside an object, its variants by the hash of their object.
class Manifest {
 public:
  explicit Manifest(const fs::path& dir) : bundle_(kernel::Bundle::open(dir)) {
    for (const auto& variant : bundle_.variants())
      by_object_.emplace(variant.object_sha256, &variant);
  }

  const fs::path& dir() const { return bundle_.dir(); }
  bool has_object(const std::string& sha256) const { return by_object_.contains(sha256); }
  bool has(const LoadedObject& object) const {
    const auto [begin, end] = by_object_.equal_range(object.sha256);
    return std::any_of(begin, end,
                       [&](const auto& entry) { return entry.second->symbol == object.symbol; });
  }

 private:
  kernel::Bundle bundle_;
  std::multimap<std::string, const kernel::Variant*, std::less<>> by_object_;
};

// An object that the system's loader mapped by its path, behind the bytes that were checked.
void check_mapped_object(const std::string& path, const Manifest& manifest) {
  if (path.ends_with(" (deleted)"))
    throw Error("proof failed: {} was replaced while it was mapped", path);
  const MappedFile file(path);
  const auto sha256 = sha256_hex(file.bytes());
  if (!manifest.has_object(sha256))
    throw Error("proof failed: {} is mapped with SHA-256 {}, which is not in {}", path, sha256,
                (manifest.dir() / "manifest.json").string());
}

}  // namespace

std::vector<std::string> mapped_files(std::string_view maps) {
  std::set<std::string> files;
  while (!maps.empty()) {
    const auto line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(line.size() + 1, maps.size()));
    if (const auto at = line.find('/'); at != std::string_view::npos)
      files.emplace(line.substr(at));
  }
  return {files.begin(), files.end()};
}

std::string_view vendor_library(std::string_view path) {
  std::string name(path.substr(path.rfind('/') + 1));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.find(".so") == std::string::npos) return {};
  for (const auto library : kVendorLibraries)
    if (name.find(library) != std::string::npos) return library;
  return {};
}

Proof prove(const std::vector<LoadedObject>& objects, std::string_view maps) {
  Proof proof;
  std::map<std::string, Manifest> manifests;
  for (const auto& object : objects) {
    if (object.n_launches == 0) continue;
    // "BUNDLE/objects/HASH.cubin"
    const fs::path dir = fs::canonical(fs::path(object.path).parent_path().parent_path());
    const auto& manifest = manifests.try_emplace(dir.string(), dir).first->second;
    if (!manifest.has(object))
      throw Error(
          "proof failed: {} launches of {} are of {}, whose bytes have SHA-256 {}; no variant in "
          "{} "
          "has that symbol and object",
          object.n_launches, object.symbol, object.path, object.sha256,
          (dir / "manifest.json").string());
    ++proof.n_functions;
    proof.n_launches += object.n_launches;
  }
  if (proof.n_launches == 0) throw Error("proof failed: nothing was launched");
  for (const auto& file : mapped_files(maps)) {
    ++proof.n_mapped_files;
    if (const auto library = vendor_library(file); !library.empty())
      throw Error("proof failed: the process maps {}, a vendor's compute library ({})", file,
                  library);
    const auto manifest = manifests.find(fs::path(file).parent_path().parent_path().string());
    if (manifest != manifests.end()) check_mapped_object(file, manifest->second);
  }
  for (const auto& [dir, manifest] : manifests) proof.bundles.push_back(dir);
  return proof;
}

Proof prove(std::span<const RecordingDevice* const> devices) {
  std::ifstream maps("/proc/self/maps");  // has no size: it cannot be mapped
  std::string text{std::istreambuf_iterator<char>(maps), {}};
  if (text.empty()) throw Error("cannot read /proc/self/maps: the proof needs it");
  std::vector<LoadedObject> objects;
  for (const auto* device : devices)
    std::ranges::copy(device->objects(), std::back_inserter(objects));
  return prove(objects, text);
}

}  // namespace nereid::measure
