#include "apps/trace_text.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace nereid::apps {

namespace {

constexpr int kProcess = 1;
constexpr int kStepsRow = 0;
constexpr int kLaunchesRow = 1;
constexpr std::size_t kHashCharacters = 12;

// What the launches of one function took, all steps together.
struct Total {
  std::size_t object;
  std::int64_t n_launches = 0;
  double time_us = 0;
  double shortest_us = 0;
  std::set<std::string> grids;
};

std::string grid_text(const device::Grid& grid) {
  return fmt::format("{}x{}x{}", grid.x, grid.y, grid.z);
}

}  // namespace

nlohmann::ordered_json chrome_json(const measure::Trace& trace) {
  auto events = nlohmann::ordered_json::array();
  const auto name_row = [&](int row, const std::string& name) {
    events.push_back({{"name", "thread_name"},
                      {"ph", "M"},
                      {"pid", kProcess},
                      {"tid", row},
                      {"args", {{"name", name}}}});
  };
  name_row(kStepsRow, "steps");
  name_row(kLaunchesRow, "launches on " + trace.device.name);
  for (std::size_t i = 0; i < trace.steps.size(); ++i) {
    const auto& step = trace.steps[i];
    events.push_back({{"name", i == 0 ? "prompts" : fmt::format("token {}", i)},
                      {"cat", "step"},
                      {"ph", "X"},
                      {"ts", step.begin_us},
                      {"dur", step.end_us - step.begin_us},
                      {"pid", kProcess},
                      {"tid", kStepsRow},
                      {"args", {{"launches", step.n_launches}}}});
  }
  for (const auto& launch : trace.launches) {
    const auto& object = trace.objects[launch.object];
    events.push_back(
        {{"name", object.symbol},
         {"cat", "launch"},
         {"ph", "X"},
         {"ts", launch.begin_us},
         {"dur", launch.time_us},
         {"pid", kProcess},
         {"tid", kLaunchesRow},
         {"args", {{"grid", grid_text(launch.grid)}, {"object_sha256", object.sha256}}}});
  }
  return {{"displayTimeUnit", "ms"},
          {"otherData",
           {{"device", trace.device.description},
            {"times", "between two events of the device around each launch"}}},
          {"traceEvents", std::move(events)}};
}

std::string table_text(const measure::Trace& trace) {
  std::map<std::size_t, Total> by_object;
  double all_us = 0;
  for (const auto& launch : trace.launches) {
    auto& total =
        by_object.try_emplace(launch.object, Total{launch.object, 0, 0, 0, {}}).first->second;
    total.shortest_us =
        total.n_launches == 0 ? launch.time_us : std::min(total.shortest_us, launch.time_us);
    ++total.n_launches;
    total.time_us += launch.time_us;
    total.grids.insert(grid_text(launch.grid));
    all_us += launch.time_us;
  }
  std::vector<Total> totals;
  for (auto& [index, total] : by_object) totals.push_back(total);
  std::ranges::sort(totals, std::greater{}, &Total::time_us);

  std::string text = fmt::format(
      "{}: {}\n{} launches in {} steps; times are between two events of the device around each "
      "launch\n\n{:<22} {:>8} {:>11} {:>6} {:>10} {:>10}  {:<14} {}\n",
      trace.device.name, trace.device.description, trace.launches.size(), trace.steps.size(),
      "kernel", "launches", "all us", "%", "mean us", "least us", "object", "grids");
  for (const auto& total : totals) {
    const auto& object = trace.objects[total.object];
    const auto n_grids = total.grids.size();
    text += fmt::format(
        "{:<22} {:>8} {:>11.1f} {:>6.1f} {:>10.2f} {:>10.2f}  {:<14} {}\n", object.symbol,
        total.n_launches, total.time_us, 100 * total.time_us / std::max(all_us, 1e-9),
        total.time_us / static_cast<double>(total.n_launches), total.shortest_us,
        object.sha256.substr(0, kHashCharacters),
        n_grids <= 2 ? fmt::format("{}", fmt::join(total.grids, " "))
                     : fmt::format("{} and {} others", *total.grids.begin(), n_grids - 1));
  }
  return text;
}

}  // namespace nereid::apps
