#include "tokenizer/decoder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/pattern.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

// assign() of a stage that can be assigned member by member.
template <typename Self, typename Base = Stage>
class Assigned : public Base {
 public:
  using Base::Base;
  void assign(const Stage& other) override {
    TokenSink* const next = this->next_;
    static_cast<Self&>(*this) = static_cast<const Self&>(other);
    this->next_ = next;
  }
};

// A stage that needs the whole token.
class WholeToken : public Stage {
 public:
  explicit WholeToken(TokenSink& next) : Stage(next) { held_.reserve(kTokenTextBytes); }
  void text(std::string_view part) override { held_ += part; }
  void end_token() override {
    token(held_);
    held_.clear();
  }
  void finish() override { next_->finish(); }

 protected:
  virtual void token(std::string_view whole) = 0;
  void send(std::string_view whole) {
    next_->text(whole);
    next_->end_token();
  }

 private:
  std::string held_;
};

// All tokens become one.
class FuseStage : public Assigned<FuseStage> {
 public:
  using Assigned::Assigned;
  void text(std::string_view part) override { next_->text(part); }
  void end_token() override {}
  void finish() override {
    next_->end_token();
    next_->finish();
  }
  static void apply_to_bytes(std::string&) {}
};

// Without a decoder the tokens are joined by spaces, as Hugging Face does.
class JoinStage : public Assigned<JoinStage> {
 public:
  using Assigned::Assigned;
  void text(std::string_view part) override {
    if (!std::exchange(in_token_, true) && std::exchange(any_, true)) next_->text(" ");
    next_->text(part);
  }
  void end_token() override {
    text("");
    in_token_ = false;
    next_->end_token();
  }
  void finish() override { next_->finish(); }
  static void apply_to_bytes(std::string& token) { token.insert(0, 1, ' '); }

 private:
  bool any_ = false;
  bool in_token_ = false;
};

// The bytes of all tokens are one text, valid or not.
class ByteLevelStage : public Assigned<ByteLevelStage, WholeToken> {
 public:
  explicit ByteLevelStage(TokenSink& next) : Assigned(next) {
    bytes_.reserve(kTokenTextBytes);
    out_.reserve(kTokenTextBytes);
  }
  void finish() override {
    out_.clear();
    assembler_.finish(out_);
    next_->text(out_);
    next_->end_token();
    next_->finish();
  }
  static void apply_to_bytes(std::string& token) {
    std::string bytes;
    append_from_byte_level(bytes, token);
    token = std::move(bytes);
  }

 private:
  void token(std::string_view whole) override {
    bytes_.clear();
    append_from_byte_level(bytes_, whole);
    out_.clear();
    assembler_.push(bytes_, out_);
    if (!out_.empty()) next_->text(out_);
  }
  Utf8Assembler assembler_;
  std::string bytes_, out_;  // of the token at hand
};

// "<0xE2>" is a byte. A run of bytes is one text if it is valid as a whole, else one U+FFFD for
// each byte: so a run waits for its end unless it cannot become valid any more.
class ByteFallbackStage : public Assigned<ByteFallbackStage, WholeToken> {
 public:
  using Assigned::Assigned;
  void finish() override {
    end_run();
    next_->finish();
  }
  static void apply_to_bytes(std::string& token) {
    if (const auto byte = byte_of(token)) token.assign(1, *byte);
  }

 private:
  static std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    int byte = 0;
    for (const char digit : token.substr(3, 2)) {
      if (digit >= '0' && digit <= '9')
        byte = byte * 16 + (digit - '0');
      else if (digit >= 'a' && digit <= 'f')
        byte = byte * 16 + (digit - 'a' + 10);
      else if (digit >= 'A' && digit <= 'F')
        byte = byte * 16 + (digit - 'A' + 10);
      else
        return std::nullopt;
    }
    return static_cast<char>(byte);
  }

  void token(std::string_view whole) override {
    if (const auto byte = byte_of(whole)) {
      run_.push_back(*byte);
    } else {
      end_run();
      send(whole);
    }
  }
  void end_run() {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      send(run_);
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i) send(kReplacement);
    }
    run_.clear();
  }
  std::string run_;
};

class ReplaceStage : public Assigned<ReplaceStage, WholeToken> {
 public:
  ReplaceStage(TokenSink& next, const Pattern& pattern, const std::string& content)
      : Assigned(next), pattern_(&pattern), content_(&content) {
    out_.reserve(kTokenTextBytes);
  }
  void text(std::string_view part) override {
    // A single character needs no context: after Fuse the one token would else be held to the end.
    if (pattern_->literal().size() == 1 ||
        (!pattern_->literal().empty() &&
         utf8_at(pattern_->literal(), 0).size_bytes == pattern_->literal().size()))
      next_->text(replaced(part));
    else
      WholeToken::text(part);
  }

 private:
  void token(std::string_view whole) override {
    if (!whole.empty()) next_->text(replaced(whole));
    next_->end_token();
  }
  std::string_view replaced(std::string_view text) {
    spans_.clear();
    pattern_->spans(text, spans_);
    out_.clear();
    for (const Span& span : spans_)
      out_ += span.is_match ? std::string_view(*content_)
                            : text.substr(span.begin, span.end - span.begin);
    return out_;
  }
  const Pattern* pattern_;
  const std::string* content_;
  std::vector<Span> spans_;  // of the text at hand
  std::string out_;
};

// Drops up to n_start and n_stop of one character at the ends of each token.
class StripStage : public Assigned<StripStage> {
 public:
  StripStage(TokenSink& next, const std::string& content, std::size_t n_start, std::size_t n_stop)
      : Assigned(next), content_(&content), n_start_(n_start), n_stop_(n_stop) {
    held_.reserve(kTokenTextBytes);
  }
  void text(std::string_view part) override {
    while (n_dropped_ < n_start_ && part.starts_with(*content_)) {
      part.remove_prefix(content_->size());
      ++n_dropped_;
    }
    if (part.empty()) return;
    n_dropped_ = n_start_;
    held_ += part;
    std::size_t kept_bytes = held_.size();
    for (std::size_t i = 0; i < n_stop_; ++i)
      if (std::string_view(held_).substr(0, kept_bytes).ends_with(*content_))
        kept_bytes -= content_->size();
    next_->text(std::string_view(held_).substr(0, kept_bytes));
    held_.erase(0, kept_bytes);
  }
  void end_token() override {
    held_.clear();
    n_dropped_ = 0;
    next_->end_token();
  }
  void finish() override { next_->finish(); }

 private:
  const std::string* content_;
  std::size_t n_start_;
  std::size_t n_stop_;
  std::size_t n_dropped_ = 0;
  std::string held_;  // at most n_stop_ characters that are dropped if the token ends here
};

// The replacement character is a space, but dropped from the first token where one was prepended.
class MetaspaceStage : public Assigned<MetaspaceStage> {
 public:
  MetaspaceStage(TokenSink& next, const MetaspaceOptions& options)
      : Assigned(next),
        options_(&options),
        drops_(options.prepend_scheme != PrependScheme::kNever) {
    out_.reserve(kTokenTextBytes);
  }
  void text(std::string_view part) override {
    out_.clear();
    while (!part.empty()) {
      if (part.starts_with(options_->replacement)) {
        if (!drops_) out_.push_back(' ');
        part.remove_prefix(options_->replacement.size());
      } else {
        const std::size_t size_bytes = utf8_at(part, 0).size_bytes;
        out_ += part.substr(0, size_bytes);
        part.remove_prefix(size_bytes);
      }
    }
    next_->text(out_);
  }
  void end_token() override {
    drops_ = false;
    next_->end_token();
  }
  void finish() override { next_->finish(); }

 private:
  const MetaspaceOptions* options_;
  bool drops_;
  std::string out_;  // of the text at hand
};

template <typename T>
class Plain : public Decoder {
 public:
  std::unique_ptr<Stage> start(TokenSink& next) const override { return std::make_unique<T>(next); }
  void apply_to_bytes(std::string& token) const override { T::apply_to_bytes(token); }
};

class Replace : public Decoder {
 public:
  Replace(const Json& config, const std::string& where)
      : pattern_(config, where), content_(json_field<std::string>(config, "content", where)) {}
  std::unique_ptr<Stage> start(TokenSink& next) const override {
    return std::make_unique<ReplaceStage>(next, pattern_, content_);
  }
  void apply_to_bytes(std::string& token) const override {
    if (!is_valid_utf8(token)) return;  // a byte of ByteFallback
    std::vector<Span> spans;
    pattern_.spans(token, spans);
    std::string out;
    for (const Span& span : spans)
      out += span.is_match ? content_ : token.substr(span.begin, span.end - span.begin);
    token = std::move(out);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Strip : public Decoder {
 public:
  Strip(const Json& config, const std::string& where)
      : content_(json_field<std::string>(config, "content", where)),
        n_start_(read_count(config, "start", where)),
        n_stop_(read_count(config, "stop", where)) {
    if (content_.empty() || utf8_at(content_, 0).size_bytes != content_.size())
      throw Error("{}: content is \"{}\"; expected one character", where, content_);
  }
  std::unique_ptr<Stage> start(TokenSink& next) const override {
    return std::make_unique<StripStage>(next, content_, n_start_, n_stop_);
  }
  // What it strips stands at the ends of the text, which Fuse made one token.
  void apply_to_bytes(std::string&) const override {}

 private:
  static std::size_t read_count(const Json& config, const std::string& key,
                                const std::string& where) {
    constexpr std::uint64_t kLargest = 1 << 16;  // bounds the work per token; real files say 0 or 1
    const Json& count = json_member(config, key, where);
    if (!count.is_number_unsigned() || count.get<std::uint64_t>() > kLargest)
      throw Error("{}: {} is {}; expected 0 to {}", where, key, count.dump(), kLargest);
    return count.get<std::size_t>();
  }
  std::string content_;
  std::size_t n_start_;
  std::size_t n_stop_;
};

class Metaspace : public Decoder {
 public:
  Metaspace(const Json& config, const std::string& where)
      : options_(MetaspaceOptions::read(config, where)) {}
  std::unique_ptr<Stage> start(TokenSink& next) const override {
    return std::make_unique<MetaspaceStage>(next, options_);
  }
  void apply_to_bytes(std::string& token) const override {
    const std::string& mark = options_.replacement;
    for (std::size_t at = 0; (at = token.find(mark, at)) != std::string::npos; ++at)
      token.replace(at, mark.size(), " ");
  }

 private:
  MetaspaceOptions options_;
};

struct Row {
  std::string_view type;
  std::unique_ptr<const Decoder> (*make)(const Json& config, const std::string& where);
};

template <typename T>
std::unique_ptr<const Decoder> make_plain(const Json&, const std::string&) {
  return std::make_unique<Plain<T>>();
}
template <typename T>
std::unique_ptr<const Decoder> make_configured(const Json& config, const std::string& where) {
  return std::make_unique<T>(config, where);
}

constexpr std::array kRows = {
    Row{"ByteLevel", make_plain<ByteLevelStage>},
    Row{"ByteFallback", make_plain<ByteFallbackStage>},
    Row{"Fuse", make_plain<FuseStage>},
    Row{"Replace", make_configured<Replace>},
    Row{"Strip", make_configured<Strip>},
    Row{"Metaspace", make_configured<Metaspace>},
};

void append_decoders(const Json& config, const std::string& where,
                     std::vector<std::unique_ptr<const Decoder>>& out) {
  const auto type = json_field<std::string>(config, "type", where);
  const std::string here = where + " " + type;
  if (type == "Sequence") {
    for (const Json& part : json_field<Json::array_t>(config, "decoders", here))
      append_decoders(part, here, out);
    return;
  }
  for (const Row& row : kRows) {
    if (row.type == type) {
      out.push_back(row.make(config, here));
      return;
    }
  }
  throw Error("{}: type \"{}\" is not supported; expected Sequence, {}", where, type,
              names_of_types(kRows));
}

}  // namespace

std::vector<std::unique_ptr<const Decoder>> make_decoders(const Json& config,
                                                          const std::string& where) {
  std::vector<std::unique_ptr<const Decoder>> decoders;
  if (config.is_null())
    decoders.push_back(std::make_unique<Plain<JoinStage>>());
  else
    append_decoders(config, where, decoders);
  return decoders;
}

}  // namespace nereid::tokenizer
