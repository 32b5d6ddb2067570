#include "server/api/models.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "server/api/chat_prompt.h"
#include "server/api/generation_fields.h"
#include "server/error_body.h"
#include "server/fields.h"
#include "server/json_text.h"

namespace nereid::server {

namespace {

// Whether chat is what the model was trained for. Of a template that cannot be read the chat's own
// errors tell more than a list of models could.
bool has_chat_template(const Serving& serving) {
  try {
    return !serving.chat_template().is_fallback();
  } catch (const ApiError&) {  // no tokenizer
    return false;
  } catch (const Error&) {
    return true;
  }
}

std::string model_json(const Serving& serving, std::string_view name) {
  const bool is_ready = serving.service().status().state == ServiceState::ready;
  const auto n_context =
      is_ready ? fmt::format("{}", serving.service().model().max_context_tokens) : "null";
  const char* chats = "null";
  if (is_ready) chats = has_chat_template(serving) ? "true" : "false";
  return fmt::format(R"({{"id":{},"object":"model","created":{},"owned_by":"nereid","root":{},)"
                     R"("parent":null,"max_model_len":{},"has_chat_template":{}}})",
                     json_quoted(name), serving.started_s(),
                     json_quoted(serving.options().model_dir.string()), n_context, chats);
}

std::string ids_json(const std::vector<TokenId>& ids) {
  return fmt::format("[{}]", fmt::join(ids, ","));
}

}  // namespace

HttpReply models_reply(const Serving& serving) {
  std::string list;
  for (const auto& name : serving.options().model_names) {
    if (!list.empty()) list += ',';
    list += model_json(serving, name);
  }
  return {.body = fmt::format(R"({{"object":"list","data":[{}]}})", list)};
}

HttpReply model_reply(const Serving& serving, std::string_view name) {
  serving.check_model(name);
  return {.body = model_json(serving, name)};
}

HttpReply health_reply(const Serving& serving) {
  const auto status = serving.service().status();
  HttpReply reply{.status = status.state == ServiceState::ready ? 200 : 503};
  reply.body =
      fmt::format(R"({{"status":"{}","stage":{},"done":{},"of":{},"error":{}}})",
                  status.state == ServiceState::ready ? "ok" : service_state_name(status.state),
                  json_quoted(status.stage), status.n_done, status.n_total,
                  status.error.empty() ? "null" : json_quoted(status.error));
  if (reply.status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

HttpReply version_reply(const Serving& serving) {
  return {.body = fmt::format(R"({{"version":{}}})", json_quoted(serving.options().version))};
}

HttpReply tokenize_reply(const HttpRequest& http, Serving& serving) {
  const OrderedJson json = parse_body(http.body);
  Fields fields(json);
  read_model(fields, serving);
  const bool adds_special = fields.boolean("add_special_tokens").value_or(true);
  const bool returns_texts = fields.boolean("return_token_strs").value_or(false);
  std::vector<TokenId> ids;
  if (fields.find("messages") != nullptr) {
    ids = read_chat_prompt(fields, serving).ids;
  } else {
    auto prompt = fields.text("prompt");
    if (!prompt) prompt = fields.text("content");  // as llama-server has it
    if (!prompt) fields.need("prompt", "a string, or \"messages\"");
    ids = adds_special ? serving.service().encode(*prompt)
                       : serving.tokenizer().encode(*prompt, false);
  }
  note_unknown(fields, serving);
  std::string texts = "null";
  if (returns_texts) {
    texts = "[";
    for (const auto id : ids) {
      if (texts.size() > 1) texts += ',';
      append_json_string(texts, serving.tokenizer().token_text(id));
    }
    texts += ']';
  }
  return {.body = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":{},"token_strs":{}}})",
                              ids.size(), serving.service().model().max_context_tokens,
                              ids_json(ids), texts)};
}

HttpReply detokenize_reply(const HttpRequest& http, Serving& serving) {
  const OrderedJson json = parse_body(http.body);
  Fields fields(json);
  read_model(fields, serving);
  constexpr std::string_view kExpected = "a list of token ids";
  const auto& list = fields.need("tokens", kExpected);
  if (!list.is_array()) fields.fail("tokens", kExpected);
  std::vector<TokenId> ids;
  for (const auto& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= serving.service().model().vocab_size)
      fields.fail("tokens", fmt::format("{}, each below {}", kExpected,
                                        serving.service().model().vocab_size));
    ids.push_back(id.get<TokenId>());
  }
  note_unknown(fields, serving);
  return {.body = fmt::format(R"({{"prompt":{}}})", json_quoted(serving.service().decode(ids)))};
}

HttpReply apply_template_reply(const HttpRequest& http, Serving& serving) {
  const OrderedJson json = parse_body(http.body);
  Fields fields(json);
  read_model(fields, serving);
  const auto prompt = read_chat_prompt(fields, serving);
  note_unknown(fields, serving);
  return {.body = fmt::format(R"({{"prompt":{},"tokens":{}}})", json_quoted(prompt.text),
                              ids_json(prompt.ids))};
}

}  // namespace nereid::server
