// Goal: what a model writes, as it comes, told apart: content, reasoning, calls of tools. The
// pieces may be cut anywhere: what is told, joined, is the same as of the whole text at once.
// Non-goal: whether a call suits its tool; making a model write calls (a grammar's, see
// ToolFormat). Rejected: parsing the text so far anew with each piece, and telling the difference.
//
//   OutputParser parser({.tools = &tool_format("hermes")});
//   while (...) parser.push(progress.text, sink);
//   parser.finish(sink);
//
// The rules:
// * Nothing is lost but white space, the marks, and what a call has beside name and arguments. What
//   begins as a call and turns out to be none is content, with its marks; the text is read on from
//   the byte that broke it. Where it breaks after its name and the beginning of its arguments were
//   told, the call has ended there, and what follows is content.
// * A call is told once its name and the beginning of its arguments are known. Its arguments are
// the
//   model's own bytes, an object; `{}` where a whole call after a start has none, or null.
// * Reasoning stands at the beginning only, and calls are not looked for in it. Without its end all
//   is reasoning.
// * White space is dropped around the reasoning and around calls, and kept elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "chat/output/call_scanner.h"
#include "chat/output/reasoning_format.h"
#include "chat/output/tool_format.h"

namespace nereid::chat {

// Views are valid during the sink's call only.
struct OutputDelta {
  enum class Kind : std::uint8_t { content, reasoning, call_begin, call_arguments, call_end };
  Kind kind = Kind::content;
  std::string_view text = {};  // content, reasoning, call_arguments: the next bytes of it
  std::size_t call_index = 0;  // call_*: 0, 1, ...
  std::string_view id = {};    // call_begin
  std::string_view name = {};  // call_begin
  bool has_arguments = false;  // call_end: all of them; false where the text ended or broke before
};
using OutputSink = std::function<void(const OutputDelta&)>;

struct OutputOptions {
  const ToolFormat* tools = nullptr;  // null: calls are not looked for
  const ReasoningFormat* reasoning = nullptr;
  bool is_reasoning_open = false;  // by the prompt: ReasoningFormat::is_opened_by()
  std::uint64_t seed = 0;          // of the calls' ids
};

class OutputParser {
 public:
  explicit OutputParser(const OutputOptions& options);

  void push(std::string_view text, const OutputSink& sink);
  // The text has ended. Once, after the last push().
  void finish(const OutputSink& sink);

  std::size_t n_calls() const { return n_calls_; }

 private:
  enum class State : std::uint8_t {
    beginning,  // reasoning may start
    reasoning,
    content,
    start,   // after a start, or the bracket of a list without one: the first call's object comes
    object,  // in a call's object
    next,    // after a call: a separator, an end, or other text
  };
  // What a step found out about the bytes that are there.
  enum class Found : std::uint8_t { enough, needs_more };

  Found step(const OutputSink& sink);
  Found read_beginning();
  Found read_reasoning(const OutputSink& sink);
  Found read_content(const OutputSink& sink);
  Found read_start(const OutputSink& sink);
  Found read_object(const OutputSink& sink);
  void finish_object(const OutputSink& sink);
  Found read_next();

  bool begins_bare() const;
  void begin_call(const OutputSink& sink);
  void tell_arguments(const OutputSink& sink);
  void end_call(bool has_arguments, const OutputSink& sink);
  void refuse_call(const OutputSink& sink);
  void tell_content(std::string_view text, const OutputSink& sink);
  void tell_trimmed(OutputDelta::Kind kind, std::string_view text, const OutputSink& sink);

  // Where the first mark is; without one, the end of what can be no part of one.
  struct MarkPlace {
    std::size_t at = 0;
    std::size_t n_bytes = 0;  // of the mark
  };
  MarkPlace find_mark(std::span<const std::string_view> marks) const;
  std::string_view waiting() const { return std::string_view(waiting_).substr(n_read_); }
  std::string_view take(std::size_t n_bytes);
  // What is read goes to the end of held_.
  void hold(std::size_t n_bytes);

  OutputOptions options_;
  State state_;
  bool is_last_ = false;  // nothing comes after waiting_
  std::string waiting_;
  std::size_t n_read_ = 0;    // of waiting_
  std::string held_;          // read, and content if no call comes of it
  std::string space_;         // white space at the end of what was told, which may be dropped
  bool drops_space_ = false;  // nothing but white space came since reasoning or a call
  bool had_content_ = false;  // other than white space
  bool is_bare_ = false;      // the call has no start
  bool is_in_list_ = false;
  CallScanner scanner_;
  bool is_begun_ = false;  // the call that is being read was told
  std::string arguments_;  // of it, not yet told
  std::size_t n_calls_ = 0;
};

}  // namespace nereid::chat
