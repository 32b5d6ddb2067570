#include "tokenizer/vocab.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace nereid::tokenizer {

std::uint64_t hash_bytes(std::string_view bytes) {
  constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
  std::uint64_t hash = bytes.size() * kMultiplier;
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  };
  const char* data = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; data += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, data, 8);
    mix(word);
  }
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < left; ++i)
    word |= std::uint64_t{static_cast<std::uint8_t>(data[i])} << (8 * i);
  mix(word);
  return hash;
}

void Vocab::add(std::string_view token, std::int64_t id, const std::string& where) {
  if (id < 0 || id >= kMaxTokens)
    throw Error("{}: token \"{}\" has the id {}; expected 0 to {}", where, token, id,
                kMaxTokens - 1);
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens_.size()) {
    if (index >= tokens_.capacity()) tokens_.reserve(std::max(index + 1, 2 * tokens_.size()));
    tokens_.resize(index + 1);
  }
  if (tokens_[index].size_bytes != kAbsent)
    throw Error("{}: tokens \"{}\" and \"{}\" have the same id {}", where,
                text(static_cast<std::int32_t>(id)), token, id);
  tokens_[index] = {static_cast<std::uint32_t>(arena_.size()),
                    static_cast<std::uint32_t>(token.size())};
  arena_.append(token);
  ++n_tokens_;
}

void Vocab::build(const std::string& where) {
  slots_.assign(std::bit_ceil(2 * n_tokens_ + 2), {});
  const std::size_t mask = slots_.size() - 1;
  for (std::int32_t id = 0; id < id_bound(); ++id) {
    const std::string_view token = text(id);
    if (token.data() == nullptr) continue;
    const std::uint64_t hash = hash_bytes(token);
    const Slot entry{id, static_cast<std::uint32_t>(hash >> 32)};
    std::size_t at = hash & mask;
    for (; slots_[at].id >= 0; at = (at + 1) & mask) {
      if (slots_[at].hash == entry.hash && text(slots_[at].id) == token)
        throw Error("{}: token \"{}\" is there twice, with ids {} and {}", where, token,
                    slots_[at].id, id);
    }
    slots_[at] = entry;
  }
}

std::optional<std::int32_t> Vocab::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const std::size_t mask = slots_.size() - 1;
  const std::uint64_t hash = hash_bytes(token);
  const auto upper = static_cast<std::uint32_t>(hash >> 32);
  for (std::size_t at = hash & mask; slots_[at].id >= 0; at = (at + 1) & mask)
    if (slots_[at].hash == upper && text(slots_[at].id) == token) return slots_[at].id;
  return std::nullopt;
}

std::string_view Vocab::text(std::int32_t id) const {
  if (id < 0 || id >= id_bound()) return {};
  const Token& token = tokens_[static_cast<std::size_t>(id)];
  if (token.size_bytes == kAbsent) return {};
  return {arena_.data() + token.offset, token.size_bytes};
}

}  // namespace nereid::tokenizer
