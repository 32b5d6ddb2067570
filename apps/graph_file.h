// Goal: a graph that somebody wrote as text, checked as the program's own are: for `nereid inspect
// graph`.
// Non-goal: running it.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace nereid::apps {

struct GraphFileOptions {
  std::filesystem::path model_dir = {};  // its weights must be there; empty: not looked for
  bool with_passes = false;              // the graph after each pass too
  bool with_generated = false;           // the Triton source of each kernel that fusing makes
  std::set<std::string> skip = {};       // passes to leave out
  std::vector<std::filesystem::path> ops = {};  // files with users' operations
};

// The graph as it was read, and what the passes make of it. Errors name file, line and cause.
std::string describe_graph_file(const std::filesystem::path& path, const GraphFileOptions& options);

}  // namespace nereid::apps
