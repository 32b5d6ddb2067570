// Goal: a kernel variant by name: what the planner asks the compiler for (docs/formats.md, section
// 3), and how it is chosen from a Spec, tuning data and what is known when planning.
// Non-goal: finding the compiled object (bundle.h, bundle_source.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "kernel/generated.h"
#include "kernel/spec.h"
#include "kernel/tuning.h"
#include "tensor/dtype.h"

namespace nereid::kernel {

struct KernelRequest {
  std::string kernel;
  std::map<std::string, std::string>
      args;  // "x_ptr" -> "*fp16:16", "n_cols" -> "i32:16", "eps" -> "fp32"
  std::map<std::string, std::int64_t> constexprs;
  int num_warps = 1;
  int num_stages = 1;
  std::map<std::string, std::int64_t> options;
  // Of constexprs that are functions, where there is one: its text, with names of `function_files`.
  std::map<std::string, std::string> functions = {};
  // Sources of users' functions by name; no part of the key, which has a hash of each in its name.
  std::map<std::string, std::string> function_files = {};
  // What to compile where that is no file of kernels/; no part of the key, its name says it all.
  std::shared_ptr<const GeneratedKernel> generated = {};
  // For people, and no part of the key either: why its tile sizes were chosen, "tuning of cpu:
  // measured on ..." or "default of cpu".
  std::string why = {};

  // The canonical text: JSON, keys sorted, no spaces. Equal requests have equal keys.
  std::string key() const;
  static KernelRequest from_key(std::string_view key, const std::string& where);

  friend bool operator==(const KernelRequest& a, const KernelRequest& b) {
    return a.key() == b.key();
  }
};

// What the planner knows about one use of a kernel.
struct Problem {
  std::map<std::string, DType> pointers;  // every pointer parameter; unused ones too
  std::set<std::string> unaligned;        // pointers whose address may not be a multiple of 16
  std::map<std::string, std::int64_t>
      sizes;  // sizes and strides known now; others are set by each step
  std::map<std::string, std::int64_t>
      largest;  // of sizes that steps set: the most this plan serves; tuning rows may ask for it
  std::map<std::string, std::string> types;  // of a size, stride or scalar with a choice of types
  std::map<std::string, std::int64_t>
      constexprs;                                // those the planner gives (value null, not tuned)
  std::map<std::string, std::string> functions;  // texts of constexprs that are functions
  std::map<std::string, std::string> function_files;  // as in the request
};

// Picks the tuning row or default for `target`, evaluates derived constexprs and divisibility.
// An Error names the kernel and what is missing, unknown, of a wrong type, or cyclic.
// What `overriding` names is chosen by it, whatever row or default says.
KernelRequest make_request(const Spec& spec, const TuningTable& tuning, std::string_view target,
                           const Problem& problem, const Choice& overriding = {});

}  // namespace nereid::kernel
