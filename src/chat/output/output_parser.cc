#include "chat/output/output_parser.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "chat/output/call_id.h"
#include "chat/output/white_space.h"

namespace nereid::chat {

namespace {

// `text` may become something that starts with `mark`.
bool may_become(std::string_view text, std::string_view mark) {
  return text.size() < mark.size() && mark.starts_with(text);
}

}  // namespace

OutputParser::OutputParser(const OutputOptions& options)
    : options_(options), state_(State::beginning), scanner_(tool_format("none")) {
  if (options_.tools == nullptr) options_.tools = &tool_format("none");
  if (options_.reasoning == nullptr) options_.reasoning = &reasoning_format("none");
  if (options_.reasoning->start.empty()) {
    NEREID_CHECK(!options_.is_reasoning_open, "there is no reasoning in {}",
                 options_.reasoning->name);
    state_ = State::content;
  }
}

void OutputParser::push(std::string_view text, const OutputSink& sink) {
  waiting_ += text;
  while (n_read_ < waiting_.size() && step(sink) == Found::enough) {
  }
  waiting_.erase(0, std::exchange(n_read_, 0));
  if (is_begun_) tell_arguments(sink);
}

void OutputParser::finish(const OutputSink& sink) {
  is_last_ = true;
  push({}, sink);
  if (is_begun_) {
    end_call(scanner_.has_all_arguments(), sink);
    held_.clear();
  }
  tell_content(std::exchange(held_, {}), sink);
  if (!space_.empty() && state_ != State::reasoning)
    sink({.kind = OutputDelta::Kind::content, .text = space_});
}

OutputParser::Found OutputParser::step(const OutputSink& sink) {
  switch (state_) {
    case State::beginning:
      return read_beginning();
    case State::reasoning:
      return read_reasoning(sink);
    case State::content:
      return read_content(sink);
    case State::start:
      return read_start(sink);
    case State::object:
      return read_object(sink);
    case State::next:
      return read_next();
  }
  NEREID_UNREACHABLE("state {}", int(state_));
}

OutputParser::Found OutputParser::read_beginning() {
  const std::string_view mark = options_.reasoning->start;
  const std::size_t n_space = n_space_at_start(waiting());
  const std::string_view rest = waiting().substr(n_space);
  if (may_become(rest, mark) && !is_last_) return Found::needs_more;
  const bool is_marked = rest.starts_with(mark);
  // A model may write the start once more that the prompt has already written.
  if (is_marked) n_read_ += n_space + mark.size();
  const bool is_reasoning = is_marked || options_.is_reasoning_open;
  drops_space_ = is_reasoning;
  state_ = is_reasoning ? State::reasoning : State::content;
  return Found::enough;
}

OutputParser::Found OutputParser::read_reasoning(const OutputSink& sink) {
  const MarkPlace end = find_mark({&options_.reasoning->end, 1});
  tell_trimmed(OutputDelta::Kind::reasoning, take(end.at), sink);
  if (end.n_bytes == 0) return Found::needs_more;
  n_read_ += end.n_bytes;
  space_.clear();
  drops_space_ = true;
  state_ = State::content;
  return Found::enough;
}

bool OutputParser::begins_bare() const {
  return options_.tools->may_start_bare && !had_content_ && n_calls_ == 0;
}

OutputParser::Found OutputParser::read_content(const OutputSink& sink) {
  const ToolFormat& format = *options_.tools;
  if (begins_bare()) {
    tell_content(take(n_space_at_start(waiting())), sink);
    if (waiting().empty()) return Found::needs_more;
  }
  const MarkPlace start = find_mark(format.starts);
  const char opener = format.shape == CallShape::list ? '[' : '{';
  is_bare_ = begins_bare() && waiting()[0] == opener && start.at > 0;
  if (!is_bare_) {
    tell_content(take(start.at), sink);
    if (start.n_bytes == 0) return Found::needs_more;
    hold(start.n_bytes);
  }
  state_ = State::start;
  return Found::enough;
}

OutputParser::Found OutputParser::read_start(const OutputSink& sink) {
  hold(n_space_at_start(waiting()));
  if (waiting().empty()) return Found::needs_more;
  if (options_.tools->shape == CallShape::list && !is_in_list_) {
    if (waiting()[0] != '[') {
      refuse_call(sink);
      return Found::enough;
    }
    is_in_list_ = true;
    hold(1);
    return Found::enough;
  }
  scanner_ = CallScanner(*options_.tools);
  state_ = State::object;
  return Found::enough;
}

OutputParser::Found OutputParser::read_object(const OutputSink& sink) {
  while (!waiting().empty()) {
    const char byte = waiting()[0];
    const CallScanner::Byte role = scanner_.push(byte);
    if (role == CallScanner::Byte::broken) {
      refuse_call(sink);
      return Found::enough;
    }
    if (role == CallScanner::Byte::argument) arguments_ += byte;
    // Arguments that were told cannot become content any more.
    if (role != CallScanner::Byte::argument || !is_begun_) held_ += byte;
    ++n_read_;
    if (role == CallScanner::Byte::last) {
      finish_object(sink);
      return Found::enough;
    }
    if (!is_begun_ && scanner_.has_name() && scanner_.has_arguments()) begin_call(sink);
  }
  return Found::needs_more;
}

void OutputParser::finish_object(const OutputSink& sink) {
  if (!scanner_.has_name() || (!scanner_.has_arguments() && is_bare_)) {
    refuse_call(sink);
    return;
  }
  if (!scanner_.has_arguments()) arguments_ = "{}";
  if (!is_begun_) begin_call(sink);
  end_call(true, sink);
  held_.clear();
  state_ = State::next;
}

OutputParser::Found OutputParser::read_next() {
  const ToolFormat& format = *options_.tools;
  const std::size_t n_space = n_space_at_start(waiting());
  const std::string_view rest = waiting().substr(n_space);
  if (rest.empty()) return Found::needs_more;
  if (format.separator != 0 && rest[0] == format.separator) {
    hold(n_space + 1);
    state_ = State::start;
    return Found::enough;
  }
  const std::string_view end = is_in_list_ ? "]" : format.end;
  if (may_become(rest, end) && !is_last_) return Found::needs_more;
  if (rest.starts_with(end)) n_read_ += n_space + end.size();
  is_in_list_ = false;
  state_ = State::content;
  return Found::enough;
}

void OutputParser::begin_call(const OutputSink& sink) {
  is_begun_ = true;
  held_.clear();
  space_.clear();
  const std::string id = make_call_id(*options_.tools, options_.seed, n_calls_);
  sink({.kind = OutputDelta::Kind::call_begin,
        .call_index = n_calls_,
        .id = id,
        .name = scanner_.name()});
}

void OutputParser::tell_arguments(const OutputSink& sink) {
  if (arguments_.empty()) return;
  sink({.kind = OutputDelta::Kind::call_arguments, .text = arguments_, .call_index = n_calls_});
  arguments_.clear();
}

void OutputParser::end_call(bool has_arguments, const OutputSink& sink) {
  tell_arguments(sink);
  sink({.kind = OutputDelta::Kind::call_end,
        .call_index = n_calls_,
        .has_arguments = has_arguments});
  ++n_calls_;
  is_begun_ = false;
  drops_space_ = true;
}

void OutputParser::refuse_call(const OutputSink& sink) {
  if (is_begun_) end_call(scanner_.has_all_arguments(), sink);
  arguments_.clear();
  is_in_list_ = false;
  state_ = State::content;
  tell_content(std::exchange(held_, {}), sink);
}

void OutputParser::tell_content(std::string_view text, const OutputSink& sink) {
  if (n_space_at_start(text) != text.size()) had_content_ = true;
  tell_trimmed(OutputDelta::Kind::content, text, sink);
}

void OutputParser::tell_trimmed(OutputDelta::Kind kind, std::string_view text,
                                const OutputSink& sink) {
  if (drops_space_) text.remove_prefix(n_space_at_start(text));
  if (text.empty()) return;
  drops_space_ = false;
  // Where no call can follow, the space at the end is content for certain.
  const bool holds_space =
      kind == OutputDelta::Kind::reasoning || options_.tools->shape != CallShape::none;
  const std::string_view said = holds_space ? without_space_at_end(text) : text;
  if (!said.empty()) {
    if (!space_.empty()) sink({.kind = kind, .text = std::exchange(space_, {})});
    sink({.kind = kind, .text = said});
  }
  space_ += text.substr(said.size());
}

OutputParser::MarkPlace OutputParser::find_mark(std::span<const std::string_view> marks) const {
  const std::string_view text = waiting();
  for (std::size_t at = 0; at < text.size(); ++at)
    for (const std::string_view mark : marks) {
      const std::string_view rest = text.substr(at);
      if (mark.empty()) continue;
      if (rest.starts_with(mark)) return {.at = at, .n_bytes = mark.size()};
      if (may_become(rest, mark) && !is_last_) return {.at = at};
    }
  return {.at = text.size()};
}

std::string_view OutputParser::take(std::size_t n_bytes) {
  const std::string_view taken = waiting().substr(0, n_bytes);
  n_read_ += n_bytes;
  return taken;
}

void OutputParser::hold(std::size_t n_bytes) { held_ += take(n_bytes); }

}  // namespace nereid::chat
