// Constraints and texts come in as lines of JSON, verdicts and drawn texts go out: the tests in
// Python judge them (grammar_schemas_test.py).
//   {"schema": ...} or {"regex": "..."}, "texts": [...], "draw": n, "seed": n
//   {"error": "..."} or {"accepted": [true, ...], "drawn": [...], "n_unfinished": n}
#include <fmt/format.h>

#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "grammar/grammar.h"

namespace {

using nlohmann::json;
using namespace nereid;

constexpr TokenId kEnd = 0;

std::shared_ptr<const grammar::Vocabulary> make_vocabulary() {
  std::vector<std::string> texts = {""};
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  for (const char* text : {"{\"",      "\":",   "\": ",     "\",",
                           "\", \"",   "\"}",   "}}",       "[[",
                           "[{",       "}]",    "]}",       "\":{\"",
                           ", ",       ": ",    "{}",       "[]",
                           "true",     "false", "null",     "10",
                           "00",       "1.",    ".5",       "-1",
                           "e1",       "  ",    "\n  ",     "\n",
                           "\n    ",   "\\n",   "\\u",      "\\u00",
                           "\\\"",     "foo",   "bar",      "\"foo\"",
                           "\"bar\":", "ab",    "aa",       "type",
                           "name",     "\xC3",  "\xF0\x9F", "\xF0\x9F\x92\xA9",
                           "\x98\x80", "},{",   "\"a\":",   "1,",
                           "2]",       "\"}}"})
    texts.emplace_back(text);
  return std::make_shared<const grammar::Vocabulary>(std::move(texts));
}

struct Masks {
  const grammar::Vocabulary& vocabulary;
  std::vector<std::uint32_t> words = std::vector<std::uint32_t>((vocabulary.n_tokens() + 31) / 32);
  bool has(TokenId id) const {
    return (words[static_cast<std::size_t>(id) / 32] >> (static_cast<unsigned>(id) % 32) & 1) != 0;
  }
};

// By bytes, and by tokens drawn at random among those that the text begins with; the two and the
// masks must agree.
bool accepts(const std::shared_ptr<const grammar::Grammar>& compiled,
             const grammar::Vocabulary& vocabulary, const std::string& text, std::mt19937_64& rng) {
  const std::vector<TokenId> ends = {kEnd};
  grammar::Matcher bytes(compiled, ends);
  const bool by_bytes = bytes.accept_bytes(text) && bytes.is_complete();
  grammar::Matcher tokens(compiled, ends);
  Masks masks{vocabulary};
  std::size_t at = 0;
  while (at < text.size()) {
    std::vector<TokenId> fitting;
    for (std::size_t id = 0; id < vocabulary.n_tokens(); ++id) {
      const std::string_view token = vocabulary.text(static_cast<TokenId>(id));
      if (!token.empty() && std::string_view(text).substr(at).starts_with(token))
        fitting.push_back(static_cast<TokenId>(id));
    }
    const TokenId id = fitting[rng() % fitting.size()];
    tokens.fill_mask(masks.words);
    const bool is_allowed = masks.has(id);
    if (tokens.accept(id) != is_allowed)
      throw std::runtime_error("mask and accept() differ: " + text);
    if (!is_allowed) break;
    at += vocabulary.text(id).size();
  }
  const bool by_tokens = at == text.size() && tokens.accept(kEnd);
  if (by_bytes != by_tokens) throw std::runtime_error("bytes and tokens differ: " + text);
  return by_bytes;
}

// Any allowed token for a while, then what ends the text soon.
bool draw(const std::shared_ptr<const grammar::Grammar>& compiled,
          const grammar::Vocabulary& vocabulary, std::mt19937_64& rng, std::string& text) {
  constexpr int kFree = 60;
  constexpr int kMost = 1500;
  constexpr std::string_view kSoonest = "}]\":ntfrueals0123456789";
  const std::vector<TokenId> ends = {kEnd};
  grammar::Matcher matcher(compiled, ends);
  Masks masks{vocabulary};
  for (int step = 0; step < kMost; ++step) {
    matcher.fill_mask(masks.words);
    std::vector<TokenId> allowed;
    for (std::size_t id = 0; id < vocabulary.n_tokens(); ++id)
      if (masks.has(static_cast<TokenId>(id))) allowed.push_back(static_cast<TokenId>(id));
    if (allowed.empty()) throw std::runtime_error("no token is allowed behind: " + text);
    TokenId id = allowed[rng() % allowed.size()];
    if (step > kFree) {
      if (masks.has(kEnd)) return true;
      for (const char byte : kSoonest) {
        const TokenId one = 1 + static_cast<unsigned char>(byte);
        if (!masks.has(one) || rng() % 8 == 0) continue;
        id = one;
        break;
      }
    }
    if (!matcher.accept(id))
      throw std::runtime_error("an allowed token is refused behind: " + text);
    if (id == kEnd) return true;
    text += vocabulary.text(id);
  }
  return false;
}

json answer(const json& question, const std::shared_ptr<const grammar::Vocabulary>& vocabulary) {
  Constraint constraint;
  if (question.contains("schema")) {
    constraint.kind = Constraint::Kind::json_schema;
    constraint.text = question["schema"].dump();
  } else {
    constraint.kind = Constraint::Kind::regex;
    constraint.text = question["regex"].get<std::string>();
  }
  json out = {{"accepted", json::array()}, {"drawn", json::array()}, {"n_unfinished", 0}};
  try {
    const auto compiled = grammar::compile(constraint, vocabulary);
    std::mt19937_64 rng(question.value("seed", 1));
    for (const json& text : question.value("texts", json::array()))
      out["accepted"].push_back(accepts(compiled, *vocabulary, text.get<std::string>(), rng));
    for (int i = 0; i < question.value("draw", 0); ++i) {
      std::string text;
      if (draw(compiled, *vocabulary, rng, text))
        out["drawn"].push_back(text);
      else
        out["n_unfinished"] = out["n_unfinished"].get<int>() + 1;
    }
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
  return out;
}

}  // namespace

int main() {
  const auto vocabulary = make_vocabulary();
  std::string line;
  try {
    while (std::getline(std::cin, line))
      std::cout << answer(json::parse(line), vocabulary).dump() << std::endl;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\nwhile answering " << line << "\n";
    return 1;
  }
}
