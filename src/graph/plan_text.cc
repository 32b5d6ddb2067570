#include "graph/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

namespace nereid::graph {

namespace {

constexpr std::size_t kColumns = 120;

// `words` in lines of kColumns, each begun by `indent` spaces, the first by `first` in their place.
std::string wrapped(std::string_view words, std::string_view first, std::size_t indent) {
  std::string text(first);
  std::size_t column = first.size();
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(word.size() + 1, words.size()));
    if (column > indent && column + 1 + word.size() > kColumns) {
      text += fmt::format("\n{:{}}", "", indent);
      column = indent;
    } else if (column > indent) {
      text += ' ';
      ++column;
    }
    text += word;
    column += word.size();
  }
  return text + '\n';
}

// How many items from `begin` on are those before them by `period`, the first `period` counted too.
template <typename Same>
std::size_t n_periodic(std::size_t begin, std::size_t period, std::size_t n_items, Same same) {
  std::size_t end = begin + period;
  while (end < n_items && same(end, end - period)) ++end;
  return end - begin;
}

}  // namespace

void PlanText::add_line(std::string_view line) { text_ += fmt::format("{}\n", line); }

std::size_t PlanText::number_of(const std::string& reason) {
  const auto index = std::size_t(std::ranges::find(reasons_, reason) - reasons_.begin());
  if (index == reasons_.size()) reasons_.push_back(reason);
  return index + 1;
}

PlanText::Row PlanText::row_of(const Graph& graph, const PlannedLaunch& launch,
                               const SymbolValues& sizes) {
  const auto& spec = kernel::spec_of(launch.request, tables_.specs);
  const kernel::Expression::Lookup lookup =
      [&](std::string_view name) -> std::optional<std::int64_t> {
    for (const auto& [size, dim] : launch.call.sizes)
      if (size == name) return dim_value(dim, sizes);
    if (const auto it = launch.request.constexprs.find(std::string(name));
        it != launch.request.constexprs.end())
      return it->second;
    for (const auto& [pointer, id] : launch.call.pointers)
      if (name == "sizeof(" + pointer + ")")
        return static_cast<std::int64_t>(id == kNoValue ? 0
                                                        : dtype_size_bytes(graph.value(id).dtype));
    return std::nullopt;
  };
  std::string settings;
  for (const auto& [name, value] : launch.request.constexprs)
    settings += fmt::format("{}={} ", name, value);
  settings += fmt::format("warps={} stages={} [{}]", launch.request.num_warps,
                          launch.request.num_stages, number_of(launch.why));
  const auto grid = fmt::format("{}x{}x{}", spec.grid[0].evaluate(lookup),
                                spec.grid[1].evaluate(lookup), spec.grid[2].evaluate(lookup));
  return {graph.value(graph.nodes[launch.node].outputs[0]).name,
          fmt::format("{:<36} grid {:<14} {:>12} B {:>15} flop", launch.call.kernel, grid,
                      spec.bytes.evaluate(lookup), spec.flops.evaluate(lookup)),
          std::move(settings)};
}

void PlanText::add_launches(const Graph& graph, const std::vector<PlannedLaunch>& launches,
                            const SymbolValues& sizes) {
  std::vector<Row> rows;
  rows.reserve(launches.size());
  for (const auto& launch : launches) rows.push_back(row_of(graph, launch, sizes));
  const auto same = [&](std::size_t a, std::size_t b) {
    return rows[a].launch == rows[b].launch && rows[a].settings == rows[b].settings;
  };
  for (std::size_t begin = 0; begin < rows.size();) {
    // The repetition that covers most, of equal ones the shortest: a layer, not two of them.
    std::size_t period = 1;
    std::size_t n_covered = 1;
    for (std::size_t p = 1; begin + 2 * p <= rows.size(); ++p) {
      const std::size_t n = n_periodic(begin, p, rows.size(), same);
      if (n >= 2 * p && n > n_covered) std::tie(period, n_covered) = std::pair(p, n);
    }
    // A last layer may lack the launches that prepare the next.
    std::size_t times = n_covered / period;
    const std::size_t n_last = n_covered % period;
    const bool is_last_cut = times > 1 && 2 * n_last >= period && n_last > 0;
    if (is_last_cut) ++times;
    n_covered = is_last_cut ? n_covered : times * period;
    if (times > 1)
      text_ +=
          fmt::format("{} x{}\n", times,
                      is_last_cut ? fmt::format(", the last time without the last {} of these {}",
                                                period - n_last, period)
                                  : "");
    const std::size_t indent = times > 1 ? 4 : 0;
    for (std::size_t i = begin; i < begin + period; ++i) {
      const auto line = fmt::format("{:{}}{}  %{}", "", indent, rows[i].launch, rows[i].output);
      text_ += line.size() <= kColumns ? line + '\n' : wrapped(line, "", indent + 4);
      text_ += wrapped(rows[i].settings, std::string(indent + 4, ' '), indent + 4);
    }
    begin += n_covered;
  }
}

std::string PlanText::take() {
  text_ += '\n';
  for (std::size_t i = 0; i < reasons_.size(); ++i) {
    const std::string number = fmt::format("[{}] ", i + 1);
    text_ += wrapped(reasons_[i], number, number.size());
  }
  reasons_.clear();
  return std::exchange(text_, {});
}

}  // namespace nereid::graph
