#include "model/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/error.h"
#include "base/json.h"
#include "model/config_fields.h"

namespace nereid::model {

namespace {

constexpr std::string_view kRegex = "re:";
constexpr std::size_t kMaxPatternBytes = 4096;
// Steps of a match: names are short, and what needs more than this was made to.
constexpr std::uint32_t kMaxSteps = 100'000;
constexpr std::uint32_t kMaxHeapKib = 4096;

}  // namespace

struct NamePattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

NamePattern::NamePattern(const std::string& text, const std::string& where) : text_(text) {
  if (text_.size() > kMaxPatternBytes)
    throw Error("{}: a pattern of {} bytes: expected at most {}", where, text_.size(),
                kMaxPatternBytes);
  if (!text_.starts_with(kRegex)) return;
  const auto pattern = std::string_view(text_).substr(kRegex.size());
  auto code = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE at = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_ANCHORED, &error, &at, nullptr);
  if (code->code == nullptr) {
    std::array<PCRE2_UCHAR, 128> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    throw Error("{}: {}: expected a regular expression after \"re:\", got one wrong at byte {}: {}",
                where, json_excerpt(Json(text_)), at,
                reinterpret_cast<const char*>(message.data()));
  }
  code->context = pcre2_match_context_create(nullptr);
  NEREID_CHECK(code->context != nullptr, "no memory for a pattern");
  pcre2_set_match_limit(code->context, kMaxSteps);
  pcre2_set_heap_limit(code->context, kMaxHeapKib);
  code_ = std::move(code);
}

bool NamePattern::matches(std::string_view module) const {
  if (code_ == nullptr) {
    // Between dots, or the ends.
    for (auto at = module.find(text_); at != std::string_view::npos;
         at = module.find(text_, at + 1)) {
      const auto end = at + text_.size();
      if ((at == 0 || module[at - 1] == '.') && (end == module.size() || module[end] == '.'))
        return !text_.empty();
    }
    return false;
  }
  auto* data = pcre2_match_data_create_from_pattern(code_->code, nullptr);
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(module.data()),
                                module.size(), 0, 0, data, code_->context);
  pcre2_match_data_free(data);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0)
    throw Error("the pattern {} of the quantised modules: no end after {} steps on {}; simplify it",
                json_excerpt(Json(text_)), kMaxSteps, module);
  return true;
}

}  // namespace nereid::model
