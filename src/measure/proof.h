// Goal: a check that nothing but kernels of a bundle computed: what was launched was loaded from
// objects that the manifest names, and the process maps no library that computes.
// Non-goal: trusting what other layers have checked; hashes are of the bytes that the device got.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "measure/recording_device.h"

namespace nereid::measure {

struct Proof {
  std::size_t n_functions = 0;  // launched at least once
  std::uint64_t n_launches = 0;
  std::size_t n_mapped_files = 0;
  std::vector<std::string> bundles;  // directories of the manifests that name them
};

// An Error names the object or the library at fault. `maps` is the text of /proc/self/maps.
Proof prove(const std::vector<LoadedObject>& objects, std::string_view maps);
// The same of this process, now.
Proof prove(std::span<const RecordingDevice* const> devices);

// The files that /proc/self/maps names, each once.
std::vector<std::string> mapped_files(std::string_view maps);
// The name in the list of vendor compute libraries that this file's name contains; empty: none.
std::string_view vendor_library(std::string_view path);

}  // namespace nereid::measure
