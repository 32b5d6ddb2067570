#include "chat/chat_template.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "chat/jinja/from_json.h"
#include "chat/jinja/template.h"
#include "chat/messages.h"
#include "chat/template_files.h"

namespace nereid::chat {

namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kChatMl =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
constexpr std::string_view kPlain =
    "{% for message in messages %}"
    "{{ message.role + ': ' + (message.content or '') + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

// The text that the answer goes on with.
std::string text_to_continue(const OrderedJson& messages) {
  if (messages.empty() || messages.back()["role"] != "assistant")
    throw Error("continue_final_message: the last message is not the assistant's");
  const OrderedJson& message = messages.back();
  const auto content = message.find("content");
  std::string text;
  if (content != message.end() && content->is_string()) text = content->get<std::string>();
  if (content != message.end() && content->is_array() && !content->empty())
    text = content->back().value("text", "");
  if (text.find_first_not_of(" \t\r\n") == std::string::npos)
    throw Error("continue_final_message: the last message has no text to go on with");
  return text;
}

// Ends `rendered` where the last message's text does: templates often trim it.
void end_within(Rendered& rendered, const std::string& last) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = last.find_first_not_of(kSpace);
  const std::size_t end = last.find_last_not_of(kSpace) + 1;
  const std::size_t at = rendered.text.rfind(last.substr(begin, end - begin));
  if (at == std::string::npos)
    throw Error(
        "continue_final_message: the chat template does not print the last message as it is");
  const std::string whole = last.substr(begin);
  const bool is_trimmed = rendered.text.compare(at, whole.size(), whole) != 0;
  const std::size_t size = at + (is_trimmed ? end - begin : whole.size());
  rendered.text.resize(size);
  auto& ranges = rendered.input_ranges;
  while (!ranges.empty() && ranges.back().begin >= size) ranges.pop_back();
  if (!ranges.empty()) ranges.back().end = std::min(ranges.back().end, size);
}

}  // namespace

struct ChatTemplate::Source {
  Source(std::string source, const std::string& where)
      : text(std::move(source)),
        program(jinja::Template::parse(text, where)),
        reads_content_parts(program.loops_over("content")) {}
  std::string text;
  jinja::Template program;
  bool reads_content_parts;
};

struct ChatTemplate::Parts {
  Parts(Source source, std::optional<Source> with_tools, SpecialTokens special, bool is_made_up)
      : main(std::move(source)),
        tool_use(std::move(with_tools)),
        tokens(std::move(special)),
        is_fallback(is_made_up) {}

  const Source& chosen(bool with_tools) const { return with_tools && tool_use ? *tool_use : main; }
  bool uses(std::string_view name) const {
    return main.program.uses_name(name) || (tool_use && tool_use->program.uses_name(name));
  }

  Source main;
  std::optional<Source> tool_use;
  SpecialTokens tokens;
  bool is_fallback;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::load(const std::filesystem::path& model_dir,
                                const tokenizer::Tokenizer& tokenizer) {
  auto found = find_templates(model_dir);
  if (found.empty()) return fallback(tokenizer);
  const auto main = found.find("default");
  if (main == found.end())
    throw Error(ErrorCode::not_found,
                "{} has chat templates, but none of the name 'default'; give one as a file",
                model_dir.string());
  std::optional<Source> tool_use;
  if (const auto other = found.find("tool_use"); other != found.end())
    tool_use.emplace(std::move(other->second.text), other->second.where);
  return ChatTemplate(
      std::make_unique<const Parts>(Source(std::move(main->second.text), main->second.where),
                                    std::move(tool_use), read_special_tokens(model_dir), false));
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& model_dir,
                                const std::filesystem::path& template_file) {
  return parse(read_text_file(template_file), template_file.string(),
               read_special_tokens(model_dir));
}

ChatTemplate ChatTemplate::parse(std::string source, const std::string& where,
                                 const SpecialTokens& tokens) {
  return ChatTemplate(
      std::make_unique<const Parts>(Source(std::move(source), where), std::nullopt, tokens, false));
}

ChatTemplate ChatTemplate::fallback(const tokenizer::Tokenizer& tokenizer) {
  const bool has_chat_ml = tokenizer.token_id("<|im_start|>") && tokenizer.token_id("<|im_end|>");
  return ChatTemplate(std::make_unique<const Parts>(
      Source(std::string(has_chat_ml ? kChatMl : kPlain), "the fallback chat template"),
      std::nullopt, SpecialTokens{}, true));
}

Rendered ChatTemplate::render(const ChatInput& input) const {
  const bool with_tools = input.tools != nullptr && !input.tools->empty();
  const Source& source = parts_->chosen(with_tools);
  const OrderedJson messages = prepare_messages(input.messages, source.reads_content_parts);

  jinja::Runtime runtime(source.program.limits(), std::time(nullptr));
  jinja::Dict context;
  const auto set = [&](std::string name, jinja::Value value) {
    context.set(jinja::Value(std::move(name)), std::move(value));
  };
  const auto json_or_none = [&](const OrderedJson* json) {
    return json == nullptr || json->empty() ? jinja::Value::none()
                                            : jinja::from_json(*json, true, runtime.budget);
  };
  set("messages", jinja::from_json(messages, true, runtime.budget));
  set("tools", json_or_none(input.tools));
  set("documents", json_or_none(input.documents));
  set("add_generation_prompt",
      jinja::Value(input.add_generation_prompt && !input.continue_final_message));
  if (!parts_->tokens.bos.empty()) set("bos_token", jinja::Value(parts_->tokens.bos));
  if (!parts_->tokens.eos.empty()) set("eos_token", jinja::Value(parts_->tokens.eos));
  if (input.kwargs != nullptr && !input.kwargs->is_null()) {
    if (!input.kwargs->is_object())
      throw Error("the chat template's kwargs are {}; expected an object",
                  input.kwargs->type_name());
    constexpr std::array<std::string_view, 6> kOurs = {
        "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"};
    for (const auto& [name, value] : input.kwargs->items()) {
      if (std::find(kOurs.begin(), kOurs.end(), name) != kOurs.end())
        throw Error("the chat template's kwargs cannot set '{}'", name);
      set(name, jinja::from_json(value, true, runtime.budget));
    }
  }
  const jinja::Text text = source.program.render(runtime, context);
  Rendered rendered{std::string(text.view()), text.input()};
  if (input.continue_final_message) end_within(rendered, text_to_continue(messages));
  return rendered;
}

bool ChatTemplate::is_fallback() const { return parts_->is_fallback; }
bool ChatTemplate::knows_tools() const { return parts_->uses("tools"); }
bool ChatTemplate::knows_thinking() const { return parts_->uses("enable_thinking"); }
const std::string& ChatTemplate::source(bool with_tools) const {
  return parts_->chosen(with_tools).text;
}
const SpecialTokens& ChatTemplate::special_tokens() const { return parts_->tokens; }

}  // namespace nereid::chat
