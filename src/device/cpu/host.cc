#include "device/cpu/host.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <sstream>

#include "base/error.h"

namespace nereid::device {

namespace {

// Pseudo files report a size of 0, so they are read until they end. A dozen are read as a device
// opens: without a stream, which costs more than they do.
std::optional<std::string> read_pseudo_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  std::string text;
  ssize_t n_read = 0;
  do {
    const auto n_bytes = text.size();
    text.resize(n_bytes + 4096);
    n_read = ::read(file, text.data() + n_bytes, 4096);
    text.resize(n_bytes + static_cast<std::size_t>(std::max<ssize_t>(n_read, 0)));
  } while (n_read > 0);
  ::close(file);
  return text;
}

std::optional<std::int64_t> to_int(std::string_view text) {
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr == text.data()) return std::nullopt;
  return value;
}

// The folders that may hold this process's limits for `controller`, innermost first. In a container
// the group's own path is usually not visible and the root folder is the group.
std::vector<std::string> control_group_folders(std::string_view controller) {
  std::vector<std::string> folders;
  std::istringstream lines(read_pseudo_file("/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string root;
    if (names == ",,")
      root = "/sys/fs/cgroup";
    else if (names.find("," + std::string(controller) + ",") != std::string::npos)
      root = "/sys/fs/cgroup/" + std::string(controller);
    else
      continue;
    std::string path = line.substr(second + 1);
    while (path.size() > 1) {
      folders.push_back(root + path);
      path.resize(path.rfind('/'));
    }
    folders.push_back(root);
  }
  return folders;
}

std::optional<double> cpu_quota() {
  std::optional<double> quota;
  const auto limit = [&](std::int64_t time_us, std::int64_t period_us) {
    if (time_us <= 0 || period_us <= 0) return;
    const double cpus = static_cast<double>(time_us) / static_cast<double>(period_us);
    quota = quota ? std::min(*quota, cpus) : cpus;
  };
  for (const auto& folder : control_group_folders("cpu")) {
    if (const auto text = read_pseudo_file(folder + "/cpu.max")) {
      const auto space = text->find(' ');
      if (space != std::string::npos)
        limit(to_int(*text).value_or(-1), to_int(text->substr(space + 1)).value_or(-1));
    }
    const auto time = read_pseudo_file(folder + "/cpu.cfs_quota_us");
    const auto period = read_pseudo_file(folder + "/cpu.cfs_period_us");
    if (time && period) limit(to_int(*time).value_or(-1), to_int(*period).value_or(-1));
  }
  return quota;
}

// A field of a "name value" or "Name:   value kB" file.
std::optional<std::int64_t> field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name)) continue;
    const auto digit = line.find_first_of("0123456789", name.size());
    if (digit != std::string::npos) return to_int(std::string_view(line).substr(digit));
  }
  return std::nullopt;
}

// Lowers `memory` to what one control group folder leaves; files it caches count as free.
void apply_limit(const std::string& folder, const char* limit_name, const char* used_name,
                 const std::string& cached_name, HostMemory& memory) {
  const auto limit = to_int(read_pseudo_file(folder + "/" + limit_name).value_or(""));
  const auto used = to_int(read_pseudo_file(folder + "/" + used_name).value_or(""));
  if (!limit || !used || *limit <= 0) return;
  const auto stat = read_pseudo_file(folder + "/memory.stat").value_or("");
  const std::int64_t cached = field(stat, cached_name).value_or(0);
  const std::int64_t left =
      std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *used - cached));
  memory.total_bytes = std::min(memory.total_bytes, static_cast<std::size_t>(*limit));
  memory.available_bytes = std::min(memory.available_bytes, static_cast<std::size_t>(left));
}

}  // namespace

HostCpus host_cpus() {
  HostCpus cpus;
  // The mask's size is not known beforehand: machines have more than the 1024 cpus of cpu_set_t.
  for (int n_cpus = CPU_SETSIZE; n_cpus <= (1 << 20); n_cpus *= 2) {
    const std::size_t size = CPU_ALLOC_SIZE(n_cpus);
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(
        CPU_ALLOC(n_cpus), [](cpu_set_t* mask) { CPU_FREE(mask); });
    if (set == nullptr) break;
    if (::sched_getaffinity(0, size, set.get()) == 0) {
      for (int cpu = 0; cpu < n_cpus; ++cpu)
        if (CPU_ISSET_S(cpu, size, set.get())) cpus.ids.push_back(cpu);
      break;
    }
    if (errno != EINVAL) break;
  }
  if (cpus.ids.empty())
    throw Error(ErrorCode::device, "cannot read the cpus this process may run on: {}",
                std::strerror(errno));
  cpus.n_usable = static_cast<int>(cpus.ids.size());
  if (const auto quota = cpu_quota())
    cpus.n_usable = std::clamp(static_cast<int>(*quota), 1, cpus.n_usable);
  return cpus;
}

std::string host_cpu_model() {
  std::istringstream lines(read_pseudo_file("/proc/cpuinfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
    if (line.empty()) break;
  }
  return "unknown processor";
}

HostMemory host_memory() {
  const auto text = read_pseudo_file("/proc/meminfo");
  const auto total = text ? field(*text, "MemTotal:") : std::nullopt;
  const auto available = text ? field(*text, "MemAvailable:") : std::nullopt;
  if (!total || !available)
    throw Error(
        ErrorCode::device,
        "cannot read this machine's memory: expected MemTotal and MemAvailable in /proc/meminfo");
  HostMemory memory{static_cast<std::size_t>(*total) * 1024,
                    static_cast<std::size_t>(*available) * 1024};
  for (const auto& folder : control_group_folders("memory")) {
    apply_limit(folder, "memory.max", "memory.current", "inactive_file ", memory);
    apply_limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
                memory);
  }
  return memory;
}

}  // namespace nereid::device
