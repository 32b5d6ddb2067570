#include "engine/completion_text.h"

#include <utility>
#include <vector>

#include "tokenizer/utf8.h"

namespace nereid::engine {

namespace {

// The text is whole characters, so a stop string that is not would never be found, or cut one.
std::vector<std::string> whole_characters(std::vector<std::string> stops) {
  for (auto& stop : stops) stop = tokenizer::to_valid_utf8(stop);
  return stops;
}

}  // namespace

CompletionText::CompletionText(const tokenizer::Tokenizer& tokenizer, const Request& request)
    : tokenizer_(&tokenizer),
      skips_special_(request.skip_special_tokens),
      decoder_(tokenizer, skips_special_),
      stops_(whole_characters(request.stop), request.include_stop),
      probe_(stops_) {
  for (const auto id : request.prompt_ids) decoder_.push(id);
  unsettled_ = decoder_.pending();
}

bool CompletionText::push(std::int32_t id, std::string& out) {
  if (skips_special_ && tokenizer_->is_special(id))
    return stops_.push_special(tokenizer_->token_text(id), out);
  if (stops_.push(without_prompt(decoder_.push(id)), out)) return true;
  return stops_.has_stops() && pending_has_stop(out);
}

bool CompletionText::push_end_token(std::int32_t id, std::string& out) {
  return stops_.push_special(tokenizer_->token_text(id), out);
}

bool CompletionText::finish(std::string& out) {
  const bool is_stopped = stops_.push(without_prompt(decoder_.flush()), out);
  stops_.finish(out);
  return is_stopped;
}

// A byte that is a token waits for those after it, which may make it a part of a character; a stop
// string that it completes must not wait.
bool CompletionText::pending_has_stop(std::string& out) {
  const std::string_view rest = decoder_.pending();
  if (rest.empty()) return false;
  // Characters that are not complete are not yet what they will be.
  text_ = begun_;
  text_ += rest.substr(0, rest.find(tokenizer::kReplacement));
  if (text_.size() < unsettled_.size() && unsettled_.starts_with(text_)) return false;
  if (text_.starts_with(unsettled_)) text_.erase(0, unsettled_.size());
  probe_ = stops_;
  probe_out_.clear();
  if (!probe_.push(text_, probe_out_)) return false;
  out += probe_out_;
  stops_ = probe_;
  return true;
}

std::string_view CompletionText::without_prompt(std::string_view text) {
  if (unsettled_.empty()) return text;
  begun_ += text;
  if (begun_.size() < unsettled_.size() && unsettled_.starts_with(begun_)) return {};
  if (begun_.starts_with(unsettled_)) begun_.erase(0, unsettled_.size());
  unsettled_.clear();
  text_ = std::exchange(begun_, {});
  return text_;
}

}  // namespace nereid::engine
