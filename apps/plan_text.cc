#include "apps/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "graph/cluster.h"
#include "model/stored_name.h"

namespace nereid::apps {

namespace {

constexpr std::size_t kColumns = 120;
constexpr std::size_t kIndent = 2;
constexpr std::size_t kOperationColumns = 52;
constexpr std::string_view kCut = "...";

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

constexpr double kUsPerSecond = 1e6;
constexpr double kBytesPerMegabyte = 1e6;
// Products of 8-bit floats a second, of those of 16 bits: what matrix units make of them, if any.
constexpr double kFp8Speed = 2.0;

// The tensors that a product reads, by the last of their names: "gate_proj up_proj" of packed ones.
std::string weights_text(const graph::Graph& graph, const program::PlannedLaunch& launch) {
  const auto* matrix = measure::is_product(launch) ? measure::matrix_of(graph, launch) : nullptr;
  if (matrix == nullptr) return {};
  std::vector<const graph::Value*> parts{matrix};
  for (const auto& node : graph.nodes)
    if (node.op == graph::Op::pack && &graph.value(node.outputs[0]) == matrix) {
      parts.clear();
      for (const auto id : node.inputs) parts.push_back(&graph.value(id));
    }
  std::string text;
  std::string_view last;
  for (const auto* part : parts) {
    auto name = model::stored_name(part->name).tensor;
    if (name == last) continue;  // parts of one that was stored as one
    last = name;
    if (name.ends_with(".weight")) name.remove_suffix(std::string_view(".weight").size());
    text += fmt::format(" {}", name.substr(name.rfind('.') + 1));
  }
  return text;
}

// "linear o_proj, residual": the operation, its weights, and what is fused into it.
std::string operation_text(const graph::Graph& graph, const program::PlannedLaunch& launch) {
  const auto& node = graph.nodes[launch.node];
  const auto& op = node.row();
  if (node.op == graph::Op::cluster) {
    std::string text;
    for (const auto& inner : graph::cluster_body(graph, node).nodes)
      text += fmt::format("{}{}", text.empty() ? "" : ", ", inner.row().name);
    return text;
  }
  std::string text(op.name);
  text += weights_text(graph, launch);
  for (std::size_t i = 0; i < op.operands.size(); ++i)
    if (op.operands[i].is_optional && node.inputs[i] != graph::kNoValue &&
        !op.operands[i].name.starts_with("inbox"))
      text += fmt::format(", {}", op.operands[i].name);
  for (const auto& [name, value] : node.attrs)
    if (const auto* chosen = std::get_if<std::string>(&value)) {
      // Of an expression what it comes to, without the names of its operands.
      const auto arrow = chosen->find("-> ");
      text += ", " + (arrow == std::string::npos ? *chosen : chosen->substr(arrow + 3));
    }
  return text;
}

std::string count_text(std::int64_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : what == "launch" ? "es" : "s");
}

}  // namespace

std::string PlanText::launch_id(const program::PlannedLaunch& launch,
                                const measure::LaunchCost& cost) {
  return fmt::format("{} {} {}", launch.choice->key, cost.bytes, cost.flops);
}

std::size_t PlanText::number_of(const std::string& reason) {
  const auto index = std::size_t(std::ranges::find(reasons_, reason) - reasons_.begin());
  if (index == reasons_.size()) reasons_.push_back(reason);
  return index + 1;
}

PlanText::Row PlanText::row_of(const measure::StepShape& shape, const program::StepPlan& plan,
                               const program::PlannedLaunch& launch,
                               const std::map<std::string, double>& measured_us) {
  const auto sizes = shape.sizes(shape.n_sequences);
  const auto cost = measure::launch_cost(planner_, plan.graph, launch, shape, shape.n_sequences);
  Row row;
  row.bytes = cost.bytes;
  if (speed_) {
    const auto x = launch.value_of("x_ptr");
    const bool is_fp8 = x != graph::kNoValue && plan.graph.value(x).dtype == DType::fp8e4nv;
    const auto flops_per_s = (is_fp8 ? kFp8Speed : 1.0) * speed_->flops_per_s;
    row.least_us =
        kUsPerSecond * std::max(cost.bytes / speed_->bytes_per_s, cost.flops / flops_per_s);
  }
  if (const auto time = measured_us.find(launch_id(launch, cost)); time != measured_us.end())
    row.measured_us = time->second;
  const auto axis = [&](std::size_t i) {
    return launch.evaluate(launch.spec->grid[i], plan.graph, sizes);
  };
  const auto time_text = [](double us) { return us > 0 ? fmt::format("{:.1f}", us) : "-"; };
  const auto& request = launch.choice->request;
  row.line = fmt::format(
      "{:<{}} {:<22} {:>10} {:>7.2f} {:>8} {:>8}  [{}]", operation_text(plan.graph, launch),
      kOperationColumns, request.generated ? "(generated)" : launch.spec->name,
      fmt::format("{}x{}x{}", axis(0), axis(1), axis(2)), cost.bytes / kBytesPerMegabyte,
      time_text(row.least_us), time_text(row.measured_us), number_of(request.why));
  if (has_choices_) {
    for (const auto& [name, value] : request.constexprs)
      row.choices += fmt::format("{}={} ", name, value);
    row.choices += fmt::format("warps={} stages={}", request.num_warps, request.num_stages);
  }
  return row;
}

void PlanText::add_step(const measure::StepShape& shape, const program::StepPlan& plan,
                        const std::map<std::string, double>& measured_us) {
  std::vector<Row> rows;
  rows.reserve(plan.launches.size());
  for (const auto& launch : plan.launches)
    if (!launch.is_empty(plan.graph, shape.sizes(shape.n_sequences)))
      rows.push_back(row_of(shape, plan, launch, measured_us));
  text_ += '\n';
  text_ += wrapped(
      fmt::format("{} of {}, {} in the cache: {}, {:.1f} MB of activations, {}",
                  shape.n_query == 1 ? "decode" : "prefill", count_text(shape.n_tokens(), "token"),
                  count_text(shape.n_context, "key"), count_text(std::ssize(rows), "launch"),
                  static_cast<double>(plan.memory.arena_bytes) / kBytesPerMegabyte,
                  costs_text(rows)),
      "", 0);
  text_ += fmt::format("{:<{}} {:<22} {:>10} {:>7} {:>8} {:>8}  why\n", "computes",
                       kOperationColumns + kIndent, "kernel", "grid", "MB", "least us", "measured");
  add_repeated(rows);
}

std::string PlanText::costs_text(std::span<const Row> rows) const {
  Row all;
  for (const auto& row : rows) {
    all.bytes += row.bytes;
    all.least_us += row.least_us;
    all.measured_us += row.measured_us;
  }
  auto text = fmt::format("{:.1f} MB moved", all.bytes / kBytesPerMegabyte);
  if (speed_) text += fmt::format(", at least {:.0f} us", all.least_us);
  if (all.measured_us > 0) text += fmt::format(", {:.0f} us measured alone", all.measured_us);
  return text;
}

void PlanText::add_row(const Row& row, std::size_t indent) {
  // Short of the columns by as much as it is shifted.
  std::string line = row.line;
  if (indent == 0) line.insert(kOperationColumns, kIndent, ' ');
  text_ += fmt::format("{:{}}{}\n", "", indent, line);
  if (has_choices_) text_ += wrapped(row.choices, std::string(2 * kIndent, ' '), 2 * kIndent);
}

void PlanText::add_repeated(std::span<const Row> rows) {
  const auto same = [&](std::size_t a, std::size_t b) {
    return rows[a].line == rows[b].line && rows[a].choices == rows[b].choices;
  };
  for (std::size_t begin = 0; begin < rows.size();) {
    // The repetition that covers most, of equal ones the shortest: a layer, not two of them.
    std::size_t period = 1;
    std::size_t n_covered = 1;
    for (std::size_t p = 1; begin + 2 * p <= rows.size(); ++p) {
      const std::size_t n = n_periodic(begin, p, rows.size(), same);
      if (n >= 2 * p && n > n_covered) std::tie(period, n_covered) = std::pair(p, n);
    }
    const auto group = rows.subspan(begin, period);
    if (n_covered == 1) {
      add_row(group[0], 0);
    } else {
      // A last layer may lack the launches that prepare the next.
      const std::size_t n_last = n_covered % period;
      text_ += fmt::format("{} x, {} each: {}{}\n", (n_covered + period - 1) / period,
                           count_text(std::ssize(group), "launch"), costs_text(group),
                           n_last == 0 ? "" : fmt::format("; the last time the first {}", n_last));
      for (const auto& row : group) add_row(row, kIndent);
    }
    begin += n_covered;
  }
}

std::string PlanText::take() {
  text_ += '\n';
  bool are_cut = false;
  for (std::size_t i = 0; i < reasons_.size(); ++i) {
    const std::string number = fmt::format("[{}] ", i + 1);
    const bool is_cut = !has_choices_ && number.size() + reasons_[i].size() > kColumns;
    text_ += is_cut ? fmt::format("{:.{}}{}\n", number + reasons_[i], kColumns - kCut.size(), kCut)
                    : wrapped(reasons_[i], number, number.size());
    are_cut |= is_cut;
  }
  if (are_cut) text_ += "--choices shows the reasons in full, and the tile sizes\n";
  reasons_.clear();
  return std::exchange(text_, {});
}

}  // namespace nereid::apps
