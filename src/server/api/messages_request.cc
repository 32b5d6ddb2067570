#include "server/api/messages_request.h"

#include <fmt/format.h>

#include <utility>

#include "server/api/chat_draft.h"
#include "server/api/generation_fields.h"

namespace nereid::server {

namespace {

// Claude Code's first block of the system's text is for its maker's accounts. It is another in each
// request: with it no prompt's beginning would be found in the cache.
constexpr std::string_view kBillingMark = "x-anthropic-billing-header:";
constexpr std::size_t kMaxStopSequences = 64;

class MessagesReader {
 public:
  MessagesReader(const OrderedJson& body, Serving& serving) : fields_(body), serving_(serving) {}

  OrderedJson read(bool needs_length) {
    const auto n_tokens = fields_.integer("max_tokens", 1);
    if (needs_length && !n_tokens) fields_.need("max_tokens", "a whole number of at least 1");
    if (n_tokens) draft_["max_tokens"] = *n_tokens;
    if (const auto* system = fields_.find("system")) read_system(*system);
    read_messages();
    read_tools();
    draft_.pass(fields_, {"model", "stream", "temperature", "top_p", "top_k", "min_p", "seed"});
    if (const auto* kwargs = fields_.find("chat_template_kwargs")) {
      if (!kwargs->is_object()) fields_.fail("chat_template_kwargs", "an object");
      draft_["chat_template_kwargs"] = *kwargs;
    }
    read_output_config();
    read_thinking();
    if (const auto stops = fields_.texts("stop_sequences", kMaxStopSequences); !stops.empty())
      draft_["stop"] = stops;
    fields_.ignore({"metadata", "service_tier", "cache_control", "betas", "context_management",
                    "inference_geo", "diagnostics", "speed"});
    note_unknown(fields_, serving_);
    return draft_.take();
  }

 private:
  void read_system(const OrderedJson& system) {
    if (!system.is_array()) {
      if (!system.is_string()) fields_.fail("system", "a string, or a list of text blocks");
      draft_.add_text("system", system.get_ref<const std::string&>());
      return;
    }
    auto blocks = OrderedJson::array();
    for (const auto& block : system)
      if (!block.is_object() || !text_in(block, "text").starts_with(kBillingMark))
        blocks.push_back(block);
    if (!blocks.empty()) draft_.add_text("system", text_of_parts(blocks, {"text"}, "system"));
  }

  void read_messages() {
    const auto& messages = fields_.need("messages", "a list of messages");
    if (!messages.is_array() || messages.empty())
      fields_.fail("messages", "a list of at least one message");
    for (std::size_t i = 0; i < messages.size(); ++i)
      read_message(messages[i], fmt::format("messages[{}]", i));
    // The answer goes on with what is put into its mouth.
    if (draft_.ends_with_text_of("assistant")) draft_["continue_final_message"] = true;
  }

  void read_message(const OrderedJson& message, const std::string& place) {
    if (!message.is_object()) fail_at(place, "an object");
    const auto role = need_text_in(message, "role", place);
    if (role != "user" && role != "assistant" && role != "system")
      fail_at(place + ".role", "\"user\", \"assistant\" or \"system\"");
    const auto content = message.find("content");
    if (content == message.end()) fail_at(place + ".content", "a string, or a list of blocks");
    if (!content->is_array()) {
      if (!content->is_string()) fail_at(place + ".content", "a string, or a list of blocks");
      draft_.add_text(role, content->get_ref<const std::string&>());
      return;
    }
    // Texts that follow one another are one message.
    auto texts = OrderedJson::array();
    const auto add_texts = [&] {
      if (!texts.empty()) draft_.add_text(role, text_of_parts(texts, {"text"}, place + ".content"));
      texts.clear();
    };
    bool has_block = false;
    for (std::size_t i = 0; i < content->size(); ++i) {
      const auto& block = (*content)[i];
      const auto where = fmt::format("{}.content[{}]", place, i);
      if (!block.is_object()) fail_at(where, "an object");
      const auto type = need_text_in(block, "type", where);
      if (type == "thinking" || type == "redacted_thinking") continue;
      has_block = true;
      if (type == "tool_use" && role == "assistant") {
        add_texts();
        read_call(block, where);
      } else if (type == "tool_result" && role == "user") {
        add_texts();
        read_result(block, where);
      } else if (type == "text") {
        need_text_in(block, "text", where);
        texts.push_back(block);
      } else {
        throw ApiError(
            400,
            fmt::format("{} is of the type \"{:.64}\"; expected \"text\", \"tool_use\" of "
                        "the assistant or \"tool_result\" of the user: this model reads "
                        "text only",
                        where, type),
            where, "unsupported_parameter");
      }
    }
    add_texts();
    if (!has_block) draft_.add_text(role, "");
  }

  void read_call(const OrderedJson& block, const std::string& where) {
    const auto input = block.find("input");
    if (input == block.end() || !input->is_object()) fail_at(where + ".input", "an object");
    draft_.add_call(need_text_in(block, "id", where), need_text_in(block, "name", where), *input);
  }

  void read_result(const OrderedJson& block, const std::string& where) {
    const auto id = need_text_in(block, "tool_use_id", where);
    const auto content = block.find("content");
    const bool has_content = content != block.end() && !content->is_null();
    draft_.add_result(
        id, has_content ? text_of_parts(*content, {"text"}, where + ".content") : std::string());
  }

  void read_tools() {
    if (const auto* tools = fields_.find("tools")) {
      if (!tools->is_array()) fields_.fail("tools", "a list of tools");
      for (std::size_t i = 0; i < tools->size(); ++i) {
        const auto& tool = (*tools)[i];
        const auto where = fmt::format("tools[{}]", i);
        if (!tool.is_object()) fail_at(where, "an object");
        const auto type = text_in(tool, "type");
        if (!type.empty() && type != "custom") {  // one that the server would have to run
          note_dropped(serving_, "tool", type);
          continue;
        }
        const auto schema = tool.find("input_schema");
        if (schema == tool.end() || !schema->is_object())
          fail_at(where + ".input_schema", "a JSON schema");
        draft_.add_tool(need_text_in(tool, "name", where), text_in(tool, "description"), *schema);
      }
    }
    if (const auto* choice = fields_.find("tool_choice")) read_tool_choice(*choice);
  }

  void read_tool_choice(const OrderedJson& choice) {
    if (!choice.is_object()) fields_.fail("tool_choice", "an object, such as {\"type\": \"auto\"}");
    Fields inner(choice, "tool_choice.");
    const auto type = inner.text("type").value_or("");
    if (type == "auto" || type == "none") {
      draft_["tool_choice"] = type;
    } else if (type == "any") {
      draft_["tool_choice"] = "required";
    } else if (type == "tool") {
      draft_["tool_choice"] = {{"type", "function"},
                               {"function", {{"name", inner.need("name", "a tool's name")}}}};
    } else {
      inner.fail("type", "\"auto\", \"any\", \"tool\" or \"none\"");
    }
    is_forced_ |= type == "any" || type == "tool";
    draft_["parallel_tool_calls"] = !inner.boolean("disable_parallel_tool_use").value_or(false);
    note_unknown(inner, serving_);
  }

  void read_output_config() {
    const auto* config = fields_.find("output_config");
    if (config == nullptr) return;
    if (!config->is_object()) fields_.fail("output_config", "an object");
    Fields inner(*config, "output_config.");
    if (const auto effort = inner.text("effort"))
      draft_["chat_template_kwargs"]["reasoning_effort"] = *effort;
    if (const auto* format = inner.find("format")) {
      if (!format->is_object() || text_in(*format, "type") != "json_schema" ||
          !format->contains("schema"))
        inner.fail("format", "an object of the type \"json_schema\" with a schema");
      draft_["response_format"] = {{"type", "json_schema"},
                                   {"json_schema", {{"schema", (*format)["schema"]}}}};
      is_forced_ = true;
    }
    note_unknown(inner, serving_);
  }

  void read_thinking() {
    const auto* thinking = fields_.find("thinking");
    if (thinking == nullptr) return;
    if (!thinking->is_object()) fields_.fail("thinking", "an object with a \"type\"");
    Fields inner(*thinking, "thinking.");
    inner.ignore({"budget_tokens", "display"});
    const auto type = inner.text("type").value_or("");
    if (type != "enabled" && type != "adaptive" && type != "disabled")
      inner.fail("type", "\"enabled\", \"adaptive\" or \"disabled\"");
    note_unknown(inner, serving_);
    const bool thinks = type != "disabled";
    // What is held to a form from its first token on cannot think first.
    if (thinks && is_forced_) return;
    draft_["chat_template_kwargs"]["enable_thinking"] = thinks;
  }

  Fields fields_;
  Serving& serving_;
  ChatDraft draft_;
  bool is_forced_ = false;  // to a call or a form
};

}  // namespace

OrderedJson read_messages_request(const OrderedJson& body, Serving& serving, bool needs_length) {
  return MessagesReader(body, serving).read(needs_length);
}

}  // namespace nereid::server
