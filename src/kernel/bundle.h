// Goal: a directory of compiled kernels (docs/formats.md, section 4), read and verified. Opening it
// reads the manifest only; an object's hash is checked when it is asked for.
// Non-goal: making bundles (bundle_source.h asks aot/ for that). Trusting them: any file may be
// truncated or hostile.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "device/device.h"
#include "kernel/expression.h"
#include "kernel/request.h"

namespace nereid::kernel {

struct VariantArg {
  std::string name;
  device::ArgType type;
};

// A pointer argument that the launch takes as a tensor map. Its shape and strides are launch
// arguments too: they follow it.
struct TensorMapArg {
  std::size_t arg = 0;  // index in Variant::args
  DType element = DType::fp16;
  int swizzle_bytes = 0;
  std::vector<std::uint32_t> box;
  std::vector<Expression> shape, strides;  // over the launch arguments

  std::size_t rank() const { return box.size(); }
};

struct Variant {
  std::string key;
  KernelRequest request;  // the key, parsed
  std::string symbol;
  std::string object;  // "objects/<sha256>.so"
  std::string object_sha256;
  std::string source_sha256;
  std::string isa;                        // cpu only: the level of the object
  std::string source;                     // "generated/NAME.py"; empty: a kernel of kernels/
  std::vector<VariantArg> args;           // of the launch, in order
  std::vector<TensorMapArg> tensor_maps;  // of `args`, in order
  std::array<Expression, 3> grid;         // over the launch arguments; constexprs are filled in
  std::uint32_t num_warps = 1;
  std::uint32_t n_threads = 1;
  std::uint32_t shared_bytes = 0;
  std::size_t arena_bytes = 0;
  std::uint32_t global_scratch_bytes = 0;
  bool programmatic_launch = false;       // waits itself for the kernel before it
  std::optional<std::int64_t> registers;  // where the target's compiler tells
  std::optional<std::int64_t> spills;
};

// Where in a bundle the source of a generated kernel lies.
std::string generated_path(std::string_view kernel);
// And what Python said of it, where it is a user's.
std::string exported_path(std::string_view kernel);

class Bundle {
 public:
  // Of objects for several levels of a processor's instructions those for the best that `isa` runs
  // (device/cpu/isa.h); empty: the best of all. An Error names the file and the field at fault.
  static Bundle open(const std::filesystem::path& dir, std::string_view isa = {});

  const std::filesystem::path& dir() const { return dir_; }
  const std::string& target() const { return target_; }
  const std::string& isa() const { return isa_; }              // cpu only: the level in use
  const std::set<std::string>& isas() const { return isas_; }  // all that there are
  const std::string& triton() const { return triton_; }
  const std::string& compiler() const { return compiler_; }
  const std::vector<Variant>& variants() const { return variants_; }

  const Variant* find(std::string_view key) const;  // nullptr: not in this bundle

  // The object, verified, ready for Device::load. Its bytes live as long as this bundle.
  // An Error names the object, the hash expected and got, and the cure.
  device::KernelImage image(const Variant& variant);

 private:
  std::filesystem::path dir_;
  std::string target_, isa_, triton_, compiler_;
  std::set<std::string> isas_;
  std::vector<Variant> variants_;
  std::map<std::string, std::size_t, std::less<>> by_key_;
  std::map<std::string, MappedFile> objects_;  // by path in the bundle; verified
};

// For people: "cuda:90", "cpu (x86-64-v3, x86-64-v4)".
std::string target_text(const Bundle& bundle);

}  // namespace nereid::kernel
