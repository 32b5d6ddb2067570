// Goal: token text <-> id for a whole vocabulary: one arena, one open-addressing table, no node per
// token.
// Rejected: std::unordered_map, which costs a 128 k vocabulary 128 k allocations at start-up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::tokenizer {

// Ids are below this: eight times the largest vocabulary known, and a hostile id costs at most 16
// MB.
inline constexpr std::int64_t kMaxTokens = std::int64_t{1} << 21;

std::uint64_t hash_bytes(std::string_view bytes);

class Vocab {
 public:
  // `where` is what an Error calls the file. The id may be any number: it is checked here.
  void add(std::string_view token, std::int64_t id, const std::string& where);
  // Ends the adding: find() and text() work from here on.
  void build(const std::string& where);

  std::optional<std::int32_t> find(std::string_view token) const;
  // Null data where no token has this id.
  std::string_view text(std::int32_t id) const;
  bool contains(std::int32_t id) const { return text(id).data() != nullptr; }
  std::int32_t id_bound() const { return static_cast<std::int32_t>(tokens_.size()); }
  std::size_t size() const { return n_tokens_; }

 private:
  struct Token {
    std::uint32_t offset = 0;
    std::uint32_t size_bytes = kAbsent;
  };
  struct Slot {
    std::int32_t id = -1;
    std::uint32_t hash = 0;  // the upper half: most mismatches are seen without reading the arena
  };
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFF;

  std::string arena_;
  std::vector<Token> tokens_;  // by id
  std::vector<Slot> slots_;
  std::size_t n_tokens_ = 0;
};

}  // namespace nereid::tokenizer
