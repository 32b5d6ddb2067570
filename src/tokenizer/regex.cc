#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/error.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

constexpr std::size_t kMaxPatternBytes = 64 * 1024;  // the longest known has under 1 KB
constexpr std::size_t kMaxJitStackBytes =
    16 << 20;  // the default 32 KB is enough for every usual pattern

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Freer<pcre2_jit_stack_free>>;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Freer<pcre2_code_free>> compiled;
};

struct Regex::Matches::State {
  MatchData data;
  MatchContext context;
  JitStack stack;
};

Regex::Regex(std::string_view pattern, const std::string& where)
    : code_(std::make_unique<Code>()), pattern_(pattern), where_(where) {
  if (pattern.size() > kMaxPatternBytes)
    throw Error("{}: a regular expression of {} bytes; expected at most {}", where, pattern.size(),
                kMaxPatternBytes);
  const std::string translated = pcre2_syntax(pattern, where);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: in Ruby's dialect ^ and $ always mean the ends of a line.
  code_->compiled.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                    &offset, context.get()));
  if (!code_->compiled)
    throw Error("{}: the regular expression \"{}\" does not compile: {} (near \"{}\")", where,
                pattern, message_of(error),
                to_valid_utf8(std::string_view(translated).substr(0, offset)));
  // Where there is no JIT (a hardened kernel, an odd processor) the interpreter gives the same
  // matches.
  pcre2_jit_compile(code_->compiled.get(), PCRE2_JIT_COMPLETE);
}

Regex::~Regex() = default;

Regex::Matches::Matches(const Regex& regex, std::string_view text)
    : state_(std::make_unique<State>()), regex_(regex), text_(text) {
  state_->data.reset(pcre2_match_data_create(1, nullptr));
}

Regex::Matches::~Matches() = default;

std::optional<Regex::Match> Regex::Matches::search(std::size_t from) {
  const auto run = [&] {
    return pcre2_match(regex_.code_->compiled.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()),
                       text_.size(), from, PCRE2_NO_UTF_CHECK, state_->data.get(),
                       state_->context.get());
  };
  int result = run();
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && !state_->stack) {
    state_->context.reset(pcre2_match_context_create(nullptr));
    state_->stack.reset(pcre2_jit_stack_create(64 * 1024, kMaxJitStackBytes, nullptr));
    pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
    result = run();
  }
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state_->data.get());
  if (result < 0 || ends[0] > ends[1])
    throw Error("{}: the regular expression \"{}\" fails at byte {} of a text of {} bytes: {}",
                regex_.where_, regex_.pattern_, from, text_.size(),
                result < 0 ? message_of(result) : "it ends before it begins");
  return Match{ends[0], ends[1]};
}

std::optional<Regex::Match> Regex::Matches::next() {
  while (from_ <= text_.size()) {
    const auto match = search(from_);
    if (!match) break;
    if (match->begin == match->end && match->end == last_end_) {
      // An empty match right after the last one: look one character further.
      if (from_ == text_.size()) break;
      from_ += utf8_at(text_, from_).size_bytes;
      continue;
    }
    from_ = match->end;
    last_end_ = match->end;
    return match;
  }
  from_ = text_.size() + 1;
  return std::nullopt;
}

}  // namespace nereid::tokenizer
