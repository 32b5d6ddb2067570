// Goal: an operation of a user's: what a Python file with a SPEC says of it (docs/adding_an_op.md),
// its row, its kernel, and where in the file each part stands.
// Non-goal: what the row means (graph/ops.h), and whether kernel and row agree (program/own_ops.h).
// Rejected: a description of its own beside the file. The file is what is compiled, so it is what
// is read: by Python, once; what came out is kept and found again by what the file holds.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "kernel/generated.h"

namespace nereid::kernel {

// A row in the language of graph/ops.def, in its parts.
struct OwnRow {
  struct Part {
    std::string text;
    std::string where;  // "my_op.py:31"
  };
  Part name, operands, results, aliases, attributes;

  bool has_same_words(const OwnRow& other) const {
    return name.text == other.name.text && operands.text == other.operands.text &&
           results.text == other.results.text && aliases.text == other.aliases.text &&
           attributes.text == other.attributes.text;
  }
};

struct OwnOp {
  OwnRow row;
  // Its name ends in digits of a hash of the file: equal names are equal kernels.
  std::shared_ptr<const GeneratedKernel> kernel;
  std::string where;                         // of the SPEC: "my_op.py:40"
  std::map<std::string, std::string> lines;  // where each parameter of the Spec is declared
};

// The name that a user's source goes by in requests and bundles: the file's, and 12 digits of a
// hash of what it holds. The same wherever the file lies, another once it changes.
std::string own_source_name(const std::filesystem::path& file, const std::string& source);

// Runs the file in Python, unless what came out is in the bundle or in the user's cache. An Error
// names file and line where it raises, or says what its SPEC lacks. `bundle_dir` may be empty.
OwnOp load_own_op(const std::filesystem::path& file, const std::filesystem::path& bundle_dir = {});

}  // namespace nereid::kernel
