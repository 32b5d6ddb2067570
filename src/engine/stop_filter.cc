#include "engine/stop_filter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace nereid::engine {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const auto& stop : stops_)
    if (stop.empty()) throw Error("a stop string is empty; expected at least one character");
}

bool StopFilter::push(std::string_view piece, std::string& out) {
  if (is_stopped_) return true;
  if (stops_.empty()) {
    out += piece;
    return false;
  }
  held_ += piece;
  std::size_t begin = std::string::npos;
  std::size_t end = std::string::npos;
  for (const auto& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const std::size_t stop_end = at + stop.size();
    if (stop_end < end || (stop_end == end && at < begin)) {
      begin = at;
      end = stop_end;
    }
  }
  if (end != std::string::npos) {
    out.append(held_, 0, begin);
    held_.clear();
    is_stopped_ = true;
    return true;
  }
  std::size_t n_held = 0;
  for (const auto& stop : stops_) {
    std::size_t n = std::min(stop.size() - 1, held_.size());
    while (n > n_held && !held_.ends_with(std::string_view(stop).substr(0, n))) --n;
    n_held = std::max(n_held, n);
  }
  out.append(held_, 0, held_.size() - n_held);
  held_.erase(0, held_.size() - n_held);
  return false;
}

void StopFilter::finish(std::string& out) {
  out += held_;
  held_.clear();
}

}  // namespace nereid::engine
