#include "tokenizer/tokenizer_json.h"

#include <limits>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace nereid::tokenizer {

namespace {

constexpr std::size_t kMaxDepth =
    64;  // deeper than any real file; stops a hostile one from using up the stack

// nlohmann's event interface: every method is called by its parser.
class Reader {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  Reader(TokenizerJson& out, std::string_view text, const std::string& where)
      : out_(out), text_(text), where_(where) {}

  bool null() { return scalar(nullptr); }
  bool boolean(bool value) { return scalar(value); }
  bool number_integer(number_integer_t value) {
    if (part_ == Part::kVocab) return vocab_entry(value);
    return scalar(value);
  }
  bool number_unsigned(number_unsigned_t value) {
    // An id above the signed range is as much out of range as its largest value.
    constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
    if (part_ == Part::kVocab)
      return vocab_entry(value > kLargest ? kLargest : static_cast<std::int64_t>(value));
    return scalar(value);
  }
  bool number_float(number_float_t value, const string_t&) { return scalar(value); }
  bool binary(binary_t&) { return scalar(nullptr); }

  bool string(string_t& value) {
    if (part_ == Part::kMerges) return merge_string(value);
    return scalar(std::move(value));
  }

  bool key(string_t& value) {
    key_ = std::move(value);
    return true;
  }

  bool start_object(std::size_t) {
    if (part_ == Part::kRest && at_model_field("vocab")) {
      claim(out_.has_vocab);
      return enter(Part::kVocab);
    }
    return open(Json::object());
  }
  bool start_array(std::size_t) {
    if (part_ == Part::kRest && at_model_field("merges")) {
      claim(out_.has_merges);
      return enter(Part::kMerges);
    }
    // Another model's vocabulary: passed over, since the model's type, read later, is the error to
    // report.
    if (part_ == Part::kRest && at_model_field("vocab")) return enter(Part::kSkipped);
    if (part_ == Part::kMerges && !in_pair_) {
      in_pair_ = true;
      n_in_pair_ = 0;
      return true;
    }
    return open(Json::array());
  }
  bool end_object() { return close(); }
  bool end_array() {
    if (part_ == Part::kMerges && in_pair_) {
      if (n_in_pair_ != 2) bad_merge();
      out_.merges.add(left_, right_);
      in_pair_ = false;
      return true;
    }
    return close();
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) {
    throw Error("{}: not valid JSON: {}", where_, not_json_reason(text_, error));
  }

 private:
  enum class Part { kRest, kVocab, kMerges, kSkipped };

  bool at_model_field(std::string_view name) const {
    return stack_.size() == 2 && path_[1] == "model" && key_ == name;
  }
  bool enter(Part part) {
    part_ = part;
    n_open_ = 1;
    return true;
  }
  void claim(bool& seen) {
    if (seen) throw Error("{}: \"model\" has the field \"{}\" twice", where_, key_);
    seen = true;
  }

  bool open(Json container) {
    if (part_ == Part::kSkipped) {
      ++n_open_;
      if (n_open_ > kMaxDepth) too_deep();
      return true;
    }
    if (part_ == Part::kVocab)
      throw Error("{}: the id of token \"{}\" is not a number", where_, key_);
    if (part_ == Part::kMerges) bad_merge();
    if (stack_.size() >= kMaxDepth) too_deep();
    Json& placed = place(std::move(container));
    stack_.push_back(&placed);
    path_.push_back(key_);
    return true;
  }
  bool close() {
    if (part_ != Part::kRest) {
      if (--n_open_ == 0) part_ = Part::kRest;
      return true;
    }
    stack_.pop_back();
    path_.pop_back();
    return true;
  }

  bool scalar(Json value) {
    if (part_ == Part::kSkipped) return true;
    if (part_ == Part::kVocab)
      throw Error("{}: the id of token \"{}\" is {}; expected a whole number", where_, key_,
                  value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
    if (part_ == Part::kMerges) bad_merge();
    place(std::move(value));
    return true;
  }
  Json& place(Json value) {
    if (stack_.empty()) return out_.root = std::move(value);
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return parent.back();
    }
    return parent[key_] = std::move(value);
  }

  bool vocab_entry(std::int64_t id) {
    out_.vocab.add(key_, id, where_);
    return true;
  }
  bool merge_string(const std::string& value) {
    if (in_pair_) {
      if (n_in_pair_ >= 2) bad_merge();
      (n_in_pair_ == 0 ? left_ : right_) = value;
      ++n_in_pair_;
      return true;
    }
    if (value.starts_with("#version")) return true;
    const std::size_t space = value.find(' ');
    if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) bad_merge();
    out_.merges.add(std::string_view(value).substr(0, space),
                    std::string_view(value).substr(space + 1));
    return true;
  }

  [[noreturn]] void bad_merge() const {
    throw Error("{}: merge {} is neither \"left right\" nor [\"left\", \"right\"]", where_,
                out_.merges.size());
  }
  [[noreturn]] void too_deep() const {
    throw Error("{}: nested deeper than {} levels", where_, kMaxDepth);
  }

  TokenizerJson& out_;
  std::string_view text_;  // the whole file, to say what it is where it is no JSON
  const std::string& where_;
  Part part_ = Part::kRest;
  std::size_t n_open_ = 0;  // containers open within the part
  std::vector<Json*> stack_;
  std::vector<std::string> path_;  // path_[i]: the key under which stack_[i] lies
  std::string key_;
  bool in_pair_ = false;
  int n_in_pair_ = 0;
  std::string left_;
  std::string right_;
};

}  // namespace

void MergeList::add(std::string_view left, std::string_view right) {
  entries_.push_back({static_cast<std::uint32_t>(arena_.size()),
                      static_cast<std::uint32_t>(left.size()),
                      static_cast<std::uint32_t>(right.size())});
  arena_.append(left).append(right);
}

MergeList::Merge MergeList::operator[](std::size_t i) const {
  const Entry& entry = entries_[i];
  const std::string_view arena = arena_;
  return {arena.substr(entry.offset, entry.left_bytes),
          arena.substr(entry.offset + entry.left_bytes, entry.right_bytes)};
}

TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& where) {
  // Offsets into the tables are 32-bit; the largest file known has 35 MB.
  if (text.size() > std::numeric_limits<std::int32_t>::max())
    throw Error("{}: {} bytes; expected a tokenizer of less than 2 GiB", where, text.size());
  TokenizerJson out;
  Reader reader(out, text, where);
  Json::sax_parse(text.begin(), text.end(), &reader);
  if (!out.root.is_object())
    throw Error("{}: expected a JSON object, got {}", where, out.root.type_name());
  out.vocab.build(where);
  return out;
}

}  // namespace nereid::tokenizer
