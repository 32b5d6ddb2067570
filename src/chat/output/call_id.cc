#include "chat/output/call_id.h"

#include <random>
#include <string_view>

namespace nereid::chat {

std::string make_call_id(const ToolFormat& format, std::uint64_t seed, std::size_t index) {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::seed_seq words{std::uint32_t(seed), std::uint32_t(seed >> 32), std::uint32_t(index)};
  std::mt19937 random(words);
  std::string id(format.id_prefix);
  // Not a distribution of the library's: those differ between libraries.
  for (std::size_t i = 0; i < format.n_id_letters; ++i) id += kLetters[random() % kLetters.size()];
  return id;
}

}  // namespace nereid::chat
