#include "model/config_rope.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/json.h"

namespace nereid::model {

namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";
constexpr std::int64_t kMaxPosition = std::numeric_limits<std::int32_t>::max();

// What a form of rotary positions is read with.
struct FormContext {
  ConfigFields& outer;  // config.json's own fields
  const Family& family;
  const char* theta_name;  // of the outer field
  double default_theta;
  std::int64_t max_context_tokens;
  std::int64_t head_dim;
  std::vector<std::string>& ignored;
};

RopeType rope_type_of(ConfigFields& rope, const Family& family) {
  // Files before 2024 say "type", later ones "rope_type", some both.
  const auto new_name = rope.text_if("rope_type");
  const auto old_name = rope.text_if("type");
  const std::string name = new_name.value_or(old_name.value_or("default"));
  if (old_name && *old_name != name)
    rope.fail("type", *old_name, fmt::format("the same as rope_type = \"{}\"", name));
  const char* field = new_name ? "rope_type" : "type";
  if (family.rope_rule == RopeRule::long_only) {
    if (name == "default") return RopeType::plain;
    if (name == "longrope" || name == "su" || name == "yarn") return RopeType::longrope;
    rope.fail(field, name,
              fmt::format("\"default\" or \"longrope\", all that {} knows", family.architecture));
  }
  for (const auto type : {RopeType::plain, RopeType::linear, RopeType::dynamic, RopeType::llama3,
                          RopeType::yarn, RopeType::longrope})
    if (name == rope_type_name(type)) return type;
  rope.fail(
      field, name,
      "\"default\", \"linear\", \"dynamic\", \"llama3\", \"yarn\" or \"longrope\"; the engine "
      "implements no other");
}

std::optional<double> theta_if(ConfigFields& fields, const char* name) {
  const auto theta = fields.number_if(name);
  if (theta && *theta < 1.0) fields.fail(name, *theta, "1 or more");
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

void read_attention_factor(ConfigFields& rope, double fallback, RopeConfig& config) {
  config.attention_factor = rope.number_if("attention_factor").value_or(fallback);
  constexpr double kMaxScale = 100.0;  // far above any; its square must stay a sane factor
  if (config.attention_factor > kMaxScale)
    rope.fail("attention_factor", config.attention_factor, fmt::format("at most {}", kMaxScale));
}

// Within the first context, the short factors; the others count beyond it, where nothing is run.
void read_longrope(ConfigFields& rope, std::int64_t head_dim, RopeConfig& config) {
  const std::string kShort = "short_factor";
  const Json* factors = rope.find(kShort);
  if (factors == nullptr) rope.fail_missing(kShort);
  const auto n_pairs = std::size_t(head_dim / 2);
  constexpr double kLeast = 1e-6, kMost = 1e6;  // frequencies stay what fp32 holds
  const auto is_factor = [](const Json& factor) {
    return factor.is_number() && factor.get<double>() >= kLeast && factor.get<double>() <= kMost;
  };
  if (!factors->is_array() || factors->size() != n_pairs ||
      !std::ranges::all_of(*factors, is_factor))
    rope.fail(kShort, *factors,
              fmt::format("a list of {} numbers from {} to {}", n_pairs, kLeast, kMost));
  for (const auto& factor : *factors) config.pair_factors.push_back(factor.get<double>());
  rope.find("long_factor");
  const double scale = config.factor <= 1.0
                           ? 1.0
                           : std::sqrt(1.0 + std::log(config.factor) /
                                                 std::log(double(config.original_max_position)));
  read_attention_factor(rope, scale, config);
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
  read_attention_factor(rope, scale, config);
  if (config.theta <= 1.0) rope.fail("rope_theta", config.theta, "more than 1, for yarn");
}

bool has_original(RopeType type) {
  return type == RopeType::llama3 || type == RopeType::yarn || type == RopeType::longrope;
}

// The context before it was stretched: beside this object, which a class may have a default for,
// or here.
std::int64_t original_of(ConfigFields& rope, const FormContext& context) {
  auto outer = context.outer.integer_if(kOriginal, 1, kMaxPosition);
  if (!outer && context.family.default_original_context != 0)
    outer = context.family.default_original_context;
  const auto inner = rope.integer_if(kOriginal, 1, kMaxPosition);
  if (inner && outer && *inner != *outer)
    rope.fail(kOriginal, *inner, fmt::format("the same as {} = {}", kOriginal, *outer));
  return inner.value_or(outer.value_or(context.max_context_tokens));
}

// One object that says it all, by its name.
RopeConfig read_form(const Json& form, const std::string& where, const std::string& name,
                     const FormContext& context) {
  ConfigFields rope(form, where, name + ".");
  for (const auto& [key, value] : form.items())
    if (value.is_object())
      rope.fail(key, value,
                fmt::format("a number or a name; {} has no rotary positions by kind of layer",
                            context.family.architecture));
  RopeConfig config;
  config.type = rope_type_of(rope, context.family);
  const auto outer_theta = theta_if(context.outer, context.theta_name);
  const auto theta = theta_if(rope, "rope_theta");
  if (theta && outer_theta && *theta != *outer_theta)
    rope.fail("rope_theta", *theta,
              fmt::format("the same as {} = {}", context.theta_name, *outer_theta));
  config.theta = theta.value_or(outer_theta.value_or(context.default_theta));
  check_partial_rotary(rope);
  if (has_original(config.type)) config.original_max_position = original_of(rope, context);
  const bool may_lack_factor = config.type == RopeType::yarn || config.type == RopeType::longrope;
  if (may_lack_factor && rope.find("factor") == nullptr)
    config.factor = double(context.max_context_tokens) / double(config.original_max_position);
  else if (config.type != RopeType::plain)
    config.factor = rope.number("factor");
  if (config.factor < 1.0 && config.type != RopeType::longrope)
    rope.fail("factor", config.factor, "1 or more");
  if (config.type == RopeType::llama3) {
    config.low_freq_factor = rope.number("low_freq_factor");
    config.high_freq_factor = rope.number("high_freq_factor");
    if (config.high_freq_factor <= config.low_freq_factor)
      rope.fail("high_freq_factor", config.high_freq_factor,
                fmt::format("more than low_freq_factor = {}", config.low_freq_factor));
  }
  if (config.type == RopeType::yarn) read_yarn(rope, config);
  if (config.type == RopeType::longrope) read_longrope(rope, context.head_dim, config);
  for (auto& field : rope.unread({})) context.ignored.push_back(std::move(field));
  return config;
}

RopeConfig plain_rope(const FormContext& context) {
  RopeConfig plain;
  plain.theta = theta_if(context.outer, context.theta_name).value_or(context.default_theta);
  return plain;
}

// In "rope_parameters" or "rope_scaling", which say the same where both are there.
RopeConfig read_one(const std::string& where, const FormContext& context) {
  std::optional<RopeConfig> config;
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const Json* form = context.outer.find(name);
    if (form == nullptr) continue;
    const auto read = read_form(*form, where, name, context);
    if (config && read != *config)
      context.outer.fail(name, *form, "the same as rope_parameters, or absence");
    config = read;
  }
  return config ? *config : plain_rope(context);
}

// "rope_parameters" has an object for each kind of layer; before 2025 "rope_scaling" was that of
// layers without a window, and the others' were plain.
void read_by_layer(const std::string& where, const FormContext& all, FormContext windowed,
                   ModelConfig& config) {
  windowed.theta_name = "rope_local_base_freq";
  windowed.default_theta = windowed.family.default_window_theta;
  const Json* forms = all.outer.find("rope_parameters");
  if (forms == nullptr) {
    const Json* scaling = all.outer.find("rope_scaling");
    config.rope =
        scaling != nullptr ? read_form(*scaling, where, "rope_scaling", all) : plain_rope(all);
    config.window_rope = plain_rope(windowed);
    return;
  }
  if (all.outer.find("rope_scaling") != nullptr)
    all.outer.fail("rope_scaling", *all.outer.find("rope_scaling"),
                   "absence beside rope_parameters");
  ConfigFields kinds(*forms, where, "rope_parameters.");
  const auto read = [&](const char* kind, const FormContext& context) {
    const Json* form = kinds.find(kind);
    return form == nullptr
               ? plain_rope(context)
               : read_form(*form, where, fmt::format("rope_parameters.{}", kind), context);
  };
  config.rope = read("full_attention", all);
  config.window_rope = read("sliding_attention", windowed);
  const auto unread = kinds.unread({});
  if (!unread.empty())
    all.outer.fail("rope_parameters", *forms,
                   fmt::format("an object for \"full_attention\" and one for "
                               "\"sliding_attention\", and not {}",
                               json_excerpt(Json(unread[0]))));
}

}  // namespace

void read_rope(ConfigFields& fields, const std::string& where, const Family& family,
               ModelConfig& config) {
  check_partial_rotary(fields);
  // A field of the class, whatever the kind.
  if (family.default_original_context != 0) fields.integer_if(kOriginal, 1, kMaxPosition);
  const FormContext context{fields,
                            family,
                            "rope_theta",
                            family.default_theta,
                            config.max_context_tokens,
                            config.head_dim,
                            config.ignored_fields};
  if (family.rope_rule == RopeRule::by_layer)
    read_by_layer(where, context, context, config);
  else
    config.rope = read_one(where, context);
  // What counts beyond the first context depends on how long a prompt is.
  for (const auto* rope : {&config.rope, config.window_rope ? &*config.window_rope : nullptr})
    if (rope != nullptr && rope->type == RopeType::longrope)
      config.max_context_tokens = std::min(config.max_context_tokens, rope->original_max_position);
}

}  // namespace nereid::model
