// Goal: the chat template of a model: messages, tools and documents to the one text that the model
// was trained to see, and which bytes of it somebody other than the template wrote.
// Non-goal: to read what the model answers (chat/output/); token ids (tokenizer/), which are made
// with `Rendered::input_ranges` so that no message forges a turn.
// Rejected: a format in C++ for each family. A model's own template is the definition; the formats
// differ in white space, and a wrong byte makes worse answers without a word.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace nereid::chat {

struct Rendered {
  std::string text;
  // The bytes that came from the caller: messages, tools, documents, kwargs. Ascending, merged.
  std::vector<tokenizer::TextRange> input_ranges;
};

// What one request brings. A null pointer: it brings none.
struct ChatInput {
  const nlohmann::ordered_json& messages;  // as OpenAI's chat API has them
  const nlohmann::ordered_json* tools = nullptr;
  const nlohmann::ordered_json* documents = nullptr;
  const nlohmann::ordered_json* kwargs = nullptr;  // an object: enable_thinking and the like
  bool add_generation_prompt = true;               // end where the answer begins
  // End inside the last message, which the answer goes on with; no generation prompt then.
  bool continue_final_message = false;
};

// Written by the template, not by a caller.
struct SpecialTokens {
  std::string bos;
  std::string eos;
};

// Immutable: any number of threads may render at the same time.
class ChatTemplate {
 public:
  // Of a Hugging Face snapshot directory: chat_template.jinja, or else "chat_template" of
  // tokenizer_config.json, and additional_chat_templates/*.jinja. Where there is none: fallback().
  static ChatTemplate load(const std::filesystem::path& model_dir,
                           const tokenizer::Tokenizer& tokenizer);
  // From `template_file`; the directory names the special tokens only.
  static ChatTemplate load(const std::filesystem::path& model_dir,
                           const std::filesystem::path& template_file);
  static ChatTemplate parse(std::string source, const std::string& where,
                            const SpecialTokens& tokens);
  // ChatML where the tokenizer has its two tokens, plain lines "user: ..." where it lacks one.
  static ChatTemplate fallback(const tokenizer::Tokenizer& tokenizer);

  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // An Error says what the template asked for and did not get, in its own words where it has any.
  Rendered render(const ChatInput& input) const;

  bool is_fallback() const;     // the model names no template: say so to the user
  bool knows_tools() const;     // it does something with `tools`
  bool knows_thinking() const;  // it does something with `enable_thinking`

  // For those who find out how the model writes its calls; `with_tools`: what renders where tools
  // are given, for some models a template of its own.
  const std::string& source(bool with_tools = false) const;
  const SpecialTokens& special_tokens() const;

 private:
  struct Source;
  struct Parts;
  explicit ChatTemplate(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace nereid::chat
