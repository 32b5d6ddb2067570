#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

const Json& field_or_null(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

// The model of a parsed file, checked to be one that Bpe can be.
const Json& require_bpe(const TokenizerJson& file, const std::string& where) {
  const Json& model = field_or_null(file.root, "model");
  if (!model.is_object())
    throw Error("{}: \"model\" is {}; expected an object with a vocabulary and merges", where,
                model.is_null() ? "missing" : model.type_name());
  // Files from before the field name no type; they are BPE if they have merges.
  const auto type = json_field_or<std::string>(model, "type", file.has_merges ? "BPE" : "", where);
  if (type != "BPE")
    throw Error("{}: model type \"{}\" is not supported; expected BPE", where, type);
  if (!file.has_vocab) throw Error("{}: model.vocab is missing; expected an object", where);
  if (!file.has_merges) throw Error("{}: model.merges is missing; expected an array", where);
  return model;
}

// Where in the output each recent word's ids are. Direct-mapped: a collision forgets the older
// word.
class WordCache {
 public:
  explicit WordCache(std::size_t n_words)
      : slots_(std::clamp(std::bit_ceil(n_words), kMinSlots, kMaxSlots)) {}

  void append(std::string_view word, const Bpe& bpe, Bpe::Scratch& scratch,
              std::vector<std::int32_t>& ids) {
    if (word.size() > kMaxWordBytes) {
      bpe.encode_word(word, scratch, ids);
      return;
    }
    Slot& slot = slots_[hash_bytes(word) & (slots_.size() - 1)];
    const std::size_t begin = ids.size();
    if (slot.word == word && slot.word.data() != nullptr) {
      ids.resize(begin + slot.n_ids);
      std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(slot.begin), slot.n_ids,
                  ids.begin() + static_cast<std::ptrdiff_t>(begin));
      return;
    }
    bpe.encode_word(word, scratch, ids);
    slot = {word, begin, ids.size() - begin};
  }

 private:
  static constexpr std::size_t kMinSlots = 16;
  static constexpr std::size_t kMaxSlots = 16384;   // about the words of a long prompt: 640 KB
  static constexpr std::size_t kMaxWordBytes = 64;  // longer ones seldom come twice
  struct Slot {
    std::string_view word;
    std::size_t begin = 0;
    std::size_t n_ids = 0;
  };
  std::vector<Slot> slots_;
};

}  // namespace

struct Tokenizer::Parts {
  Vocab vocab;
  std::unique_ptr<const Normalizer> normalizer;       // may be null
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<const AddedTokens> added;
  std::unique_ptr<const Bpe> bpe;
  std::vector<std::unique_ptr<const Decoder>> decoders;
  SpecialFrame frame;

  std::vector<Piece> split(std::string_view text, std::span<const TextRange> input,
                           TextArena& arena) const;
  std::vector<TextRange> normal_ranges(const Piece& piece, std::size_t offset,
                                       std::span<const TextRange> input) const;
  std::optional<std::int32_t> find(std::string_view token) const;
  std::string_view token_text(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
};

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& where) {
  return parse(tokenizer_json, where, Json());
}

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& where,
                           const Json& config) {
  TokenizerJson file = parse_tokenizer_json(tokenizer_json, where);
  const Json& model = require_bpe(file, where);
  const Json& root = file.root;
  auto parts = std::make_unique<Parts>();
  parts->vocab = std::move(file.vocab);
  parts->bpe = std::make_unique<Bpe>(model, file.merges, parts->vocab, where);
  parts->normalizer = make_normalizer(field_or_null(root, "normalizer"), where + ": normalizer");
  parts->pre_tokenizer =
      make_pre_tokenizer(field_or_null(root, "pre_tokenizer"), where + ": pre_tokenizer");
  parts->decoders = make_decoders(field_or_null(root, "decoder"), where + ": decoder");
  parts->added = std::make_unique<AddedTokens>(field_or_null(root, "added_tokens"), parts->vocab,
                                               parts->normalizer.get(), where);
  const Parts& made = *parts;
  const auto has_id = [&](std::int64_t id) {
    const auto narrow = static_cast<std::int32_t>(id);
    return made.added->by_id(narrow) != nullptr || made.vocab.contains(narrow);
  };
  parts->frame = read_post_processor(field_or_null(root, "post_processor"), has_id,
                                     where + ": post_processor");
  // "truncation" and "padding" are the caller's choices of the day the file was saved: they are not
  // applied.
  apply_tokenizer_config(
      config, [&](std::string_view token) { return made.find(token); }, parts->frame,
      where + ": tokenizer_config.json");
  return Tokenizer(std::move(parts));
}

Tokenizer Tokenizer::load(const std::filesystem::path& model_dir) {
  const std::filesystem::path path = model_dir / "tokenizer.json";
  if (!std::filesystem::exists(path))
    throw Error(ErrorCode::not_found,
                "tokenizer.json not found in {}; expected a Hugging Face snapshot directory",
                model_dir.string());
  const std::filesystem::path config_path = model_dir / "tokenizer_config.json";
  Json config;
  if (std::filesystem::exists(config_path)) config = read_json_file(config_path);
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string(), config);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::optional<std::int32_t> Tokenizer::Parts::find(std::string_view token) const {
  if (const auto id = added->find(token)) return id;
  return vocab.find(token);
}

std::string_view Tokenizer::Parts::token_text(std::int32_t id) const {
  if (const AddedToken* token = added->by_id(id)) return token->content;
  return vocab.text(id);
}

bool Tokenizer::Parts::is_special(std::int32_t id) const {
  const AddedToken* token = added->by_id(id);
  return token != nullptr && token->special;
}

// Where the parts of `input` that lie in `piece`, at `offset` of the input's text, are found once
// it is normalized: a boundary is as far from the start as what is before it becomes long.
std::vector<TextRange> Tokenizer::Parts::normal_ranges(const Piece& piece, std::size_t offset,
                                                       std::span<const TextRange> input) const {
  constexpr std::size_t kMaxBoundaries = 256;  // each costs as much as the text before it
  std::vector<TextRange> ranges;
  for (const TextRange& range : input) {
    if (range.end <= offset || range.begin >= offset + piece.text.size()) continue;
    ranges.push_back({std::max(range.begin, offset) - offset,
                      std::min(range.end, offset + piece.text.size()) - offset});
  }
  if (!normalizer || ranges.empty()) return ranges;
  if (2 * ranges.size() > kMaxBoundaries) return {{0, std::string_view::npos}};
  const auto normal_size = [&](std::size_t n_bytes) {
    NormalText before{std::string(piece.text.substr(0, n_bytes)), piece.at_start};
    if (n_bytes > 0) normalizer->apply(before);
    return before.text.size();
  };
  for (TextRange& range : ranges) range = {normal_size(range.begin), normal_size(range.end)};
  return ranges;
}

std::vector<Piece> Tokenizer::Parts::split(std::string_view text, std::span<const TextRange> input,
                                           TextArena& arena) const {
  std::vector<Piece> raw;
  added->split_raw({text, -1, true}, input, raw);
  std::vector<Piece> pieces;
  for (Piece& piece : raw) {
    if (piece.id >= 0) {
      pieces.push_back(piece);
      continue;
    }
    std::vector<TextRange> barred;
    if (!input.empty() && added->seeks_normalized())
      barred =
          normal_ranges(piece, static_cast<std::size_t>(piece.text.data() - text.data()), input);
    if (normalizer) {
      NormalText normal{std::string(piece.text), piece.at_start};
      normalizer->apply(normal);
      piece = {arena.hold(std::move(normal.text)), -1, normal.at_start};
    }
    added->split_normalized(piece, barred, pieces);
  }
  if (pre_tokenizer) pre_tokenizer->apply(pieces, arena);
  return pieces;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return encode(text, add_special_tokens, {});
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                            std::span<const TextRange> input) const {
  TextArena arena;
  if (!is_valid_utf8(text)) {
    if (!input.empty())
      throw Error("a text with marked ranges is not valid UTF-8; expected it to be");
    text = arena.hold(to_valid_utf8(text));
  }
  const std::vector<Piece> pieces = parts_->split(text, input, arena);

  std::vector<std::int32_t> ids;
  if (add_special_tokens) ids = parts_->frame.before;
  WordCache cache(pieces.size());
  Bpe::Scratch scratch;
  for (const Piece& piece : pieces) {
    if (piece.id >= 0)
      ids.push_back(piece.id);
    else
      cache.append(piece.text, *parts_->bpe, scratch, ids);
  }
  if (add_special_tokens)
    ids.insert(ids.end(), parts_->frame.after.begin(), parts_->frame.after.end());
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_prompt(std::string_view prompt) const {
  return encode_prompt(prompt, {});
}

std::vector<std::int32_t> Tokenizer::encode_prompt(std::string_view prompt,
                                                   std::span<const TextRange> input) const {
  std::vector<std::int32_t> ids = encode(prompt, /*add_special_tokens=*/true, input);
  const std::size_t start = written_start(prompt).size();
  if (start > 0 && (input.empty() || input.front().begin >= start))
    ids.erase(ids.begin(), ids.begin() + std::ptrdiff_t(parts_->frame.before.size()));
  return ids;
}

std::string_view Tokenizer::written_start(std::string_view prompt) const {
  std::size_t end = 0;
  for (const auto id : parts_->frame.before) {
    const std::string_view token = parts_->token_text(id);
    if (!prompt.substr(end).starts_with(token)) return {};
    end += token.size();
  }
  const std::string_view start = prompt.substr(0, end);
  // Written, it must be these tokens, not text that looks like them.
  if (encode(start, /*add_special_tokens=*/false) != parts_->frame.before) return {};
  return start;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (const std::int32_t id : ids) text += decoder.push(id);
  text += decoder.flush();
  return text;
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view token) const {
  return parts_->find(token);
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  if (is_special(id)) return {};
  std::string bytes(token_text(id));
  if (!bytes.empty())
    for (const auto& decoder : parts_->decoders) decoder->apply_to_bytes(bytes);
  return bytes;
}
std::string_view Tokenizer::token_text(std::int32_t id) const { return parts_->token_text(id); }
bool Tokenizer::is_special(std::int32_t id) const { return parts_->is_special(id); }

std::int32_t Tokenizer::vocab_size() const {
  return std::max(parts_->vocab.id_bound(), parts_->added->id_bound());
}

namespace {

// The decoders' stages and, at the end of them, the text that they let through.
class DecoderChain final : private TokenSink {
 public:
  using Decoders = std::vector<std::unique_ptr<const Decoder>>;

  explicit DecoderChain(const Decoders& decoders) {
    text_.reserve(kTokenTextBytes);
    start(decoders);
  }
  // The stages know where the next one is.
  DecoderChain(const DecoderChain&) = delete;
  DecoderChain& operator=(const DecoderChain&) = delete;

  void start(const Decoders& decoders) {
    stages_.clear();
    for (auto decoder = decoders.rbegin(); decoder != decoders.rend(); ++decoder)
      stages_.push_back((*decoder)->start(first()));
  }
  // The state of another of the same decoders.
  void assign(const DecoderChain& other) {
    for (std::size_t i = 0; i < stages_.size(); ++i) stages_[i]->assign(*other.stages_[i]);
  }
  std::string_view push(std::string_view token) {
    text_.clear();
    first().text(token);
    first().end_token();
    return text_;
  }
  std::string_view finish_stream() {
    text_.clear();
    first().finish();
    return text_;
  }

 private:
  void text(std::string_view part) override { text_ += part; }
  void end_token() override {}
  void finish() override {}
  TokenSink& first() { return stages_.empty() ? static_cast<TokenSink&>(*this) : *stages_.back(); }

  std::vector<std::unique_ptr<Stage>> stages_;  // last decoder first; the back takes the tokens
  std::string text_;
};

}  // namespace

struct StreamDecoder::State {
  State(const Tokenizer::Parts& of, bool skips_special)
      : parts(of), skip_special(skips_special), chain(of.decoders), ended(of.decoders) {}

  const Tokenizer::Parts& parts;
  bool skip_special;
  DecoderChain chain;
  DecoderChain ended;  // for pending(): made once, so that no token allocates
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(std::make_unique<State>(*tokenizer.parts_, skip_special)) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string_view StreamDecoder::push(std::int32_t id) {
  const std::string_view token = state_->parts.token_text(id);
  if (token.data() == nullptr) return {};
  if (state_->skip_special && state_->parts.is_special(id)) return {};
  return state_->chain.push(token);
}

std::string_view StreamDecoder::pending() {
  state_->ended.assign(state_->chain);
  return state_->ended.finish_stream();
}

std::string_view StreamDecoder::flush() {
  const std::string_view text = state_->chain.finish_stream();
  state_->chain.start(state_->parts.decoders);
  return text;
}

}  // namespace nereid::tokenizer
