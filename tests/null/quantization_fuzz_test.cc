// Whatever config.json says of quantised weights, it is refused in a message of some length, or
// understood as something that weights can be.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/quantization.h"

namespace nereid::model {
namespace {

namespace fs = std::filesystem;

// Asks for a long run, and for how many configurations: 4,000 a second under asan.
int n_runs() {
  const char* text = std::getenv("NEREID_FUZZ_RUNS");
  return text == nullptr ? 8000 : std::atoi(text);
}

std::vector<Json> fixtures() {
  std::vector<Json> configs;
  for (const auto& folder :
       fs::directory_iterator(fs::path(NEREID_SOURCE_DIR) / "tests/fixtures/quantized"))
    configs.push_back(read_json_file(folder.path() / "config.json").at("quantization_config"));
  std::ranges::sort(configs);
  return configs;
}

class Fuzz {
 public:
  Fuzz(std::uint32_t seed, const std::vector<Json>& originals)
      : random_(seed), originals_(originals) {
    for (const auto& original : originals) collect(original);
  }

  // One of the originals with a few changes, or made up.
  Json config() {
    if (chance(8)) return made_up(0);
    Json json = of(originals_);
    for (std::size_t i = below(4); i < 4; ++i) change(node(json));
    return json;
  }

  // Its text, damaged.
  std::string text() {
    std::string text = config().dump(-1, ' ', false, Json::error_handler_t::replace);
    for (std::size_t i = below(4); i < 4 && !text.empty(); ++i) {
      const auto at = below(text.size());
      if (chance(3))
        text.erase(at, 1 + below(20));
      else if (chance(3))
        text.insert(at, text.substr(below(text.size()), below(40)));
      else
        text[at] = chance(4) ? static_cast<char>(below(256)) : of(kBytes);
    }
    return text;
  }

 private:
  static constexpr std::string_view kBytes = "0123456789,:{}[]\"-eE.truefalsn\\";

  std::size_t below(std::size_t n) { return random_() % n; }
  bool chance(std::size_t one_in) { return below(one_in) == 0; }
  template <typename List>
  const typename List::value_type& of(const List& list) {
    return list[below(list.size())];
  }

  void collect(const Json& json) {
    for (const auto& [key, value] : json.items()) {
      if (json.is_object()) keys_.push_back(key);
      if (value.is_structured())
        collect(value);
      else
        values_.push_back(value);
    }
  }

  // Any within it, or itself.
  Json& node(Json& json) {
    Json* at = &json;
    while (at->is_structured() && !at->empty() && !chance(4)) {
      auto it = at->begin();
      std::advance(it, below(at->size()));
      at = &*it;
    }
    return *at;
  }

  Json number() {
    switch (below(6)) {
      case 0:
        return static_cast<std::int64_t>(random_()) - 2147483648;
      case 1:
        return std::uint64_t{18446744073709551615U} - below(3);
      case 2:
        return (1LL << below(63)) - 1 + static_cast<std::int64_t>(below(3));
      case 3:
        return std::ldexp(static_cast<double>(random_()), static_cast<int>(below(2000)) - 1000);
      case 4:
        return -static_cast<std::int64_t>(below(300));
      default:
        return below(300);
    }
  }

  std::string word() {
    if (chance(3)) return "re:" + std::string(of(kPatterns));
    if (chance(3)) return of(keys_);
    std::string text(below(chance(50) ? 6000 : 12), ' ');
    for (auto& c : text) c = static_cast<char>(below(256));
    return text;
  }

  Json made_up(int depth) {
    switch (below(depth < 6 ? 8 : 5)) {
      case 0:
        return number();
      case 1:
        return word();
      case 2:
        return of(values_);
      case 3:
        return chance(2);
      case 4:
        return nullptr;
      case 5: {
        Json list = Json::array();
        for (std::size_t i = below(4); i < 4; ++i) list.push_back(made_up(depth + 1));
        return list;
      }
      default: {
        Json object = Json::object();
        for (std::size_t i = below(8); i < 8; ++i)
          object[chance(6) ? word() : of(keys_)] = made_up(depth + 1);
        return object;
      }
    }
  }

  void change(Json& at) {
    switch (below(6)) {
      case 0:
        at = of(values_);
        return;
      case 1:
        at = number();
        return;
      case 2:
        at = made_up(2);
        return;
      case 3:  // a field more, or one less
        if (at.is_object()) {
          if (chance(2))
            at[of(keys_)] = made_up(3);
          else if (!at.empty())
            at.erase(std::next(at.begin(), static_cast<std::ptrdiff_t>(below(at.size()))));
        } else if (at.is_array()) {
          at.push_back(made_up(3));
        }
        return;
      case 4:
        if (at.is_array())
          for (std::size_t i = below(20); i < 20; ++i) at.push_back(word());
        else
          at = word();
        return;
      default: {  // as another original has it, whole
        Json other = of(originals_);
        at = node(other);
      }
    }
  }

  static constexpr std::array<const char*, 10> kPatterns{
      "(a+)+$", ".*",  "((\\w|\\.)+)+[!?]", "(",    "[z-a]",
      "(?R)",   "\\1", "(?<n>x)(?P>n)",     ".{9}", "model\\.layers\\.[0-9]+\\.mlp.*"};

  std::mt19937 random_;
  const std::vector<Json>& originals_;
  std::vector<std::string> keys_;
  std::vector<Json> values_;
};

enum class Outcome { understood, refused };

void check(const WeightFormat& format, std::int64_t n_in) {
  ASSERT_GE(format.n_groups, 1);
  ASSERT_EQ(n_in % format.n_groups, 0);
  ASSERT_TRUE(is_quantised(format.dtype));
  ASSERT_TRUE(dtype_row(format.scale).is_float);
  ASSERT_TRUE(!format.has_zero || format.is_4_bits());
  ASSERT_GE(format.n_columns(n_in), format.is_4_bits() ? (n_in + 1) / 2 : n_in);
}

Outcome read(const Json& json) {
  try {
    const auto quantization = Quantization::parse(json, "config.json", DType::bf16);
    EXPECT_NE(quantization.packing, WeightPacking::floats);
    EXPECT_FALSE(quantization.q_tensor().empty());
    EXPECT_FALSE(quantization.scale_tensor().empty());
    EXPECT_EQ(quantization.zero_tensor().empty(), !quantization.has_zero);
    EXPECT_EQ(quantization.packing == WeightPacking::blocks, quantization.block_rows > 0);
    for (const std::int64_t n_in : {1, 64, 100, 4096})
      for (const char* module : {"model.layers.0.mlp.up_proj", "lm_head"}) {
        try {
          if (const auto format = quantization.format_of(module, n_in)) check(*format, n_in);
        } catch (const Error& error) {  // groups that do not fit, a pattern that does not end
          EXPECT_LT(std::string_view(error.what()).size(), 6500U);
        }
      }
    return Outcome::understood;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    EXPECT_TRUE(message.starts_with("config.json: ")) << message;
    EXPECT_LT(message.size(), 6500U);
    return Outcome::refused;
  }
}

TEST(QuantizationFuzz, IsRefusedOrSane) {
  const auto originals = fixtures();
  ASSERT_GE(originals.size(), 10U);
  for (const auto& original : originals) EXPECT_EQ(read(original), Outcome::understood) << original;
  int n_understood = 0, n_texts = 0;
  for (int run = 0; run < n_runs(); ++run) {
    Fuzz fuzz(static_cast<std::uint32_t>(run), originals);
    const auto json = fuzz.config();
    n_understood += read(json) == Outcome::understood ? 1 : 0;
    if (HasFailure()) FAIL() << "seed " << run << ": " << json;
    const auto text = fuzz.text();
    try {
      const auto damaged = parse_json(text, "config.json");
      n_texts += 1;
      read(damaged);
    } catch (const Error&) {  // no JSON
    }
    if (HasFailure()) FAIL() << "seed " << run << ": " << text;
  }
  // Neither is all refused before it is looked at, nor all taken.
  EXPECT_GT(n_understood, n_runs() / 20);
  EXPECT_LT(n_understood, n_runs() / 2);
  EXPECT_GT(n_texts, n_runs() / 20);
}

}  // namespace
}  // namespace nereid::model
