#include "server/api/logprobs.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "server/json_text.h"
#include "tokenizer/utf8.h"

namespace nereid::server {

namespace {

std::string bytes_of(const tokenizer::Tokenizer& tokenizer, TokenId id) {
  if (tokenizer.is_special(id)) return std::string(tokenizer.token_text(id));
  return tokenizer.token_bytes(id);
}

void append_bytes(std::string& out, std::string_view bytes) {
  out += '[';
  for (std::size_t i = 0; i < bytes.size(); ++i)
    fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? "" : ",",
                   unsigned(static_cast<unsigned char>(bytes[i])));
  out += ']';
}

std::string name_of(const std::string& bytes) {
  if (tokenizer::is_valid_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes)
    fmt::format_to(std::back_inserter(name), "\\x{:02x}",
                   unsigned(static_cast<unsigned char>(byte)));
  return name;
}

void append_chat_token(std::string& out, const tokenizer::Tokenizer& tokenizer,
                       const TokenLogprob& token) {
  const std::string bytes = bytes_of(tokenizer, token.id);
  out += R"({"token":)";
  append_json_string(out, name_of(bytes));
  out += R"(,"logprob":)";
  append_logprob(out, token.logprob);
  out += R"(,"bytes":)";
  append_bytes(out, bytes);
}

void comma(std::string& list) {
  if (!list.empty()) list += ',';
}

std::int64_t n_chars(std::string_view valid) {
  std::int64_t n = 0;
  for (const char c : valid) n += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  return n;
}

}  // namespace

std::string token_name(const tokenizer::Tokenizer& tokenizer, TokenId id) {
  return name_of(bytes_of(tokenizer, id));
}

void append_chat_logprobs(std::string& out, const tokenizer::Tokenizer& tokenizer,
                          std::span<const TokenLogprobs> tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append_chat_token(out, tokenizer, tokens[i].chosen);
    out += R"(,"top_logprobs":[)";
    for (std::size_t j = 0; j < tokens[i].top.size(); ++j) {
      if (j > 0) out += ',';
      append_chat_token(out, tokenizer, tokens[i].top[j]);
      out += '}';
    }
    out += "]}";
  }
}

CompletionLogprobs::CompletionLogprobs(const tokenizer::Tokenizer& tokenizer, std::int32_t n_top)
    : tokenizer_(tokenizer), n_top_(n_top) {}

void CompletionLogprobs::add_name(TokenId id) {
  const std::string name = token_name(tokenizer_, id);
  comma(tokens_);
  append_json_string(tokens_, name);
  comma(offsets_);
  fmt::format_to(std::back_inserter(offsets_), "{}", offset_chars_);
  offset_chars_ += n_chars(name);
}

void CompletionLogprobs::add_first(TokenId id) {
  add_name(id);
  comma(values_);
  values_ += "null";
  comma(tops_);
  tops_ += "null";
}

void CompletionLogprobs::add(std::span<const TokenLogprobs> tokens) {
  for (const auto& token : tokens) {
    add_name(token.chosen.id);
    comma(values_);
    append_logprob(values_, token.chosen.logprob);
    comma(tops_);
    tops_ += '{';
    bool is_first = true;
    const auto add_top = [&](const TokenLogprob& top) {
      if (!std::exchange(is_first, false)) tops_ += ',';
      append_json_string(tops_, token_name(tokenizer_, top.id));
      tops_ += ':';
      append_logprob(tops_, top.logprob);
    };
    bool has_chosen = false;
    for (std::size_t i = 0; i < token.top.size() && std::int32_t(i) < n_top_; ++i) {
      add_top(token.top[i]);
      has_chosen |= token.top[i].id == token.chosen.id;
    }
    if (!has_chosen) add_top(token.chosen);
    tops_ += '}';
  }
}

std::string CompletionLogprobs::take() {
  std::string json =
      fmt::format(R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":{},"text_offset":[{}]}})",
                  tokens_, values_, n_top_ > 0 ? "[" + tops_ + "]" : "null", offsets_);
  for (auto* list : {&tokens_, &values_, &tops_, &offsets_}) list->clear();
  return json;
}

std::string prompt_logprobs_json(const tokenizer::Tokenizer& tokenizer,
                                 std::span<const TokenLogprobs> tokens) {
  std::string json = "[null";
  for (const auto& token : tokens) {
    json += ",{";
    const auto add = [&](const TokenLogprob& one, std::string_view rank) {
      if (json.back() != '{') json += ',';
      fmt::format_to(std::back_inserter(json), R"("{}":{{"logprob":)", one.id);
      append_logprob(json, one.logprob);
      fmt::format_to(std::back_inserter(json), R"(,"rank":{},"decoded_token":)", rank);
      append_json_string(json, token_name(tokenizer, one.id));
      json += '}';
    };
    bool has_chosen = false;
    for (std::size_t i = 0; i < token.top.size(); ++i) {
      add(token.top[i], fmt::format("{}", i + 1));
      has_chosen |= token.top[i].id == token.chosen.id;
    }
    if (!has_chosen) add(token.chosen, "null");
    json += '}';
  }
  return json + "]";
}

}  // namespace nereid::server
