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
#include "base/file_kind.h"
#include "base/json.h"

namespace nereid::model {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxDims = 64;                    // as many as PyTorch and NumPy have
constexpr std::size_t kMaxQuotedBytes = 100;            // of a name or a text, in messages
constexpr const char* kCure = "the file is damaged or no safetensors file; download it again";
constexpr const char* kUnfinished =
    "the file is a download that was not finished; download it again";

// Control characters and bytes of a hostile name do not reach the terminal, nor do megabytes of it.
std::string printable(std::string_view text) {
  const bool is_cut = text.size() > kMaxQuotedBytes;
  return Json(text.substr(0, kMaxQuotedBytes)).dump(-1, ' ', true, Json::error_handler_t::replace) +
         (is_cut ? "..." : "");
}

// Text where the length of a header should be: an answer such as "Entry not found".
bool is_text(std::string_view bytes) {
  return std::ranges::all_of(bytes, [](char c) { return (c >= ' ' && c <= '~') || c == '\n'; });
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
    dtype_ = text;
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
    TensorEntry entry{
        key_, dtype_from_safetensors(*dtype_), std::move(*dtype_), std::move(shape_), 0, 0};
    const std::uint64_t begin = offsets_[0];
    const std::uint64_t end = offsets_[1];
    if (end < begin) fail("data_offsets [{}, {}] end before they begin", begin, end);
    if (entry.dtype) check_size(entry, begin, end);
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

  void check_size(const TensorEntry& entry, std::uint64_t begin, std::uint64_t end) const {
    std::uint64_t n_bytes = dtype_size_bytes(*entry.dtype);
    for (const auto dim : entry.shape)
      if (__builtin_mul_overflow(n_bytes, std::uint64_t(dim), &n_bytes))
        fail("shape {} of {} is larger than any file", shape_text(entry.shape), entry.dtype_name);
    if (end - begin != n_bytes)
      fail("shape {} of {} takes {} bytes; data_offsets [{}, {}] have {}", shape_text(entry.shape),
           entry.dtype_name, n_bytes, begin, end, end - begin);
  }

  const std::string& where_;
  std::size_t data_begin_;
  Place place_ = Place::start;
  std::string key_;    // of the entry at hand
  std::string field_;  // of that entry
  std::optional<std::string> dtype_;
  Shape shape_;
  bool has_shape_ = false;
  std::vector<std::uint64_t> offsets_;
  std::unordered_set<std::string> names_;
  std::vector<TensorEntry> entries_;
};

}  // namespace

namespace {

// Of the file's header, once the file is known to hold all of it.
std::size_t header_size(std::string_view file, const std::string& where) {
  if (const auto kind = mistaken_file(file); !kind.empty()) throw Error("{}: {}", where, kind);
  if (file.size() < kLengthBytes)
    throw Error("{}: {} bytes; expected at least {}, the length of the header; {}", where,
                file.size(), kLengthBytes, kUnfinished);
  if (is_text(file.substr(0, kLengthBytes)))
    throw Error("{}: this is a text, not tensors: it begins with {}; download the file again",
                where, printable(file.substr(0, std::min(file.find('\n'), kMaxQuotedBytes))));
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  // Programs that fetch a file in pieces make all of it first, filled with zeros.
  if (header_bytes == 0) throw Error("{}: it begins with zeros: {}", where, kUnfinished);
  const std::size_t left = file.size() - kLengthBytes;
  if (header_bytes > kMaxHeaderBytes)
    throw Error("{}: the header should have {} bytes; expected at most {}; {}", where, header_bytes,
                kMaxHeaderBytes, kCure);
  if (header_bytes > left)
    throw Error("{}: the header has {} bytes, of which {} are there: {}", where, header_bytes, left,
                kUnfinished);
  return std::size_t(header_bytes);
}

}  // namespace

std::vector<TensorEntry> parse_safetensors_header(std::span<const std::byte> bytes,
                                                  const std::string& where) {
  const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t header_bytes = header_size(file, where);
  HeaderReader reader(where, kLengthBytes + header_bytes);
  Json::sax_parse(file.substr(kLengthBytes, header_bytes), &reader);
  auto entries = std::move(reader).take();

  std::ranges::sort(entries, {},
                    [](const TensorEntry& entry) { return std::pair(entry.begin, entry.end); });
  std::size_t expected = kLengthBytes + header_bytes;
  for (const auto& entry : entries) {
    if (entry.begin != expected)
      throw Error(
          "{}: tensor {} begins at byte {}; expected {}, where the one before it ends "
          "(tensors neither overlap nor leave holes); {}",
          where, printable(entry.name), entry.begin, expected, kCure);
    expected = entry.end;
  }
  if (expected > file.size())
    throw Error("{}: {} of {} bytes are there: {}", where, file.size(), expected, kUnfinished);
  if (expected < file.size())
    throw Error("{}: the tensors end at byte {}; the file has {}; {}", where, expected, file.size(),
                kCure);
  return entries;
}

}  // namespace nereid::model
