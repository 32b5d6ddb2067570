#include "engine/stop_filter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "tokenizer/decoder.h"

namespace nereid::engine {

namespace {

// What a byte is of.
constexpr char kText = 't';
constexpr char kSpecial = 's';  // the first byte of a special token
constexpr char kInsideSpecial = 'i';

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops, bool keeps_stop)
    : stops_(std::make_shared<const std::vector<std::string>>(std::move(stops))),
      keeps_stop_(keeps_stop) {
  if (stops_->empty()) return;
  // What is held back, and a token.
  std::size_t n_bytes = 0;
  for (const auto& stop : *stops_) {
    NEREID_CHECK(!stop.empty(), "an empty stop string");
    n_bytes = std::max(n_bytes, stop.size() + tokenizer::kTokenTextBytes);
  }
  for (std::string* text : {&held_, &with_all_, &kinds_}) text->reserve(n_bytes);
}

bool StopFilter::push(std::string_view piece, std::string& out) {
  if (found_ != nullptr) return true;
  if (stops_->empty()) {
    out += piece;
    return false;
  }
  for (const char byte : piece) {
    held_ += byte;
    with_all_ += byte;
    kinds_ += kText;
    if (stops_here(out)) return true;
  }
  release(out);
  return false;
}

bool StopFilter::push_special(std::string_view token, std::string& out) {
  if (found_ != nullptr || stops_->empty() || token.empty()) return found_ != nullptr;
  with_all_ += token;
  kinds_ += kSpecial;
  kinds_.append(token.size() - 1, kInsideSpecial);
  if (stops_here(out)) return true;
  release(out);
  return false;
}

void StopFilter::release(std::string& out) {
  const std::size_t n_tail = n_possible_start(with_all_);
  const std::size_t n_held = std::max(n_possible_start(held_), n_text_bytes(n_tail));
  out.append(held_, 0, held_.size() - n_held);
  held_.erase(0, held_.size() - n_held);
  with_all_.erase(0, with_all_.size() - n_tail);
  kinds_.erase(0, kinds_.size() - n_tail);
}

// Ends the text at the stop string that ends here, if one does.
bool StopFilter::stops_here(std::string& out) {
  std::size_t n_taken = 0;
  const auto take = [&](const std::string& stop, std::size_t n_bytes) {
    n_taken = std::max(n_taken, n_bytes);
    if (found_ == nullptr || stop.size() > found_->size()) found_ = &stop;
  };
  for (const auto& stop : *stops_) {
    if (held_.ends_with(stop)) take(stop, stop.size());
    if (with_all_.ends_with(stop) && kinds_[kinds_.size() - stop.size()] != kInsideSpecial)
      take(stop, n_text_bytes(stop.size()));
  }
  if (found_ == nullptr) return false;
  out.append(held_, 0, held_.size() - (keeps_stop_ ? 0 : n_taken));
  held_.clear();
  return true;
}

// How many bytes at the end of `tail` may be the start of a stop string.
std::size_t StopFilter::n_possible_start(const std::string& tail) const {
  std::size_t n_possible = 0;
  for (const auto& stop : *stops_) {
    std::size_t n = std::min(stop.size() - 1, tail.size());
    while (n > n_possible && !tail.ends_with(std::string_view(stop).substr(0, n))) --n;
    n_possible = std::max(n_possible, n);
  }
  return n_possible;
}

// How many of the last bytes of with_all_ are text.
std::size_t StopFilter::n_text_bytes(std::size_t n_tail) const {
  return std::size_t(std::count(kinds_.end() - std::ptrdiff_t(n_tail), kinds_.end(), kText));
}

void StopFilter::finish(std::string& out) {
  out += held_;
  held_.clear();
}

}  // namespace nereid::engine
