#include "kernel/functions.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "kernel/builtin.h"

namespace nereid::kernel {

namespace {

constexpr std::array<std::string_view, 3> kKinds{"score", "mask", "expression"};
constexpr std::array<std::string_view, 2> kTensors{"a", "b"};
constexpr int kMostParentheses =
    64;  // within one another: no text is as deep, and no stack as small

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '/' || c == '-' || c == ':' || c == '+';
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::map<std::string, FunctionRow, std::less<>> read_table() {
  const std::string where = "built-in functions";
  const Json specs = parse_json(builtin_specs(), where);
  std::map<std::string, FunctionRow, std::less<>> table;
  for (const auto& [name, row] : json_member(specs, "functions", where).items())
    table[name] = {function_kind_from_name(json_field<std::string>(row, "kind", where), where),
                   json_field<std::vector<std::string>>(row, "takes", where)};
  return table;
}

class Reader {
 public:
  Reader(FunctionKind kind, std::string_view text) : kind_(kind), text_(text) { next(); }

  FunctionText read() {
    if (kind_ == FunctionKind::mask)
      either();
    else
      one_after_another();
    if (!token_.empty()) fail("the end");
    result_.between.push_back(std::move(before_));
    return std::move(result_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail_text(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{} function \"{}\": {}", function_kind_name(kind_), text_,
                fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void fail(std::string_view expected) const {
    fail_text("expected {}, got {}", expected,
              token_.empty() ? "the end" : fmt::format("\"{}\"", token_));
  }

  // The next word or sign; empty at the end.
  void next() {
    while (position_ < text_.size() && text_[position_] == ' ') ++position_;
    const auto begin = position_;
    while (position_ < text_.size() && is_word(text_[position_])) ++position_;
    if (position_ == begin && position_ < text_.size()) ++position_;
    token_ = text_.substr(begin, position_ - begin);
  }
  bool skip(std::string_view wanted) {
    if (token_ != wanted) return false;
    next();
    return true;
  }

  void one_after_another() {
    call();
    while (skip("then")) {
      before_ += " then ";
      call();
    }
  }
  void either() {
    both();
    while (skip("|")) {
      before_ += " | ";
      both();
    }
  }
  void both() {
    factor();
    while (skip("&")) {
      before_ += " & ";
      factor();
    }
  }
  void factor() {
    if (!skip("(")) return call();
    if (++depth_ > kMostParentheses) fail_text("parentheses more than {} deep", kMostParentheses);
    before_ += '(';
    either();
    if (!skip(")")) fail(")");
    before_ += ')';
    --depth_;
  }

  void call() {
    if (token_.empty() || !is_word(token_[0])) fail("a function");
    const auto colon = token_.rfind(':');
    FunctionCall call;
    if (colon != std::string_view::npos) call.file = token_.substr(0, colon);
    call.name = token_.substr(colon == std::string_view::npos ? 0 : colon + 1);
    if (colon != std::string_view::npos && (call.file.empty() || call.name.empty()))
      fail("FILE:NAME");
    next();
    if (skip("(")) {
      do call.args.push_back(argument());
      while (skip(","));
      if (!skip(")")) fail(")");
    }
    if (call.file.empty()) check_builtin(call);
    result_.between.push_back(std::move(before_));
    before_.clear();
    result_.calls.push_back(std::move(call));
  }

  std::string argument() {
    if (!is_bound_tensor(token_) && !number_of(token_)) fail("a number, a or b");
    std::string argument(token_);
    next();
    return argument;
  }

  void check_builtin(const FunctionCall& call) const {
    const auto row = builtin_functions().find(call.name);
    if (row == builtin_functions().end() || row->second.kind != kind_) {
      std::vector<std::string_view> known;
      for (const auto& [name, each] : builtin_functions())
        if (each.kind == kind_) known.push_back(name);
      fail_text("there is no {}; there are {}, or FILE:NAME of your own", call.name,
                fmt::join(known, ", "));
    }
    const auto& takes = row->second.takes;
    const bool is_right =
        call.args.size() == takes.size() &&
        std::ranges::equal(call.args, takes, [](const std::string& arg, const std::string& kind) {
          if (kind != "positive" && kind != "count") return is_bound_tensor(arg);
          const auto number = number_of(arg);
          return number && *number > 0 &&
                 (kind == "positive" || arg.find_first_not_of("0123456789") == std::string::npos);
        });
    if (!is_right)
      fail_text("{} takes ({}), got ({}); a tensor is named a or b", call.name,
                fmt::join(takes, ", "), fmt::join(call.args, ", "));
  }

  FunctionKind kind_;
  std::string_view text_;
  std::size_t position_ = 0;
  std::string_view token_;
  std::string before_;
  int depth_ = 0;
  FunctionText result_;
};

}  // namespace

std::string_view function_kind_name(FunctionKind kind) {
  return kKinds[static_cast<std::size_t>(kind)];
}

FunctionKind function_kind_from_name(std::string_view name, const std::string& where) {
  const auto* it = std::ranges::find(kKinds, name);
  if (it == kKinds.end())
    throw Error("{}: \"{}\" is no kind of function; there are {}", where, name,
                fmt::join(kKinds, ", "));
  return static_cast<FunctionKind>(it - kKinds.begin());
}

const std::map<std::string, FunctionRow, std::less<>>& builtin_functions() {
  static const auto table = read_table();
  return table;
}

bool is_bound_tensor(std::string_view argument) {
  return std::ranges::find(kTensors, argument) != kTensors.end();
}

std::string FunctionCall::text() const {
  auto text = file.empty() ? name : fmt::format("{}:{}", file, name);
  if (!args.empty()) text += fmt::format("({})", fmt::join(args, ", "));
  return text;
}

std::string FunctionText::text() const {
  std::string text = between[0];
  for (std::size_t i = 0; i < calls.size(); ++i) text += calls[i].text() + between[i + 1];
  return text;
}

FunctionText parse_functions(FunctionKind kind, std::string_view text) {
  return Reader(kind, text).read();
}

}  // namespace nereid::kernel
