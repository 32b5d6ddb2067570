#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

// The last character of a text that is not empty.
Utf8Char last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while ((text[at] & 0xC0) == 0x80) --at;
  return utf8_at(text, at);
}

std::size_t n_space_bytes_at_end(std::string_view text) {
  const std::size_t before = text.size();
  while (!text.empty()) {
    const Utf8Char last = last_character(text);
    if (!is_whitespace(last.code)) break;
    text.remove_suffix(last.size_bytes);
  }
  return before - text.size();
}

std::size_t n_space_bytes_at_begin(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Char next = utf8_at(text, at);
    if (!is_whitespace(next.code)) break;
    at += next.size_bytes;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(const Json& config, const Vocab& vocab, const Normalizer* normalizer,
                         const std::string& where) {
  if (config.is_null()) return;
  if (!config.is_array())
    throw Error("{}: added_tokens is {}; expected an array", where, config.type_name());
  id_bound_ = 0;
  for (const Json& row : config) {
    const std::string here = fmt::format("{}: added_tokens[{}]", where, tokens_.size());
    AddedToken token;
    token.content = json_field<std::string>(row, "content", here);
    const Json& id = json_member(row, "id", here);
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxTokens)
      throw Error("{}: the id of \"{}\" is {}; expected 0 to {}", here, token.content, id.dump(),
                  kMaxTokens - 1);
    token.id = id.get<std::int32_t>();
    token.special = json_field<bool>(row, "special", here);
    token.normalized = json_field_or<bool>(row, "normalized", !token.special, here);
    token.lstrip = json_field_or<bool>(row, "lstrip", false, here);
    token.rstrip = json_field_or<bool>(row, "rstrip", false, here);
    token.single_word = json_field_or<bool>(row, "single_word", false, here);

    const auto model_id = vocab.find(token.content);
    if (model_id && *model_id != token.id)
      throw Error("{}: \"{}\" has the id {}, but {} in the model's vocabulary", here, token.content,
                  token.id, *model_id);
    if (!model_id && vocab.contains(token.id))
      throw Error("{}: \"{}\" has the id {} of the model's token \"{}\"", here, token.content,
                  token.id, vocab.text(token.id));
    if (!index_of_id_.emplace(token.id, tokens_.size()).second)
      throw Error("{}: the id {} of \"{}\" is there twice", here, token.id, token.content);
    if (!id_of_content_.emplace(token.content, token.id).second)
      throw Error("{}: the token \"{}\" is there twice", here, token.content);
    id_bound_ = std::max(id_bound_, token.id + 1);
    if (token.normalized) {
      NormalText text{token.content};
      if (normalizer != nullptr) normalizer->apply(text);
      normalized_.add(std::move(text.text), token);
    } else {
      raw_.add(token.content, token);
    }
    tokens_.push_back(std::move(token));
  }
  raw_.build();
  normalized_.build();
}

const AddedToken* AddedTokens::by_id(std::int32_t id) const {
  const auto found = index_of_id_.find(id);
  return found == index_of_id_.end() ? nullptr : &tokens_[found->second];
}

std::optional<std::int32_t> AddedTokens::find(std::string_view content) const {
  const auto found = id_of_content_.find(std::string(content));
  if (found == id_of_content_.end()) return std::nullopt;
  return found->second;
}

void AddedTokens::Finder::add(std::string pattern, const AddedToken& token) {
  if (pattern.empty()) return;  // would be found everywhere
  patterns_.push_back(
      {std::move(pattern), token.id, token.lstrip, token.rstrip, token.single_word});
}

void AddedTokens::Finder::build() {
  // Stable: of two tokens with one normalized form the first is found, as with Hugging Face.
  std::stable_sort(patterns_.begin(), patterns_.end(),
                   [](const Pattern& a, const Pattern& b) { return a.text < b.text; });
  for (const Pattern& pattern : patterns_)
    ++first_[static_cast<std::uint8_t>(pattern.text[0]) + 1U];
  for (std::size_t byte = 1; byte < first_.size(); ++byte) first_[byte] += first_[byte - 1];
}

const AddedTokens::Finder::Pattern* AddedTokens::Finder::longest_at(std::string_view text,
                                                                    std::size_t at) const {
  const auto byte = static_cast<std::uint8_t>(text[at]);
  auto begin = patterns_.begin() + first_[byte];
  auto end = patterns_.begin() + first_[byte + 1U];
  const Pattern* longest = nullptr;
  // All of [begin, end) share their first n_same bytes with the text.
  for (std::size_t n_same = 1; begin != end; ++n_same) {
    if (begin->text.size() == n_same) {
      longest = &*begin;
      while (begin != end && begin->text.size() == n_same) ++begin;
    }
    if (at + n_same == text.size()) break;
    const auto next = static_cast<std::uint8_t>(text[at + n_same]);
    const auto byte_of = [&](const Pattern& p) {
      return static_cast<std::uint8_t>(p.text[n_same]);
    };
    begin = std::partition_point(begin, end, [&](const Pattern& p) { return byte_of(p) < next; });
    end = std::partition_point(begin, end, [&](const Pattern& p) { return byte_of(p) == next; });
  }
  return longest;
}

void AddedTokens::Finder::split(const Piece& piece, std::span<const TextRange> barred,
                                std::vector<Piece>& out) const {
  const std::string_view text = piece.text;
  const auto add_text = [&](std::size_t begin, std::size_t end) {
    if (begin < end)
      out.push_back({text.substr(begin, end - begin), -1, piece.at_start && begin == 0});
  };
  std::size_t done = 0;
  for (std::size_t at = 0; !patterns_.empty() && at < text.size();) {
    while (!barred.empty() && barred.front().end <= at) barred = barred.subspan(1);
    if (!barred.empty() && barred.front().begin <= at) {
      at = barred.front().end;
      continue;
    }
    // A shorter token that ends before what is barred is found, though a longer one would reach it.
    const std::string_view free = barred.empty() ? text : text.substr(0, barred.front().begin);
    const auto byte = static_cast<std::uint8_t>(text[at]);
    const Pattern* found = first_[byte] == first_[byte + 1U] ? nullptr : longest_at(free, at);
    if (found == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + found->text.size();
    at = end;
    if (found->single_word && ((begin > 0 && is_word(last_character(text.substr(0, begin)).code)) ||
                               (end < text.size() && is_word(utf8_at(text, end).code))))
      continue;
    // White space that the token before took is not taken twice.
    if (found->lstrip) begin = std::max(done, begin - n_space_bytes_at_end(text.substr(0, begin)));
    if (found->rstrip) end += n_space_bytes_at_begin(text.substr(end));
    add_text(done, begin);
    out.push_back({text.substr(begin, end - begin), found->id, piece.at_start && begin == 0});
    done = end;
  }
  add_text(done, text.size());
}

}  // namespace nereid::tokenizer
