#include "server/api/generation_fields.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <limits>
#include <random>

#include "base/error.h"

namespace nereid::server {

namespace {

constexpr std::size_t kMaxStops = 64;
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
constexpr double kMaxFloat = std::numeric_limits<float>::max();

std::uint64_t random_seed() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  // Room for n answers, which are drawn with the seeds after it.
  return random() >> 1;
}

std::vector<TokenId> ids_of(Fields& fields, std::string_view name) {
  std::vector<TokenId> ids;
  const auto* list = fields.find(name);
  if (list == nullptr) return ids;
  if (!list->is_array() || list->size() > std::size_t(kMaxTokenBiases))
    fields.fail(name, fmt::format("a list of at most {} token ids", kMaxTokenBiases));
  for (const auto& id : *list) {
    if (!id.is_number_integer() || id < 0 || id > kMaxInt32) fields.fail(name, "token ids");
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

std::vector<TokenBias> biases_of(Fields& fields) {
  std::vector<TokenBias> biases;
  const auto* map = fields.find("logit_bias");
  if (map == nullptr) return biases;
  constexpr std::string_view kExpected = "an object of token ids and numbers, -100 to 100";
  if (!map->is_object()) fields.fail("logit_bias", kExpected);
  if (map->size() > std::size_t(kMaxTokenBiases))
    fields.fail("logit_bias", fmt::format("at most {} tokens", kMaxTokenBiases));
  for (const auto& [key, value] : map->items()) {
    TokenBias bias;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), bias.id);
    if (error != std::errc() || end != key.data() + key.size() || !value.is_number() ||
        !(value >= -100.0 && value <= 100.0))
      fields.fail("logit_bias", kExpected);
    bias.bias = value.get<float>();
    biases.push_back(bias);
  }
  return biases;
}

// Known elsewhere and not here: passed over where they ask for nothing.
void refuse_unsupported(Fields& fields) {
  const auto refuse = [&](const char* name, const auto& asks_for_nothing) {
    const auto* field = fields.find(name);
    if (field != nullptr && !asks_for_nothing(*field))
      throw ApiError(400, fmt::format("\"{}\" is not supported by this server; leave it out", name),
                     name, "unsupported_parameter");
  };
  const auto is_false = [](const OrderedJson& json) { return json == false; };
  const auto is_empty = [](const OrderedJson& json) { return json.empty(); };
  refuse("use_beam_search", is_false);
  refuse("bad_words", is_empty);
  refuse("logits_processors", is_empty);
  refuse("truncate_prompt_tokens", [](const OrderedJson&) { return false; });
  refuse("prompt_embeds", is_empty);
  refuse("best_of", [&](const OrderedJson& json) { return json == 1; });
}

}  // namespace

void read_model(Fields& fields, const Serving& serving) {
  if (const auto name = fields.text("model"); name && !name->empty()) serving.check_model(*name);
}

Streaming read_streaming(Fields& fields) {
  Streaming streaming;
  streaming.is_on = fields.boolean("stream").value_or(false);
  if (const auto* options = fields.find("stream_options")) {
    if (!options->is_object()) fields.fail("stream_options", "an object");
    Fields inner(*options, "stream_options.");
    streaming.has_usage = inner.boolean("include_usage").value_or(false);
    streaming.has_running_usage = inner.boolean("continuous_usage_stats").value_or(false);
    if (!streaming.is_on)
      throw ApiError(400, "\"stream_options\" is for streams: send \"stream\": true with it",
                     "stream_options", "invalid_value");
  }
  return streaming;
}

void read_sampling(Fields& fields, const Serving& serving, Request& request) {
  auto& sampling = request.sampling;
  sampling = serving.service().model().suggested_sampling;
  const auto real = [&](const char* name, float& value, double low, double high) {
    if (const auto given = fields.number(name, low, high)) value = float(*given);
  };
  real("temperature", sampling.temperature, 0, kMaxFloat);
  real("top_p", sampling.top_p, 0, 1);
  if (sampling.top_p == 0.0F) {  // what is left of the likeliest tokens is the likeliest
    sampling.top_p = 1;
    sampling.top_k = 1;
  }
  real("min_p", sampling.min_p, 0, 1);
  real("repetition_penalty", sampling.repetition_penalty, 0, kMaxFloat);
  real("presence_penalty", sampling.presence_penalty, -2, 2);
  real("frequency_penalty", sampling.frequency_penalty, -2, 2);
  if (const auto top_k = fields.integer("top_k", -1, kMaxInt32))
    sampling.top_k = std::int32_t(*top_k);
  const auto seed = fields.integer("seed");
  sampling.seed = seed ? std::uint64_t(*seed) : random_seed();
  request.n_answers = std::int32_t(fields.integer("n", 1, 128).value_or(1));
  if (*sampling.seed > std::numeric_limits<std::uint64_t>::max() - 128) *sampling.seed -= 128;

  request.min_tokens = fields.integer("min_tokens", 0).value_or(0);
  request.stop = fields.texts("stop", kMaxStops);
  std::erase(request.stop, "");
  request.stop_ids = ids_of(fields, "stop_token_ids");
  request.include_stop = fields.boolean("include_stop_str_in_output").value_or(false);
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  request.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  request.logit_bias = biases_of(fields);
  request.allowed_ids = ids_of(fields, "allowed_token_ids");
  request.cache_salt = fields.text("cache_salt").value_or("");
  refuse_unsupported(fields);
  fields.ignore({"user", "metadata", "store", "service_tier", "priority", "request_id",
                 "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
                 "length_penalty", "spaces_between_special_tokens", "early_stopping",
                 "return_tokens_as_token_ids", "verbosity", "prediction", "modalities",
                 "timings_per_token", "cache_prompt"});
}

void read_constraint(Fields& fields, Request& request) {
  auto& constraint = request.constraint;
  const auto set = [&](Constraint::Kind kind, std::string text = {}) {
    if (constraint.kind != Constraint::Kind::none)
      throw ApiError(400,
                     "the answer is constrained twice; send one of response_format and the like",
                     "response_format", "invalid_value");
    constraint.kind = kind;
    constraint.text = std::move(text);
  };
  const auto schema_of = [&](Fields& owner, const char* name, const OrderedJson& schema) {
    if (schema.is_string()) return schema.get<std::string>();
    if (!schema.is_object() && !schema.is_boolean()) owner.fail(name, "a JSON schema");
    return schema.dump();
  };
  if (const auto* format = fields.find("response_format")) {
    if (!format->is_object()) fields.fail("response_format", "an object");
    Fields inner(*format, "response_format.");
    const auto type = inner.text("type").value_or("");
    if (type == "json_object") {
      set(Constraint::Kind::json_object);
    } else if (type == "json_schema") {
      const auto& outer = inner.need("json_schema", "an object with a schema");
      if (!outer.is_object()) inner.fail("json_schema", "an object with a schema");
      Fields schema(outer, "response_format.json_schema.");
      set(Constraint::Kind::json_schema,
          schema_of(schema, "schema", schema.need("schema", "a JSON schema")));
    } else if (type != "text") {
      inner.fail("type", "\"text\", \"json_object\" or \"json_schema\"");
    }
  }
  const auto read = [&](Fields& owner, const char* json, const char* regex, const char* choice,
                        const char* grammar) {
    if (const auto* schema = owner.find(json))
      set(Constraint::Kind::json_schema, schema_of(owner, json, *schema));
    if (const auto pattern = owner.text(regex)) set(Constraint::Kind::regex, *pattern);
    if (owner.find(choice) != nullptr) {
      set(Constraint::Kind::choice);
      constraint.choices = owner.texts(choice, 4096);
      if (constraint.choices.empty()) owner.fail(choice, "at least one text");
    }
    if (owner.find(grammar) != nullptr)
      owner.fail(grammar, "nothing: grammars are not supported; a regex or a JSON schema is");
  };
  if (const auto* outputs = fields.find("structured_outputs")) {
    if (!outputs->is_object()) fields.fail("structured_outputs", "an object");
    Fields inner(*outputs, "structured_outputs.");
    read(inner, "json", "regex", "choice", "grammar");
    if (inner.boolean("json_object").value_or(false)) set(Constraint::Kind::json_object);
    if (inner.find("structural_tag") != nullptr)
      inner.fail("structural_tag", "nothing: not supported");
  }
  read(fields, "guided_json", "guided_regex", "guided_choice", "guided_grammar");
}

void note_unknown(const Fields& fields, Serving& serving) {
  for (const auto& name : fields.unknown())
    if (serving.unknown_fields().count(name))
      fmt::print(stderr, "nereid: a request has the field {:?}, which means nothing here\n", name);
}

}  // namespace nereid::server
