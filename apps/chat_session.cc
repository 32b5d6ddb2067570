#include "apps/chat_session.h"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <utility>

#include "apps/output.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "chat/output/output_parser.h"
#include "engine/service_impl.h"

namespace nereid::apps {

namespace {

constexpr std::string_view kDim = "\033[2m";
constexpr std::string_view kPlain = "\033[0m";
constexpr std::chrono::milliseconds kLookForCtrlC{50};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Text on stdout; reasoning beside it: dimmed on a terminal, elsewhere on stderr, where it is no
// part of what the next program reads.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(bool is_terminal) : is_terminal_(is_terminal) {}

  void reasoning(std::string_view text) {
    if (!is_terminal_) {
      fmt::print(stderr, "{}", text);
    } else {
      if (!std::exchange(is_dim_, true)) write_out(kDim);
      write_out(text);
    }
    was_reasoning_ = true;
  }
  void content(std::string_view text) {
    end_reasoning();
    write_out(text);
    ends_line_ = text.ends_with('\n');
  }
  void end() {
    end_reasoning();
    if (!ends_line_) write_out("\n");
  }

 private:
  void end_reasoning() {
    if (std::exchange(is_dim_, false)) write_out(kPlain);
    if (!std::exchange(was_reasoning_, false)) return;
    if (is_terminal_)
      write_out("\n\n");
    else
      fmt::print(stderr, "\n");
  }

  bool is_terminal_;
  bool is_dim_ = false;
  bool was_reasoning_ = false;
  bool ends_line_ = false;
};

// Once the model is opened.
const tokenizer::Tokenizer& tokenizer_of(Service& service) {
  service.wait_until_ready();
  const auto& tokenizer = Service::Impl::of(service).core.model().tokenizer;
  if (!tokenizer) throw Error("the model has no tokenizer.json; there is no chat without text");
  return *tokenizer;
}

chat::ChatTemplate load_template(const std::filesystem::path& model_dir,
                                 const std::filesystem::path& file,
                                 const tokenizer::Tokenizer& tokenizer) {
  if (!file.empty()) return chat::ChatTemplate::load(model_dir, file);
  auto own = chat::ChatTemplate::load(model_dir, tokenizer);
  if (own.is_fallback())
    fmt::print(stderr,
               "nereid: the model has no chat template: it may be a base model, which goes on with "
               "a text and answers nobody; --chat-template FILE gives it one, `nereid generate` "
               "lets it go on\n");
  return own;
}

}  // namespace

ChatSession::ChatSession(const Options& options, const std::filesystem::path& template_file,
                         bool is_terminal)
    : service_(options),
      tokenizer_(tokenizer_of(service_)),
      template_(load_template(options.model_dir, template_file, tokenizer_)),
      reasoning_(&chat::detect_reasoning_format(template_.source())),
      is_terminal_(is_terminal) {}

void ChatSession::ask(const std::string& message) {
  messages_.push_back({{"role", "user"}, {"content", message}});
  try {
    answer();
  } catch (...) {
    messages_.erase(messages_.size() - 1);
    throw;
  }
}

void ChatSession::retry() {
  const bool is_answered = !messages_.empty() && messages_.back()["role"] == "assistant";
  if (messages_.size() < (is_answered ? 2U : 1U) ||
      messages_[messages_.size() - (is_answered ? 2 : 1)]["role"] != "user")
    throw Error(ErrorCode::not_found, "there is nothing to answer once more; ask something first");
  const nlohmann::ordered_json before = messages_;
  if (is_answered) messages_.erase(messages_.size() - 1);
  try {
    answer();
  } catch (...) {
    messages_ = before;
    throw;
  }
}

void ChatSession::answer() {
  const chat::Rendered prompt = template_.render({.messages = messages_});
  Request request = request_;
  request.prompt_ids = tokenizer_.encode_prompt(prompt.text, prompt.input_ranges);
  LastAnswer last{.n_prompt_tokens = request.prompt_ids.size()};
  Stream stream = service_.submit(request);
  nlohmann::ordered_json said = read_answer(stream, reasoning_->is_opened_by(prompt.text), last);
  last_ = last;
  messages_.push_back(std::move(said));
}

nlohmann::ordered_json ChatSession::read_answer(Stream& stream, bool is_reasoning_open,
                                                LastAnswer& answer) {
  const auto start = std::chrono::steady_clock::now();
  std::string content;
  std::string reasoning;
  AnswerPrinter printer(is_terminal_);
  const chat::OutputSink sink = [&](const chat::OutputDelta& delta) {
    if (delta.kind == chat::OutputDelta::Kind::reasoning) {
      reasoning += delta.text;
      printer.reasoning(delta.text);
    } else {
      content += delta.text;
      printer.content(delta.text);
    }
  };
  chat::OutputParser parser({.reasoning = reasoning_, .is_reasoning_open = is_reasoning_open});
  const ProgressCallback on_progress = [&](const Progress& progress) {
    if (answer.n_tokens == 0 && !progress.ids.empty()) answer.first_token_s = seconds_since(start);
    answer.n_tokens += progress.ids.size();
    answer.finish_reason = progress.finish_reason;
    parser.push(progress.text, sink);
  };
  const InterruptFlag interrupt;
  bool is_cancelled = false;
  while (stream.poll(on_progress, kLookForCtrlC))
    if (interrupt.is_set() && !std::exchange(is_cancelled, true)) stream.cancel();
  parser.finish(sink);
  printer.end();
  answer.all_s = seconds_since(start);
  const Completion completion = stream.wait();
  answer.n_cached_tokens = completion.n_cached_tokens;
  if (answer.finish_reason == FinishReason::error)
    throw Error(ErrorCode::internal, "{}", completion.answers.at(0).error);
  if (answer.finish_reason != FinishReason::stop && is_terminal_)
    fmt::print(stderr, "({})\n", finish_reason_name(answer.finish_reason));

  nlohmann::ordered_json said{{"role", "assistant"}, {"content", content}};
  if (!reasoning.empty()) said["reasoning_content"] = reasoning;
  return said;
}

void ChatSession::set_system(const std::string& text) {
  if (!messages_.empty() && messages_[0]["role"] == "system") messages_.erase(0);
  if (text.empty()) return;
  const nlohmann::ordered_json message{{"role", "system"}, {"content", text}};
  messages_.insert(messages_.begin(), message);
}

void ChatSession::clear() {
  const bool has_system = !messages_.empty() && messages_[0]["role"] == "system";
  messages_.erase(messages_.begin() + (has_system ? 1 : 0), messages_.end());
}

void ChatSession::save(const std::filesystem::path& path) const {
  std::ofstream file(path);
  file << messages_.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  file.close();
  if (!file) throw Error(ErrorCode::device, "{}: cannot be written", path.string());
}

void ChatSession::load(const std::filesystem::path& path) {
  const auto messages =
      nlohmann::ordered_json::parse(read_text_file(path), nullptr, /*allow_exceptions=*/false);
  if (!messages.is_array())
    throw Error("{}: expected a list of messages in JSON, as /save writes it", path.string());
  for (std::size_t i = 0; i < messages.size(); ++i)
    for (const char* field : {"role", "content"})
      if (!messages[i].is_object() || !messages[i].contains(field) ||
          !messages[i][field].is_string())
        throw Error("{}: message {} has no text \"{}\"", path.string(), i + 1, field);
  messages_ = messages;
}

std::string ChatSession::stats_text() const {
  if (last_.finish_reason == FinishReason::none) return "nothing was answered yet";
  const double rest_s = last_.all_s - last_.first_token_s;
  const double tokens_per_s =
      last_.n_tokens > 1 && rest_s > 0 ? double(last_.n_tokens - 1) / rest_s : 0;
  return fmt::format(
      "{} prompt tokens ({} found in the cache) + {} new | first token {:.0f} ms | "
      "{:.1f} tokens/s | ended by {}",
      last_.n_prompt_tokens, last_.n_cached_tokens, last_.n_tokens, last_.first_token_s * 1e3,
      tokens_per_s, finish_reason_name(last_.finish_reason));
}

}  // namespace nereid::apps
