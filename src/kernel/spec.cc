#include "kernel/spec.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "kernel/builtin.h"
#include "kernel/generated.h"

namespace nereid::kernel {

namespace {

constexpr int kSpecsSchema = 1;

ParamRole parse_role(const std::string& name, const std::string& where) {
  constexpr std::array<std::pair<std::string_view, ParamRole>, 7> kRoles{
      {{"out", ParamRole::out},
       {"inout", ParamRole::inout},
       {"in", ParamRole::in},
       {"size", ParamRole::size},
       {"stride", ParamRole::stride},
       {"scalar", ParamRole::scalar},
       {"constexpr", ParamRole::constexpr_}}};
  for (const auto& [text, role] : kRoles)
    if (name == text) return role;
  throw Error("{}: unknown role \"{}\"", where, name);
}

constexpr std::string_view kLaunchNumbers[] = {"num_warps", "num_stages"};

bool is_launch_number(std::string_view name) {
  return std::ranges::find(kLaunchNumbers, name) != std::end(kLaunchNumbers);
}

// Every name an expression reads must be a parameter, and sizeof and typeof only of pointers.
void check_names(const Expression& expression, const Spec& spec, const std::string& where,
                 bool may_read_launch_numbers = false) {
  for (const auto& symbol : expression.symbols()) {
    if (may_read_launch_numbers && is_launch_number(symbol)) continue;
    const bool is_of_type = symbol.starts_with("sizeof(") || symbol.starts_with("typeof(");
    const Param* param = spec.find_param(is_of_type ? symbol.substr(7, symbol.size() - 8) : symbol);
    if (param == nullptr || param->is_pointer() != is_of_type)
      throw Error("{}: expression \"{}\" reads {}, which is no {} of the kernel", where,
                  expression.text(), symbol, is_of_type ? "pointer" : "number");
  }
}

// A default chooses everything; a tuning row may choose less and leave the rest to it.
void check_complete(const Choice& choice, const Spec& spec, const std::string& where) {
  for (const auto& param : spec.params)
    if (param.is_tuned && !choice.contains(param.name))
      throw Error("{}: says nothing of {}", where, param.name);
  for (const auto name : kLaunchNumbers)
    if (!choice.contains(std::string(name))) throw Error("{}: says nothing of {}", where, name);
}

void check_tunable(const std::string& name, const Spec& spec, const std::string& where) {
  const Param* param = spec.find_param(name);
  if (!is_launch_number(name) && (param == nullptr || !param->is_tuned))
    throw Error("{}: \"{}\" is not tunable", where, name);
}

TuningSpace parse_space(const Json& json, const Spec& spec, const std::string& where) {
  if (!json.is_object()) throw Error("{}: expected an object, got {}", where, json.type_name());
  TuningSpace space;
  for (const auto& [name, values] : json.items()) {
    const std::string here = where + ", " + name;
    if (name == "where") {
      space.where = parse_number_or_expression(values, here);
      check_names(space.where, spec, here, /*may_read_launch_numbers=*/true);
      continue;
    }
    check_tunable(name, spec, where);
    if (!values.is_array() || values.empty())
      throw Error("{}: expected a list of values, got {}", here, values.dump());
    for (const auto& value : values) {
      space.values[name].push_back(parse_number_or_expression(value, here));
      check_names(space.values[name].back(), spec, here);
    }
  }
  return space;
}

Param parse_param(const Json& json, const std::string& where) {
  Param param;
  param.name = json_field<std::string>(json, "name", where);
  const std::string here = where + ", " + param.name;
  param.role = parse_role(json_field<std::string>(json, "role", here), here);
  param.is_step = json_field_or<bool>(json, "step", false, here);
  if (json.contains("of"))
    param.of = ArgumentSource::parse(json_field<std::string>(json, "of", here), here);
  if (param.is_constexpr()) {
    if (json.contains("value") && !json.at("value").is_null())
      param.value = parse_number_or_expression(json.at("value"), here);
    if (json.contains("function"))
      param.function =
          function_kind_from_name(json_field<std::string>(json, "function", here), here);
    return param;
  }
  param.types = json_field<std::vector<std::string>>(json, "types", here);
  if (param.types.empty()) throw Error("{}: no types", here);
  if (param.is_pointer())
    for (const auto& axis : json_field<std::vector<std::string>>(json, "shape", here))
      param.shape.push_back(Expression::parse(axis, here));
  return param;
}

}  // namespace

Spec parse_spec(const Json& json, const std::string& name, const std::string& where) {
  Spec spec;
  spec.name = json_field<std::string>(json, "name", where);
  if (spec.name != name) throw Error("{}: calls itself \"{}\"", where, spec.name);
  spec.source_sha256 = json_field<std::string>(json, "source_sha256", where);
  spec.op = json_field_or<std::string>(json, "op", "", where);
  if (!spec.op.empty())
    spec.when = Expression::parse(json_field<std::string>(json, "when", where), where + ", when");
  spec.design = json_field_or<std::string>(json, "design", "", where);
  for (const auto& param : json_member(json, "params", where)) {
    spec.params.push_back(parse_param(param, where));
    if (spec.find_param(spec.params.back().name) != &spec.params.back())
      throw Error("{}: parameter {} appears twice", where, spec.params.back().name);
  }
  for (const auto& tuned : json_field<std::vector<std::string>>(json, "tuned", where)) {
    const auto it = std::find_if(spec.params.begin(), spec.params.end(),
                                 [&](const Param& param) { return param.name == tuned; });
    if (it == spec.params.end() || !it->is_constexpr() || it->value)
      throw Error("{}: tuned \"{}\" is no constexpr without a value", where, tuned);
    it->is_tuned = true;
  }
  const auto grid = json_field<std::vector<std::string>>(json, "grid", where);
  if (grid.size() != 3) throw Error("{}: expected a grid of 3 axes, got {}", where, grid.size());
  for (std::size_t i = 0; i < 3; ++i) spec.grid[i] = Expression::parse(grid[i], where + ", grid");
  spec.bytes = Expression::parse(json_field<std::string>(json, "bytes", where), where + ", bytes");
  spec.flops = Expression::parse(json_field<std::string>(json, "flops", where), where + ", flops");
  const Json& defaults = json_member(json, "default", where);
  if (!defaults.is_object()) throw Error("{}: \"default\" is no object", where);
  for (const auto& [family, choice] : defaults.items()) {
    const std::string here = where + ", default " + family;
    spec.defaults[family] = parse_choice(choice, spec, here);
    check_complete(spec.defaults[family], spec, here);
  }
  const auto spaces = json_field_or<Json>(json, "space", Json::object(), where);
  if (!spaces.is_object()) throw Error("{}: \"space\" is no object", where);
  for (const auto& [family, space] : spaces.items())
    spec.spaces[family] = parse_space(space, spec, where + ", space " + family);

  for (const auto& expression : spec.grid) check_names(expression, spec, where + ", grid");
  check_names(spec.bytes, spec, where + ", bytes");
  check_names(spec.flops, spec, where + ", flops");
  for (const auto& param : spec.params) {
    for (const auto& axis : param.shape) check_names(axis, spec, where + ", shape");
    if (param.value) check_names(*param.value, spec, where + ", " + param.name);
  }
  return spec;
}

Expression parse_number_or_expression(const Json& json, const std::string& where) {
  if (json.is_boolean()) return Expression::constant(json.get<bool>() ? 1 : 0);
  if (json.is_number_integer()) return Expression::constant(json.get<std::int64_t>());
  if (json.is_string()) return Expression::parse(json.get<std::string>(), where);
  throw Error("{}: expected an integer or an expression, got {}", where, json.type_name());
}

Choice parse_choice(const Json& json, const Spec& spec, const std::string& where) {
  if (!json.is_object()) throw Error("{}: expected an object, got {}", where, json.type_name());
  Choice choice;
  for (const auto& [name, value] : json.items()) {
    check_tunable(name, spec, where);
    const auto& expression = choice[name] = parse_number_or_expression(value, where + ", " + name);
    check_names(expression, spec, where + ", " + name);
  }
  return choice;
}

const Param* Spec::find_param(std::string_view param_name) const {
  for (const auto& param : params)
    if (param.name == param_name) return &param;
  return nullptr;
}

SpecTable SpecTable::builtin() {
  const std::string where = "built-in kernel specs";
  return parse(parse_json(builtin_specs(), where), where);
}

SpecTable SpecTable::parse(const Json& specs, const std::string& where) {
  const int schema = json_field<int>(specs, "schema", where);
  if (schema != kSpecsSchema)
    throw Error("{}: expected schema {}, got {}", where, kSpecsSchema, schema);
  SpecTable table;
  table.triton_version_ = json_field<std::string>(specs, "triton", where);
  const Json& kernels = json_member(specs, "kernels", where);
  if (!kernels.is_object()) throw Error("{}: \"kernels\" is no object", where);
  for (const auto& [name, spec] : kernels.items())
    table.specs_.emplace(name, parse_spec(spec, name, where + ", kernel " + name));
  return table;
}

const Spec* SpecTable::find(std::string_view kernel) const {
  if (const auto it = specs_.find(kernel); it != specs_.end()) return &it->second;
  const auto it = own_.find(kernel);
  return it == own_.end() ? nullptr : &it->second->spec;
}

void SpecTable::add(std::shared_ptr<const GeneratedKernel> kernel) {
  own_.try_emplace(kernel->spec.name, std::move(kernel));
}

const Spec& SpecTable::get(std::string_view kernel) const {
  const Spec* spec = find(kernel);
  if (spec == nullptr) throw Error("no kernel \"{}\" in this build", kernel);
  return *spec;
}

std::string_view target_family(std::string_view target) {
  return target.substr(0, target.find(':'));
}

}  // namespace nereid::kernel
