// Goal: run `python -m aot.compile` and, for users' operations, `python -m aot.export`: the only
// processes this program ever starts; report progress and failure.
// Non-goal: deciding what to compile or where the result belongs (bundle_source.h).
// Rejected: a shell. Paths are arguments, whatever characters they hold.
#pragma once

#include <filesystem>
#include <string>

#include "base/progress.h"

namespace nereid::kernel {

// Environment first (NEREID_PYTHON, NEREID_AOT_DIR, NEREID_TTIR); then the Python that the build
// was configured with, and what was installed or built with this program.
struct CompilerPaths {
  std::filesystem::path python;
  std::filesystem::path aot_dir;  // holds aot/ and kernels/
  std::filesystem::path ttir;     // the cpu target's compiler; empty for the others
};

// An Error says what is absent.
CompilerPaths find_compiler(const std::string& target);

// Compiles the requests of `requests_file` into `out_dir`; a progress bar on stderr if that is a
// terminal, unless `progress` takes it. An Error carries what the compiler said last.
void run_compiler(const CompilerPaths& paths, const std::string& target, const std::string& isas,
                  const std::filesystem::path& requests_file, const std::filesystem::path& out_dir,
                  int n_jobs, const ProgressSink& progress = {});

// What a user's file says of its operation, as JSON (aot/export_own.py). An Error is what Python
// found wrong with it.
std::string run_own_export(const std::filesystem::path& file, const std::string& name);

}  // namespace nereid::kernel
