#include "model/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace nereid::model {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxDims = 16;
constexpr const char* kCure = "the file is damaged or no safetensors file; download it again";

// Control characters and bytes of a hostile name do not reach the terminal, nor do megabytes of it.
std::string printable(std::string_view text) {
  constexpr std::size_t kMaxBytes = 100;
  const bool is_cut = text.size() > kMaxBytes;
  return Json(text.substr(0, kMaxBytes)).dump(-1, ' ', true, Json::error_handler_t::replace) +
         (is_cut ? "..." : "");
}

std::string dtype_list() {
  std::string list;
  for (const auto& row : kDTypes)
    list += fmt::format("{}{}", list.empty() ? "" : ", ", row.safetensors);
  return list;
}

// Follows {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__":
// {"key": "value"}}.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(const std::string& where, std::size_t data_begin)
      : where_(where), data_begin_(data_begin) {}

  std::vector<TensorEntry> take() && { return std::move(entries_); }

  bool start_object(std::size_t) override {
    if (place_ == Place::start) return go(Place::header);
    if (place_ == Place::entry_value)
      return go(key_ == "__metadata__" ? Place::metadata : Place::entry);
    unexpected("an object");
  }

  bool end_object() override {
    if (place_ == Place::header) return go(Place::end);
    if (place_ == Place::entry) end_entry();
    return go(Place::header);
  }

  bool key(string_t& text) override {
    if (place_ == Place::metadata) return go(Place::metadata_value);
    if (place_ == Place::entry) {
      field_ = text;
      if (text == "dtype" && !dtype_) return go(Place::dtype);
      if (text == "shape" && !has_shape_) return go(Place::shape_value);
      if (text == "data_offsets" && offsets_.empty()) return go(Place::offsets_value);
      fail("field {} is unknown or there twice", printable(text));
    }
    key_ = text;
    if (!names_.insert(text).second) fail("the name is there twice");
    return go(Place::entry_value);
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::shape_value) return go(Place::shape);
    if (place_ == Place::offsets_value) return go(Place::offsets);
    unexpected("a list");
  }

  bool end_array() override {
    if (place_ == Place::shape) has_shape_ = true;
    if (place_ == Place::offsets && offsets_.size() != 2)
      fail("data_offsets has {} numbers; expected 2", offsets_.size());
    return go(Place::entry);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > number_unsigned_t(std::numeric_limits<std::int64_t>::max()))
        fail("dimension {} of the shape; expected less than 2^63", value);
      if (shape_.size() == kMaxDims) fail("more than {} dimensions", kMaxDims);
      shape_.push_back(std::int64_t(value));
      return true;
    }
    if (place_ == Place::offsets && offsets_.size() < 2) {
      offsets_.push_back(value);
      return true;
    }
    unexpected(fmt::format("{}", value));
  }

  bool string(string_t& text) override {
    if (place_ == Place::metadata_value) return go(Place::metadata);
    if (place_ != Place::dtype) unexpected(printable(text));
    dtype_ = dtype_from_safetensors(text);
    if (!dtype_)
      fail("dtype {} is not supported; expected one of {}", printable(text), dtype_list());
    return go(Place::entry);
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { unexpected(fmt::format("{}", value)); }
  bool number_float(number_float_t, const string_t& text) override { unexpected(printable(text)); }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw Error("{}: the header is not valid JSON at byte {}: {}; {}", where_,
                position + kLengthBytes, printable(error.what()), kCure);
  }

 private:
  enum class Place {
    start,
    header,
    entry_value,
    entry,
    dtype,
    shape_value,
    shape,
    offsets_value,
    offsets,
    metadata,
    metadata_value,
    end,
  };

  bool go(Place place) {
    place_ = place;
    return true;
  }

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{}: tensor {}: {}; {}", where_, printable(key_),
                fmt::format(format, std::forward<Args>(args)...), kCure);
  }

  [[noreturn]] void unexpected(const std::string& got) const {
    if (place_ == Place::start)
      throw Error("{}: expected a JSON object as header, got {}; {}", where_, got, kCure);
    if (place_ == Place::entry_value)
      fail("expected an object of dtype, shape and data_offsets, got {}", got);
    if (place_ == Place::metadata_value) fail("expected a string as value, got {}", got);
    fail("{}: unexpected {}", field_, got);
  }

  void end_entry() {
    if (!dtype_ || !has_shape_ || offsets_.empty())
      fail("expected dtype, shape and data_offsets; {} is missing",
           !dtype_ ? "dtype" : (!has_shape_ ? "shape" : "data_offsets"));
    TensorEntry entry{key_, *dtype_, std::move(shape_), 0, 0};
    std::uint64_t n_bytes = dtype_size_bytes(*dtype_);
    for (const auto dim : entry.shape)
      if (__builtin_mul_overflow(n_bytes, std::uint64_t(dim), &n_bytes))
        fail("shape {} of {} is larger than any file", shape_text(entry.shape),
             dtype_name(*dtype_));
    const std::uint64_t begin = offsets_[0];
    const std::uint64_t end = offsets_[1];
    if (end < begin) fail("data_offsets [{}, {}] end before they begin", begin, end);
    if (end - begin != n_bytes)
      fail("shape {} of {} takes {} bytes; data_offsets [{}, {}] have {}", shape_text(entry.shape),
           dtype_name(*dtype_), n_bytes, begin, end, end - begin);
    if (end > std::numeric_limits<std::size_t>::max() - data_begin_)
      fail("data_offsets [{}, {}] are outside of any file", begin, end);
    entry.begin = data_begin_ + begin;
    entry.end = data_begin_ + end;
    entries_.push_back(std::move(entry));
    dtype_.reset();
    shape_.clear();
    has_shape_ = false;
    offsets_.clear();
  }

  const std::string& where_;
  std::size_t data_begin_;
  Place place_ = Place::start;
  std::string key_;    // of the entry at hand
  std::string field_;  // of that entry
  std::optional<DType> dtype_;
  Shape shape_;
  bool has_shape_ = false;
  std::vector<std::uint64_t> offsets_;
  std::unordered_set<std::string> names_;
  std::vector<TensorEntry> entries_;
};

}  // namespace

std::vector<TensorEntry> parse_safetensors_header(std::span<const std::byte> file,
                                                  const std::string& where) {
  if (file.size() < kLengthBytes)
    throw Error("{}: {} bytes; expected at least {}, the length of the header; {}", where,
                file.size(), kLengthBytes, kCure);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - kLengthBytes)
    throw Error("{}: the header should have {} bytes; expected at most {}, of a file of {}; {}",
                where, header_bytes,
                std::min<std::uint64_t>(kMaxHeaderBytes, file.size() - kLengthBytes), file.size(),
                kCure);
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                                header_bytes);
  HeaderReader reader(where, kLengthBytes + header_bytes);
  Json::sax_parse(header, &reader);
  auto entries = std::move(reader).take();

  std::ranges::sort(entries, {},
                    [](const TensorEntry& entry) { return std::pair(entry.begin, entry.end); });
  std::size_t expected = kLengthBytes + header_bytes;
  for (const auto& entry : entries) {
    if (entry.end > file.size())
      throw Error(
          "{}: tensor {} ends at byte {}; the file has {}: it is truncated; download it again",
          where, printable(entry.name), entry.end, file.size());
    if (entry.begin != expected)
      throw Error(
          "{}: tensor {} begins at byte {}; expected {}, where the one before it ends "
          "(tensors neither overlap nor leave holes); {}",
          where, printable(entry.name), entry.begin, expected, kCure);
    expected = entry.end;
  }
  if (expected != file.size())
    throw Error("{}: the tensors end at byte {}; the file has {}; {}", where, expected, file.size(),
                kCure);
  return entries;
}

}  // namespace nereid::model
