#include "program/step_inputs.h"

#include <algorithm>

#include "base/error.h"

namespace nereid::program {

namespace {

constexpr std::size_t kInputAlignmentBytes = 64;
// Ranges so close are sent as one: a copy costs as much as some thousand bytes.
constexpr std::size_t kTableGapElements = 1024;

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + kInputAlignmentBytes - 1) / kInputAlignmentBytes * kInputAlignmentBytes;
}

}  // namespace

void StepInputs::declare(const graph::Value& value, const graph::Sizes& largest_decode,
                         const graph::Sizes& largest) {
  const std::array bytes{graph::value_bytes(value, largest_decode),
                         graph::value_bytes(value, largest)};
  if (const int known = handle(value.name); known >= 0) {
    NEREID_CHECK(arrays_[static_cast<std::size_t>(known)].bytes == bytes, "{}: {} bytes",
                 value.name, bytes[1]);
    return;
  }
  NEREID_CHECK(host_[0] == nullptr, "{} is declared after seal()", value.name);
  const auto& last = value.shape.back();
  const auto n_columns = last.is_constant() ? static_cast<std::size_t>(last.offset) : 1;
  arrays_.push_back({value.name, n_columns, bytes, {}});
}

void StepInputs::seal(const std::string& tables) {
  const int known = handle(tables);
  NEREID_CHECK(known >= 0, "no input {}", tables);
  auto& table_array = arrays_[static_cast<std::size_t>(known)];
  std::size_t size_bytes = 0;
  for (std::size_t layout = 0; layout < kNLayouts; ++layout) {
    begin_bytes_[layout] = size_bytes;
    for (auto& array : arrays_) {
      if (&array == &table_array) continue;
      array.offsets[layout] = size_bytes;
      size_bytes += aligned(array.bytes[layout]);
    }
    end_bytes_[layout] = size_bytes;
  }
  table_array.bytes.fill(table_array.bytes[1]);
  table_array.offsets.fill(size_bytes);
  tables_offset_ = size_bytes;
  n_table_columns_ = table_array.n_columns;
  tables_.assign(table_array.bytes[1] / sizeof(std::int32_t), 0);
  changed_.reserve(tables_.size() / kTableGapElements + 2);
  size_bytes += aligned(table_array.bytes[1]);

  buffer_ = device_.allocate(size_bytes, "step inputs");
  device_.fill_zero(buffer_.address(), size_bytes);
  if (device_.reads_host_memory()) {
    device_.synchronize();
    host_.fill(reinterpret_cast<std::byte*>(buffer_.address()));
    return;
  }
  for (std::size_t i = 0; i < staging_.size(); ++i) {
    staging_[i] = device_.allocate_host(size_bytes, "step inputs");
    host_[i] = staging_[i].bytes().data();
    std::fill_n(host_[i], size_bytes, std::byte{0});
  }
}

device::Address StepInputs::address(const std::string& name, InputLayout layout) const {
  const int known = handle(name);
  NEREID_CHECK(known >= 0, "no input {}", name);
  return buffer_.address() +
         arrays_[static_cast<std::size_t>(known)].offsets[static_cast<std::size_t>(layout)];
}

int StepInputs::handle(const std::string& name) const {
  const auto it = std::find_if(arrays_.begin(), arrays_.end(),
                               [&](const Array& array) { return array.name == name; });
  return it == arrays_.end() ? -1 : static_cast<int>(it - arrays_.begin());
}

void StepInputs::begin(InputLayout layout) {
  layout_ = layout;
  set_ = 1 - set_;
}

void StepInputs::set_table_row(std::size_t row, std::span<const std::int32_t> elements) {
  NEREID_CHECK(
      elements.size() <= n_table_columns_ && (row + 1) * n_table_columns_ <= tables_.size(),
      "row {} of {} columns", row, elements.size());
  const auto begin = row * n_table_columns_;
  const auto known = std::span(tables_).subspan(begin, elements.size());
  const auto differs = std::ranges::mismatch(known, elements);
  if (differs.in1 == known.end()) return;
  const auto first = static_cast<std::size_t>(differs.in1 - known.begin());
  std::ranges::copy(elements.subspan(first), known.begin() + static_cast<std::ptrdiff_t>(first));
  note_changed(begin + first, begin + elements.size());
}

// Rows come in order; what lies between two ranges that are sent as one is as the device has it.
void StepInputs::note_changed(std::size_t begin, std::size_t end) {
  if (!changed_.empty() && begin >= changed_.back().begin &&
      begin <= changed_.back().end + kTableGapElements) {
    changed_.back().end = std::max(changed_.back().end, end);
    return;
  }
  changed_.push_back({begin, end});
}

void StepInputs::copy_from(const StepInputs& other) {
  const auto place = static_cast<std::size_t>(layout_);
  NEREID_CHECK(other.layout_ == layout_ && other.end_bytes_ == end_bytes_, "other inputs");
  std::copy(other.host_[other.set_] + begin_bytes_[place],
            other.host_[other.set_] + end_bytes_[place], host_[set_] + begin_bytes_[place]);
  for (const auto& [begin, end] : other.changed_)
    std::ranges::copy(std::span(other.tables_).subspan(begin, end - begin),
                      tables_.begin() + static_cast<std::ptrdiff_t>(begin));
  changed_ = other.changed_;
}

void StepInputs::send() {
  for (const auto& [begin, end] : changed_) {
    const auto offset = tables_offset_ + begin * sizeof(std::int32_t);
    const auto bytes = std::as_bytes(std::span(tables_).subspan(begin, end - begin));
    std::ranges::copy(bytes, host_[set_] + offset);
    if (!device_.reads_host_memory())
      device_.queue_upload(buffer_.address() + offset, {host_[set_] + offset, bytes.size()});
  }
  changed_.clear();
  if (device_.reads_host_memory()) return;
  const auto place = static_cast<std::size_t>(layout_);
  const auto begin = begin_bytes_[place];
  device_.queue_upload(buffer_.address() + begin, {host_[set_] + begin, end_bytes_[place] - begin});
}

void StepInputs::forget_sent() {
  changed_.clear();
  changed_.push_back({0, tables_.size()});
}

}  // namespace nereid::program
