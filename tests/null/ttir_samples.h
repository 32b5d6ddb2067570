// Goal: the Triton IR samples of tests/null/ttir, for the tests of the reader.
// Non-goal: making them; they are what Triton 3.9 printed for small programs.
// Rejected: listing their names here: a new sample is a new file and nothing else.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace nereid::ttir {

struct Sample {
  std::string name;
  std::string text;
};

inline std::vector<Sample> read_samples(const std::string& folder) {
  const std::filesystem::path root =
      std::filesystem::path(NEREID_SOURCE_DIR) / "tests/null/ttir" / folder;
  std::vector<Sample> samples;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (entry.path().extension() != ".ttir") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    samples.push_back({entry.path().stem().string(),
                       {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}});
  }
  std::sort(samples.begin(), samples.end(),
            [](const Sample& a, const Sample& b) { return a.name < b.name; });
  return samples;
}

}  // namespace nereid::ttir
