#include "server/api/chat_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "server/api/chat_prompt.h"

namespace nereid::server {

namespace {

constexpr std::int32_t kMaxForcedCalls = 8;

enum class ToolChoice : std::uint8_t { none, automatic, required, named };

struct Tools {
  ToolChoice choice = ToolChoice::none;
  std::string name = {};  // named
};

Tools read_tool_choice(Fields& fields, const OrderedJson& tools) {
  constexpr std::string_view kExpected =
      "\"none\", \"auto\", \"required\", or {\"type\": \"function\", \"function\": {\"name\": "
      "...}}";
  Tools read{.choice = tools.is_null() ? ToolChoice::none : ToolChoice::automatic};
  const auto* choice = fields.find("tool_choice");
  if (choice == nullptr) return read;
  if (choice->is_string()) {
    const auto& word = choice->get_ref<const std::string&>();
    if (word == "none")
      read.choice = ToolChoice::none;
    else if (word == "required")
      read.choice = ToolChoice::required;
    else if (word != "auto")
      fields.fail("tool_choice", kExpected);
  } else {
    const bool has_name = choice->is_object() && choice->contains("function") &&
                          (*choice)["function"].is_object() &&
                          (*choice)["function"].value("name", OrderedJson()).is_string();
    if (!has_name) fields.fail("tool_choice", kExpected);
    read = {.choice = ToolChoice::named, .name = (*choice)["function"]["name"].get<std::string>()};
  }
  const bool needs_tools = read.choice == ToolChoice::required || read.choice == ToolChoice::named;
  if (needs_tools && tools.is_null())
    throw ApiError(400, "\"tool_choice\" asks for a call, and \"tools\" names none to call",
                   "tool_choice", "invalid_value");
  return read;
}

// The calls that an answer must consist of.
Constraint forced_calls(Fields& fields, const OrderedJson& tools, const Tools& choice,
                        const chat::ToolFormat& format, bool several) {
  Constraint constraint{.kind = Constraint::Kind::tool_calls,
                        .before = format.calls_prefix(),
                        .between = format.calls_separator(),
                        .after = format.calls_suffix(),
                        .max_calls = several ? kMaxForcedCalls : 1};
  for (const auto& tool : tools) {
    const auto& function = tool["function"];
    const auto name = function["name"].get<std::string>();
    if (choice.choice == ToolChoice::named && name != choice.name) continue;
    const auto parameters = function.find("parameters");
    constraint.calls.push_back({.prefix = format.call_prefix(name),
                                .schema = parameters == function.end() || parameters->is_null()
                                              ? R"({"type":"object"})"
                                              : parameters->dump(),
                                .suffix = format.call_suffix()});
  }
  if (constraint.calls.empty())
    fields.fail("tool_choice",
                fmt::format("a tool of \"tools\"; none is called \"{}\"", choice.name));
  return constraint;
}

void read_lengths_and_logprobs(Fields& fields, const Serving& serving, ChatPlan& plan) {
  auto& request = plan.request;
  auto n_most = fields.integer("max_completion_tokens", 1);
  const auto n_most_before = fields.integer("max_tokens", 1);  // the same by its older name
  if (!n_most) n_most = n_most_before;
  request.max_tokens = n_most.value_or(serving.service().model().max_context_tokens);
  const bool has_logprobs = fields.boolean("logprobs").value_or(false);
  const auto n_top = fields.integer("top_logprobs", 0, kMaxLogprobs);
  if (n_top && !has_logprobs)
    throw ApiError(400, "\"top_logprobs\" goes with \"logprobs\": true", "top_logprobs",
                   "invalid_value");
  if (has_logprobs) request.n_logprobs = std::int32_t(n_top.value_or(0));
  if (const auto n = fields.integer("prompt_logprobs", 0, kMaxLogprobs)) {
    if (plan.streaming.is_on)
      throw ApiError(400, "log-probabilities of the prompt are not streamed", "prompt_logprobs",
                     "unsupported_parameter");
    plan.has_prompt_logprobs = true;
    request.n_prompt_logprobs = std::int32_t(*n);
  }
}

}  // namespace

ChatPlan plan_chat(Fields& fields, Serving& serving) {
  ChatPlan plan;
  read_model(fields, serving);
  ChatMessages chat = read_chat_messages(fields);
  plan.streaming = read_streaming(fields);
  read_sampling(fields, serving, plan.request);
  read_constraint(fields, plan.request);
  read_lengths_and_logprobs(fields, serving, plan);
  const auto& chat_template = serving.chat_template();
  plan.output.seed = *plan.request.sampling.seed;

  const Tools choice = read_tool_choice(fields, chat.tools);
  const bool several = fields.boolean("parallel_tool_calls").value_or(true);
  if (choice.choice != ToolChoice::none) {
    const auto& format = chat::detect_tool_format(chat_template.source(true));
    if (!chat_template.knows_tools() || format.shape == chat::CallShape::none)
      throw ApiError(
          400,
          "\"tools\": this model's chat template has no tools, or writes their calls in a "
          "way that is not known here; leave them out",
          "tools", "unsupported_parameter");
    plan.output.tools = &format;
    // The marks of calls are special tokens of some models.
    plan.request.skip_special_tokens = false;
    if (choice.choice != ToolChoice::automatic) {
      if (plan.request.constraint.kind != Constraint::Kind::none)
        throw ApiError(400,
                       "\"tool_choice\" forces a call and \"response_format\" a text; send one",
                       "tool_choice", "invalid_value");
      plan.request.constraint = forced_calls(fields, chat.tools, choice, format, several);
    }
  } else {
    chat.tools = nullptr;  // a model that is shown tools calls them
  }

  const bool is_constrained = plan.request.constraint.kind != Constraint::Kind::none;
  if (is_constrained && chat_template.knows_thinking() && !chat.kwargs.contains("enable_thinking"))
    chat.kwargs["enable_thinking"] = false;  // the constraint holds from the first token
  auto prompt = chat_prompt(chat, serving);
  plan.request.prompt_ids = std::move(prompt.ids);
  if (!is_constrained) {
    plan.output.reasoning =
        &chat::detect_reasoning_format(chat_template.source(!chat.tools.is_null()));
    plan.output.is_reasoning_open = plan.output.reasoning->is_opened_by(prompt.text);
  }
  note_unknown(fields, serving);
  return plan;
}

}  // namespace nereid::server
