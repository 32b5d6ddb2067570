#include "tokenizer/normalizer.h"

#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

using Pointer = std::unique_ptr<const Normalizer>;

class Chain : public Normalizer {
 public:
  Chain(const Json& config, const std::string& where) {
    for (const Json& part : json_field<Json::array_t>(config, "normalizers", where))
      if (auto normalizer = make_normalizer(part, where)) parts_.push_back(std::move(normalizer));
  }
  void apply(NormalText& text) const override {
    for (const auto& part : parts_) part->apply(text);
  }

 private:
  std::vector<Pointer> parts_;
};

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  void apply(NormalText& text) const override { text.text = normal_form(text.text, form_); }

 private:
  NormalForm form_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(NormalText& text) const override {
    if (!text.text.empty()) text.text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(const Json& config, const std::string& where)
      : pattern_(config, where), content_(json_field<std::string>(config, "content", where)) {}
  void apply(NormalText& text) const override {
    std::string out;
    bool changed = false;
    std::vector<Span> spans;
    pattern_.spans(text.text, spans);
    for (const Span& span : spans) {
      changed |= span.is_match;
      if (span.is_match)
        out += content_;
      else
        out.append(text.text, span.begin, span.end - span.begin);
      if (out.empty()) text.at_start = false;
    }
    if (changed) text.text = std::move(out);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// One function of each character that appends what replaces it.
template <typename Function>
class EachCharacter : public Normalizer {
 public:
  explicit EachCharacter(Function function) : function_(function) {}
  void apply(NormalText& text) const override {
    std::string out;
    out.reserve(text.text.size());
    for (std::size_t at = 0; at < text.text.size();) {
      const Utf8Char character = utf8_at(text.text, at);
      function_(out, character.code);
      at += character.size_bytes;
    }
    text.text = std::move(out);
  }

 private:
  Function function_;
};

template <typename Function>
Pointer each_character(Function function) {
  return std::make_unique<EachCharacter<Function>>(function);
}

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalText& text) const override {
    std::size_t begin = text.text.size();
    std::size_t end = 0;
    for (std::size_t at = 0; at < text.text.size();) {
      const Utf8Char character = utf8_at(text.text, at);
      if (!is_whitespace(character.code)) {
        if (begin > at) begin = at;
        end = at + character.size_bytes;
      }
      at += character.size_bytes;
    }
    if (!left_) begin = 0;
    if (!right_) end = text.text.size();
    if (begin > 0) text.at_start = false;
    text.text = begin < end ? text.text.substr(begin, end - begin) : std::string();
  }

 private:
  bool left_;
  bool right_;
};

class ByteLevel : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    std::string out;
    out.reserve(byte_level_size_bytes(text.text));
    append_byte_level(out, text.text);
    text.text = std::move(out);
  }
};

template <NormalForm kForm>
Pointer make_form(const Json&, const std::string&) {
  return std::make_unique<UnicodeForm>(kForm);
}

struct Row {
  std::string_view type;
  Pointer (*make)(const Json& config, const std::string& where);
};

constexpr std::array kRows = {
    Row{"Sequence",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Chain>(config, where);
        }},
    Row{"NFC", make_form<NormalForm::kNfc>},
    Row{"NFD", make_form<NormalForm::kNfd>},
    Row{"NFKC", make_form<NormalForm::kNfkc>},
    Row{"NFKD", make_form<NormalForm::kNfkd>},
    Row{"Prepend",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Prepend>(json_field<std::string>(config, "prepend", where));
        }},
    Row{"Replace",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Replace>(config, where);
        }},
    Row{"Lowercase",
        [](const Json&, const std::string&) -> Pointer {
          return each_character(append_lowercase);
        }},
    Row{"StripAccents",
        [](const Json&, const std::string&) -> Pointer {
          return each_character([](std::string& out, char32_t code) {
            if (!is_mark(code)) append_utf8(out, code);
          });
        }},
    Row{"Strip",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Strip>(json_field<bool>(config, "strip_left", where),
                                         json_field<bool>(config, "strip_right", where));
        }},
    Row{"ByteLevel",
        [](const Json&, const std::string&) -> Pointer { return std::make_unique<ByteLevel>(); }},
};

}  // namespace

std::unique_ptr<const Normalizer> make_normalizer(const Json& config, const std::string& where) {
  if (config.is_null()) return nullptr;
  const auto type = json_field<std::string>(config, "type", where);
  for (const Row& row : kRows)
    if (row.type == type) return row.make(config, where + " " + type);
  throw Error("{}: type \"{}\" is not supported; expected {}", where, type, names_of_types(kRows));
}

}  // namespace nereid::tokenizer
