#include "model/config_rope.h"

#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/json.h"

namespace nereid::model {

namespace {

constexpr std::int64_t kMaxPosition = std::numeric_limits<std::int32_t>::max();

RopeType rope_type_of(ConfigFields& rope) {
  // Files before 2024 say "type", later ones "rope_type", some both.
  const auto new_name = rope.text_if("rope_type");
  const auto old_name = rope.text_if("type");
  const std::string name = new_name.value_or(old_name.value_or("default"));
  if (old_name && *old_name != name)
    rope.fail("type", *old_name, fmt::format("the same as rope_type = \"{}\"", name));
  for (const auto type :
       {RopeType::plain, RopeType::linear, RopeType::dynamic, RopeType::llama3, RopeType::yarn})
    if (name == rope_type_name(type)) return type;
  rope.fail(
      new_name ? "rope_type" : "type", name,
      "\"default\", \"linear\", \"dynamic\", \"llama3\" or \"yarn\"; the engine implements no "
      "other");
}

std::optional<double> theta_if(ConfigFields& fields) {
  const auto theta = fields.number_if("rope_theta");
  if (theta && *theta < 1.0) fields.fail("rope_theta", *theta, "1 or more");
  return theta;
}

// All of a head is turned.
void check_partial_rotary(ConfigFields& fields) {
  const auto factor = fields.number_if("partial_rotary_factor");
  if (factor.value_or(1.0) != 1.0)
    fields.fail("partial_rotary_factor", *factor, "1; nothing else is supported");
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(ConfigFields& rope, RopeConfig& config) {
  config.beta_fast = rope.number_if("beta_fast").value_or(config.beta_fast);
  config.beta_slow = rope.number_if("beta_slow").value_or(config.beta_slow);
  config.has_whole_bounds = rope.flag("truncate", config.has_whole_bounds);
  const auto mscale = rope.non_negative_if("mscale").value_or(0.0);
  const auto mscale_all = rope.non_negative_if("mscale_all_dim").value_or(0.0);
  const double scale =
      mscale != 0.0 && mscale_all != 0.0
          ? yarn_scale(config.factor, mscale) / yarn_scale(config.factor, mscale_all)
          : yarn_scale(config.factor, 1.0);
  config.attention_factor = rope.number_if("attention_factor").value_or(scale);
  constexpr double kMaxScale = 100.0;  // far above any; its square must stay a sane factor
  if (config.attention_factor > kMaxScale)
    rope.fail("attention_factor", config.attention_factor, fmt::format("at most {}", kMaxScale));
  if (config.theta <= 1.0) rope.fail("rope_theta", config.theta, "more than 1, for yarn");
}

// One of the two objects, by its field's name.
RopeConfig read_form(const Json& form, const std::string& where, const std::string& name,
                     ConfigFields& outer, std::int64_t max_context_tokens,
                     std::vector<std::string>& ignored) {
  ConfigFields rope(form, where, name + ".");
  for (const auto& [key, value] : form.items())
    if (value.is_object())
      rope.fail(key, value,
                "a number or a name; rotary positions by kind of layer are not supported");
  RopeConfig config;
  config.type = rope_type_of(rope);
  const auto outer_theta = theta_if(outer);
  const auto theta = theta_if(rope);
  if (theta && outer_theta && *theta != *outer_theta)
    rope.fail("rope_theta", *theta, fmt::format("the same as rope_theta = {}", *outer_theta));
  config.theta = theta.value_or(outer_theta.value_or(config.theta));
  check_partial_rotary(rope);
  if (config.type == RopeType::llama3 || config.type == RopeType::yarn) {
    const char* kOriginal = "original_max_position_embeddings";
    const auto outer_original = outer.integer_if(kOriginal, 1, kMaxPosition);
    const auto original = rope.integer_if(kOriginal, 1, kMaxPosition);
    if (original && outer_original && *original != *outer_original)
      rope.fail(kOriginal, *original,
                fmt::format("the same as {} = {}", kOriginal, *outer_original));
    config.original_max_position = original.value_or(outer_original.value_or(max_context_tokens));
  }
  if (config.type == RopeType::yarn && rope.find("factor") == nullptr)
    config.factor = double(max_context_tokens) / double(config.original_max_position);
  else if (config.type != RopeType::plain)
    config.factor = rope.number("factor");
  if (config.factor < 1.0) rope.fail("factor", config.factor, "1 or more");
  if (config.type == RopeType::llama3) {
    config.low_freq_factor = rope.number("low_freq_factor");
    config.high_freq_factor = rope.number("high_freq_factor");
    if (config.high_freq_factor <= config.low_freq_factor)
      rope.fail("high_freq_factor", config.high_freq_factor,
                fmt::format("more than low_freq_factor = {}", config.low_freq_factor));
  }
  if (config.type == RopeType::yarn) read_yarn(rope, config);
  for (auto& field : rope.unread({})) ignored.push_back(std::move(field));
  return config;
}

}  // namespace

RopeConfig read_rope(ConfigFields& fields, const std::string& where,
                     std::int64_t max_context_tokens, std::vector<std::string>& ignored) {
  check_partial_rotary(fields);
  std::optional<RopeConfig> config;
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const Json* form = fields.find(name);
    if (form == nullptr) continue;
    const auto read = read_form(*form, where, name, fields, max_context_tokens, ignored);
    if (config && read != *config)
      fields.fail(name, *form, "the same as rope_parameters, or absence");
    config = read;
  }
  if (config) return *config;
  RopeConfig plain;
  plain.theta = theta_if(fields).value_or(plain.theta);
  return plain;
}

}  // namespace nereid::model
