#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::int32_t require(const Vocab& vocab, std::string_view token, std::size_t rank,
                     const std::string& where) {
  const auto id = vocab.find(token);
  if (!id)
    throw Error("{}: merge {} needs the token \"{}\", which is not in the vocabulary", where, rank,
                token);
  return *id;
}

}  // namespace

void MergeTable::reserve(std::size_t n_merges) {
  slots_.assign(std::bit_ceil(2 * n_merges + 2), {});
}

std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::uint64_t hash = pair * 0x9E3779B97F4A7C15;
  hash ^= hash >> 32;
  std::size_t at = hash & mask;
  while (slots_[at].pair != pair && slots_[at].pair != kEmpty) at = (at + 1) & mask;
  return at;
}

void MergeTable::insert(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, merge};
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
  const Slot& slot = slots_[slot_of(pair_of(left, right))];
  return slot.pair == kEmpty ? nullptr : &slot.merge;
}

Bpe::Bpe(const Json& model, const MergeList& merges, const Vocab& vocab, const std::string& where)
    : vocab_(vocab) {
  const std::string here = where + ": model";
  ignore_merges_ = json_field_or<bool>(model, "ignore_merges", false, here);
  byte_fallback_ = json_field_or<bool>(model, "byte_fallback", false, here);
  fuse_unknown_ = json_field_or<bool>(model, "fuse_unk", false, here);
  continuing_prefix_ = json_field_or<std::string>(model, "continuing_subword_prefix", "", here);
  word_suffix_ = json_field_or<std::string>(model, "end_of_word_suffix", "", here);
  if (const auto dropout = json_field_or<double>(model, "dropout", 0.0, here); dropout != 0.0)
    throw Error("{}: dropout is {}; expected null or 0, since it makes encoding random", here,
                dropout);
  if (const auto token = json_field_or<std::string>(model, "unk_token", "", here); !token.empty()) {
    unknown_id_ = vocab_.find(token);
    if (!unknown_id_) throw Error("{}: unk_token \"{}\" is not in the vocabulary", here, token);
  }

  std::string text;
  for (std::size_t code = 0; code < id_of_code_.size(); ++code) {
    text.clear();
    append_utf8(text, static_cast<char32_t>(code));
    id_of_code_[code] = vocab_.find(text).value_or(-1);
  }
  for (unsigned byte = 0; byte < id_of_byte_.size(); ++byte)
    id_of_byte_[byte] = vocab_.find(fmt::format("<0x{:02X}>", byte)).value_or(-1);

  merges_.reserve(merges.size());
  id_of_rank_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = merges[rank];
    const std::int32_t left_id = require(vocab_, left, rank, here);
    const std::int32_t right_id = require(vocab_, right, rank, here);
    if (right.size() < continuing_prefix_.size())
      throw Error("{}: merge {}: \"{}\" lacks the continuing_subword_prefix \"{}\"", here, rank,
                  right, continuing_prefix_);
    text.assign(left).append(right.substr(continuing_prefix_.size()));
    const std::int32_t merged_id = require(vocab_, text, rank, here);
    id_of_rank_.push_back(merged_id);
    merges_.insert(left_id, right_id, {static_cast<std::uint32_t>(rank), merged_id});
  }
}

std::optional<std::int32_t> Bpe::find_character(std::string_view character) const {
  if (character.size() <= 2) {
    const char32_t code = utf8_at(character, 0).code;
    if (code < id_of_code_.size()) {
      if (id_of_code_[code] < 0) return std::nullopt;
      return id_of_code_[code];
    }
  }
  return vocab_.find(character);
}

void Bpe::split_characters(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  const auto add = [&](std::int32_t id) { symbols.push_back({id, kNone, kNone}); };
  const bool plain = continuing_prefix_.empty() && word_suffix_.empty();
  bool unknown_pending = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t size_bytes = utf8_at(word, at).size_bytes;
    const std::string_view character = word.substr(at, size_bytes);
    std::optional<std::int32_t> id;
    std::string_view text = character;
    if (plain) {
      id = find_character(character);
    } else {
      scratch.text = at == 0 ? "" : continuing_prefix_;
      scratch.text += character;
      if (at + size_bytes == word.size()) scratch.text += word_suffix_;
      text = scratch.text;
      id = vocab_.find(text);
    }
    at += size_bytes;
    if (id) {
      if (unknown_pending) add(*unknown_id_);
      unknown_pending = false;
      add(*id);
      continue;
    }
    if (byte_fallback_) {
      const auto known = [&](char byte) {
        return id_of_byte_[static_cast<std::uint8_t>(byte)] >= 0;
      };
      if (std::all_of(text.begin(), text.end(), known)) {
        // An unknown still pending stays pending: Hugging Face puts it after the bytes.
        for (const char byte : text) add(id_of_byte_[static_cast<std::uint8_t>(byte)]);
        continue;
      }
    }
    // Without an unknown token, such a character has no id at all.
    if (!unknown_id_) continue;
    if (unknown_pending && !fuse_unknown_) add(*unknown_id_);
    unknown_pending = true;
  }
  if (unknown_pending) add(*unknown_id_);
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    symbols[i].next = static_cast<std::uint32_t>(i + 1);
    symbols[i + 1].previous = static_cast<std::uint32_t>(i);
  }
}

std::size_t Bpe::merge_symbols(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  queue.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
    if (const auto* merge = merges_.find(symbols[i].id, symbols[i + 1].id))
      queue.push_back(std::uint64_t{merge->rank} << 32 | i);
  std::make_heap(queue.begin(), queue.end(), std::greater<>());

  const auto offer = [&](std::uint32_t left) {
    const auto* merge = merges_.find(symbols[left].id, symbols[symbols[left].next].id);
    if (merge == nullptr) return;
    queue.push_back(std::uint64_t{merge->rank} << 32 | left);
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };

  std::size_t n_taken = 0;
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const auto left = static_cast<std::uint32_t>(queue.back());
    const std::int32_t merged_id = id_of_rank_[queue.back() >> 32];
    queue.pop_back();
    ++n_taken;
    const std::uint32_t right = symbols[left].next;
    if (symbols[left].id < 0 || right == kNone) continue;
    // Either symbol may have changed since this merge was queued.
    const auto* merge = merges_.find(symbols[left].id, symbols[right].id);
    if (merge == nullptr || merge->id != merged_id) continue;

    symbols[left].id = merged_id;
    symbols[left].next = symbols[right].next;
    symbols[right].id = -1;
    if (symbols[left].next != kNone) {
      symbols[symbols[left].next].previous = left;
      offer(left);
    }
    if (symbols[left].previous != kNone) offer(symbols[left].previous);
  }
  return n_taken;
}

std::size_t Bpe::encode_word(std::string_view word, Scratch& scratch,
                             std::vector<std::int32_t>& ids) const {
  if (word.empty()) return 0;
  // Positions in the queue have 32 bits.
  if (word.size() >= kNone)
    throw Error("a word of {} bytes; expected less than 4 GiB between two splits", word.size());
  if (ignore_merges_) {
    if (const auto id = vocab_.find(word)) {
      ids.push_back(*id);
      return 0;
    }
  }
  split_characters(word, scratch);
  const std::size_t n_taken = merge_symbols(scratch);
  for (const auto& symbol : scratch.symbols)
    if (symbol.id >= 0) ids.push_back(symbol.id);
  return n_taken;
}

}  // namespace nereid::tokenizer
