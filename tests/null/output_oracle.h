// Goal: what a whole answer of a model says, told by a second reading of the rules in
// chat/output/output_parser.h: by position in the text, with nlohmann's parser for every value.
// Non-goal: pieces.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "chat/output/output_parser.h"

namespace nereid::chat {

struct ToldCall {
  std::string name = {};
  std::string arguments = {};
  bool has_arguments = false;
  bool operator==(const ToldCall&) const = default;
};

struct Told {
  std::string content = {};
  std::string reasoning = {};
  std::vector<ToldCall> calls = {};
  bool operator==(const Told&) const = default;
};

inline void PrintTo(const Told& told, std::ostream* out) {
  *out << "content \"" << told.content << "\"\nreasoning \"" << told.reasoning << "\"\n";
  for (const auto& call : told.calls)
    *out << "call " << call.name << " (" << call.arguments << ")"
         << (call.has_arguments ? "" : "...") << "\n";
}

class OutputOracle {
 public:
  OutputOracle(std::string text, const OutputOptions& options)
      : text_(std::move(text)), format_(*options.tools), reasoning_(*options.reasoning) {
    at_ = read_reasoning(options.is_reasoning_open);
    while (at_ < text_.size()) read_content();
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      std::string segment = segments_[i];
      if (i > 0 || was_reasoning_)
        segment = std::regex_replace(segment, std::regex("^[ \t\r\n]+"), "");
      if (i + 1 < segments_.size()) segment.resize(segment.find_last_not_of(" \t\r\n") + 1);
      told_.content += segment;
    }
  }
  const Told& told() const { return told_; }

 private:
  struct Value {
    std::size_t end = 0;  // where it ends, or what broke it stands; the text's end where it is cut
    bool is_whole = false;
  };
  struct Object {
    std::size_t end = 0;
    bool is_whole = false;
    std::string name;
    std::size_t name_end = 0;
    bool has_arguments = false;  // begun
    Value arguments;
    std::size_t arguments_begin = 0;
  };

  std::size_t after_space(std::size_t at) const {
    return std::min(text_.find_first_not_of(" \t\r\n", at), text_.size());
  }
  bool stands(std::string_view part, std::size_t at) const {
    return std::string_view(text_).substr(at).starts_with(part);
  }

  std::size_t read_reasoning(bool is_open) {
    if (reasoning_.start.empty()) return 0;
    const std::size_t at = after_space(0);
    const bool is_marked = stands(reasoning_.start, at);
    if (!is_marked && !is_open) return 0;
    was_reasoning_ = true;
    const std::size_t begin = is_marked ? at + reasoning_.start.size() : 0;
    const std::size_t end = std::min(text_.find(reasoning_.end, begin), text_.size());
    const std::string inside = text_.substr(begin, end - begin);
    std::smatch match;
    if (std::regex_match(inside, match, std::regex(R"(\s*([^]*?)\s*)"))) told_.reasoning = match[1];
    return std::min(end + reasoning_.end.size(), text_.size());
  }

  void read_content() {
    const bool is_blank =
        segments_.size() == 1 && segments_[0].find_first_not_of(" \t\r\n") == std::string::npos;
    const char opener = format_.shape == CallShape::list ? '[' : '{';
    const std::size_t first = after_space(at_);
    const bool is_marked = std::ranges::any_of(
        format_.starts, [&](auto mark) { return !mark.empty() && stands(mark, first); });
    if (format_.may_start_bare && is_blank && !is_marked && first < text_.size() &&
        text_[first] == opener) {
      segments_.back() += text_.substr(at_, first - at_);
      read_calls(first, first, true);
      return;
    }
    std::size_t start = text_.size();
    std::size_t n_bytes = 0;
    for (const auto mark : format_.starts)
      if (!mark.empty() && text_.find(mark, at_) < start) {
        start = text_.find(mark, at_);
        n_bytes = mark.size();
      }
    segments_.back() += text_.substr(at_, start - at_);
    at_ = start;
    if (n_bytes > 0) read_calls(start, start + n_bytes, false);
  }

  void give_back(std::size_t from, std::size_t to) {
    segments_.back() += text_.substr(from, to - from);
    at_ = to;
  }

  void read_calls(std::size_t from, std::size_t at, bool is_bare) {
    const bool is_list = format_.shape == CallShape::list;
    if (is_list) {
      at = after_space(at);
      if (at == text_.size() || text_[at] != '[') return give_back(from, at);
      ++at;
    }
    while (true) {
      const Object object = read_object(after_space(at));
      const bool is_begun = !object.name.empty() && object.has_arguments;
      const bool is_call = is_begun || (object.is_whole && !object.name.empty() && !is_bare);
      if (!is_call) return give_back(from, object.end);
      ToldCall call{.name = object.name, .arguments = "{}", .has_arguments = true};
      std::size_t told_to = object.end;
      if (is_begun) {
        call.arguments =
            text_.substr(object.arguments_begin, object.arguments.end - object.arguments_begin);
        call.has_arguments = object.arguments.is_whole;
        told_to = std::max(object.arguments.end, object.name_end);
      }
      told_.calls.push_back(call);
      segments_.emplace_back();
      if (!object.is_whole) {
        const bool is_cut = object.end == text_.size();
        return give_back(is_cut ? object.end : told_to, object.end);
      }
      from = object.end;
      const std::size_t next = after_space(from);
      if (next < text_.size() && format_.separator != 0 && text_[next] == format_.separator) {
        at = next + 1;
        continue;
      }
      const std::string_view end = is_list ? "]" : format_.end;
      at_ = stands(end, next) ? next + end.size() : from;
      return;
    }
  }

  Object read_object(std::size_t at) const {
    Object object;
    bool had_arguments_key = false;
    const auto broken = [&](std::size_t where) {
      object.end = where;
      return object;
    };
    const auto is_at = [&](char byte) { return at < text_.size() && text_[at] == byte; };
    if (!is_at('{')) return broken(at);
    at = after_space(at + 1);
    if (is_at('}')) {
      object.is_whole = true;
      return broken(at + 1);
    }
    while (true) {
      if (!is_at('"')) return broken(at);
      const Value key_value = read_value(at);
      if (!key_value.is_whole) return broken(key_value.end);
      const std::string key = string_at(at, key_value.end);
      at = after_space(key_value.end);
      if (!is_at(':')) return broken(at);
      at = after_space(at + 1);
      const bool is_name = key == format_.name_key;
      const bool is_arguments = key == format_.arguments_key;
      if (at == text_.size() || (is_name && (!is_at('"') || !object.name.empty())) ||
          (is_arguments && ((!is_at('{') && !is_at('n')) || had_arguments_key)))
        return broken(at);
      const Value value = read_value(at);
      if (is_arguments) had_arguments_key = true;
      if (is_arguments && is_at('{')) {
        object.has_arguments = true;
        object.arguments = value;
        object.arguments_begin = at;
      }
      if (!value.is_whole) return broken(value.end);
      if (is_name) {
        object.name = string_at(at, value.end);
        if (object.name.empty()) return broken(value.end - 1);
        object.name_end = value.end;
      }
      at = after_space(value.end);
      if (is_at('}')) {
        object.is_whole = true;
        return broken(at + 1);
      }
      if (!is_at(',')) return broken(at);
      at = after_space(at + 1);
    }
  }

  std::string string_at(std::size_t begin, std::size_t end) const {
    return nlohmann::json::parse(text_.substr(begin, end - begin)).get<std::string>();
  }

  struct Sax : nlohmann::json_sax<nlohmann::json> {
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(std::int64_t) override { return true; }
    bool number_unsigned(std::uint64_t) override { return true; }
    bool number_float(double, const std::string&) override { return true; }
    bool string(std::string&) override { return true; }
    bool binary(nlohmann::json::binary_t&) override { return true; }
    bool start_object(std::size_t) override { return true; }
    bool key(std::string&) override { return true; }
    bool end_object() override { return true; }
    bool start_array(std::size_t) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::json::exception&) override {
      n_read = position;
      return false;
    }
    std::size_t n_read = 0;
  };

  // No error but that it ends too early.
  static bool is_beginning(const std::string& text) {
    Sax sax;
    return nlohmann::json::sax_parse(text, &sax, nlohmann::json::input_format_t::json, false) ||
           sax.n_read > text.size();
  }
  // The parser reads a token to its end before it asks whether one may stand there; so the token
  // that may begin with the last byte is ended.
  static bool can_become_json(const std::string& text) {
    const std::string ends[][2] = {
        {"\"", "\""}, {"t", "rue"}, {"f", "alse"}, {"n", "ull"}, {"-", "0"}};
    for (const auto& [begin, rest] : ends)
      if (text.ends_with(begin) && !is_beginning(text + rest)) return false;
    return is_beginning(text);
  }

  Value read_value(std::size_t at) const {
    Sax sax;
    const std::string rest = text_.substr(at);
    std::istringstream in(rest);
    if (!nlohmann::json::sax_parse(in, &sax, nlohmann::json::input_format_t::json, false)) {
      std::size_t n_good = 0;
      while (n_good < rest.size() && can_become_json(rest.substr(0, n_good + 1))) ++n_good;
      return {.end = at + n_good};
    }
    if (rest[0] == '{' || rest[0] == '[' || rest[0] == '"') {
      in.clear();
      return {.end = at + std::size_t(in.tellg()), .is_whole = true};
    }
    static const std::regex scalar(
        R"(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)");
    std::smatch match;
    EXPECT_TRUE(std::regex_search(rest, match, scalar, std::regex_constants::match_continuous))
        << rest;
    return {.end = at + std::size_t(match.length()), .is_whole = true};
  }

  std::string text_;
  const ToolFormat& format_;
  const ReasoningFormat& reasoning_;
  std::size_t at_ = 0;
  bool was_reasoning_ = false;
  std::vector<std::string> segments_{""};  // of content, with a call between two
  Told told_;
};

}  // namespace nereid::chat
