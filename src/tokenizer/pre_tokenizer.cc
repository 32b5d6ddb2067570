#include "tokenizer/pre_tokenizer.h"

#include <array>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

using Pointer = std::unique_ptr<const PreTokenizer>;

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Rewrites every text piece: `cut(piece, spans)` may change piece.text and gives the spans of it to
// keep.
template <typename Cut>
void split_pieces(std::vector<Piece>& pieces, Cut cut) {
  std::vector<Piece> out;
  out.reserve(pieces.size());
  std::vector<Span> spans;
  for (Piece piece : pieces) {
    if (piece.id >= 0) {
      out.push_back(piece);
      continue;
    }
    spans.clear();
    cut(piece, spans);
    for (const Span& span : spans)
      if (span.begin < span.end)
        out.push_back({piece.text.substr(span.begin, span.end - span.begin), -1,
                       piece.at_start && span.begin == 0});
  }
  pieces = std::move(out);
}

class Chain : public PreTokenizer {
 public:
  Chain(const Json& config, const std::string& where) {
    for (const Json& part : json_field<Json::array_t>(config, "pretokenizers", where))
      if (auto pre_tokenizer = make_pre_tokenizer(part, where))
        parts_.push_back(std::move(pre_tokenizer));
  }
  void apply(std::vector<Piece>& pieces, TextArena& arena) const override {
    for (const auto& part : parts_) part->apply(pieces, arena);
  }

 private:
  std::vector<Pointer> parts_;
};

class Split : public PreTokenizer {
 public:
  Split(const Json& config, const std::string& where)
      : pattern_(config, where),
        behavior_(split_behavior(json_field<std::string>(config, "behavior", where), where)),
        invert_(json_field_or<bool>(config, "invert", false, where)) {}
  void apply(std::vector<Piece>& pieces, TextArena&) const override {
    split_pieces(pieces, [this](Piece& piece, std::vector<Span>& spans) {
      pattern_.spans(piece.text, spans);
      if (invert_)
        for (Span& span : spans) span.is_match = !span.is_match;
      apply_behavior(spans, behavior_);
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(const Json& config, const std::string& where)
      : add_prefix_space_(json_field<bool>(config, "add_prefix_space", where)) {
    if (json_field_or<bool>(config, "use_regex", true, where))
      regex_ = std::make_unique<Pattern>(Pattern::of_regex(kGpt2Regex, where));
  }
  void apply(std::vector<Piece>& pieces, TextArena& arena) const override {
    split_pieces(pieces, [&](Piece& piece, std::vector<Span>& spans) {
      if (add_prefix_space_ && !piece.text.starts_with(' '))
        piece.text = arena.hold(std::string(1, ' ').append(piece.text));
      if (regex_)
        regex_->spans(piece.text, spans);
      else
        spans.push_back({0, piece.text.size(), false});
    });
    to_alphabet(pieces, arena);
  }

 private:
  // All pieces go into one string: a text has a piece every four bytes or so.
  static void to_alphabet(std::vector<Piece>& pieces, TextArena& arena) {
    std::size_t size_bytes = 0;
    for (const Piece& piece : pieces)
      if (piece.id < 0) size_bytes += byte_level_size_bytes(piece.text);
    std::string text;
    text.reserve(size_bytes);
    for (const Piece& piece : pieces)
      if (piece.id < 0) append_byte_level(text, piece.text);
    std::string_view left = arena.hold(std::move(text));
    for (Piece& piece : pieces) {
      if (piece.id >= 0) continue;
      const std::size_t piece_bytes = byte_level_size_bytes(piece.text);
      piece.text = left.substr(0, piece_bytes);
      left.remove_prefix(piece_bytes);
    }
  }

  bool add_prefix_space_;
  std::unique_ptr<const Pattern> regex_;
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(const Json& config, const std::string& where)
      : options_(MetaspaceOptions::read(config, where)) {}
  void apply(std::vector<Piece>& pieces, TextArena& arena) const override {
    const char32_t replacement = utf8_at(options_.replacement, 0).code;
    split_pieces(pieces, [&](Piece& piece, std::vector<Span>& spans) {
      std::string text;
      text.reserve(piece.text.size() + 3 * options_.replacement.size());
      for (const char byte : piece.text) {
        if (byte == ' ')
          text += options_.replacement;
        else
          text.push_back(byte);
      }
      const bool prepends = options_.prepend_scheme == PrependScheme::kAlways ||
                            (options_.prepend_scheme == PrependScheme::kFirst && piece.at_start);
      if (prepends && !text.starts_with(options_.replacement)) text.insert(0, options_.replacement);
      piece.text = arena.hold(std::move(text));
      if (!options_.split) {
        spans.push_back({0, piece.text.size(), false});
        return;
      }
      spans_of_characters(
          piece.text, [&](char32_t code) { return code == replacement; }, spans);
      apply_behavior(spans, SplitBehavior::kMergedWithNext);
    });
  }

 private:
  MetaspaceOptions options_;
};

// Cuts at single characters: digits, punctuation, spaces, one delimiter.
template <typename Predicate>
class Characters : public PreTokenizer {
 public:
  Characters(Predicate matches, SplitBehavior behavior) : matches_(matches), behavior_(behavior) {}
  void apply(std::vector<Piece>& pieces, TextArena&) const override {
    split_pieces(pieces, [this](Piece& piece, std::vector<Span>& spans) {
      spans_of_characters(piece.text, matches_, spans);
      apply_behavior(spans, behavior_);
    });
  }

 private:
  Predicate matches_;
  SplitBehavior behavior_;
};

template <typename Predicate>
Pointer at_characters(Predicate matches, SplitBehavior behavior) {
  return std::make_unique<Characters<Predicate>>(matches, behavior);
}

// Runs of word characters, and runs of others that are not white space.
class Whitespace : public PreTokenizer {
 public:
  void apply(std::vector<Piece>& pieces, TextArena&) const override {
    enum class Kind { kSpace, kWord, kOther };
    split_pieces(pieces, [](Piece& piece, std::vector<Span>& spans) {
      Kind previous = Kind::kSpace;
      for (std::size_t at = 0; at < piece.text.size();) {
        const Utf8Char character = utf8_at(piece.text, at);
        const Kind kind = is_word(character.code)         ? Kind::kWord
                          : is_whitespace(character.code) ? Kind::kSpace
                                                          : Kind::kOther;
        if (kind != Kind::kSpace) {
          if (kind != previous) spans.push_back({at, at, true});
          spans.back().end = at + character.size_bytes;
        }
        previous = kind;
        at += character.size_bytes;
      }
    });
  }
};

struct Row {
  std::string_view type;
  Pointer (*make)(const Json& config, const std::string& where);
};

constexpr std::array kRows = {
    Row{"Sequence",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Chain>(config, where);
        }},
    Row{"Split",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Split>(config, where);
        }},
    Row{"ByteLevel",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<ByteLevel>(config, where);
        }},
    Row{"Metaspace",
        [](const Json& config, const std::string& where) -> Pointer {
          return std::make_unique<Metaspace>(config, where);
        }},
    Row{"Digits",
        [](const Json& config, const std::string& where) -> Pointer {
          const bool individual = json_field<bool>(config, "individual_digits", where);
          return at_characters(is_numeric,
                               individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
        }},
    Row{"Punctuation",
        [](const Json& config, const std::string& where) -> Pointer {
          const auto behavior = json_field_or<std::string>(config, "behavior", "Isolated", where);
          return at_characters(is_punctuation, split_behavior(behavior, where));
        }},
    Row{"Whitespace",
        [](const Json&, const std::string&) -> Pointer { return std::make_unique<Whitespace>(); }},
    Row{"WhitespaceSplit",
        [](const Json&, const std::string&) -> Pointer {
          return at_characters(is_whitespace, SplitBehavior::kRemoved);
        }},
    Row{"CharDelimiterSplit",
        [](const Json& config, const std::string& where) -> Pointer {
          const auto delimiter = json_field<std::string>(config, "delimiter", where);
          if (delimiter.empty() || utf8_at(delimiter, 0).size_bytes != delimiter.size())
            throw Error("{}: delimiter is \"{}\"; expected one character", where, delimiter);
          const char32_t wanted = utf8_at(delimiter, 0).code;
          return at_characters([wanted](char32_t code) { return code == wanted; },
                               SplitBehavior::kRemoved);
        }},
};

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Json& config,
                                                       const std::string& where) {
  if (config.is_null()) return nullptr;
  const auto type = json_field<std::string>(config, "type", where);
  for (const Row& row : kRows)
    if (row.type == type) return row.make(config, where + " " + type);
  throw Error("{}: type \"{}\" is not supported; expected {}", where, type, names_of_types(kRows));
}

}  // namespace nereid::tokenizer
