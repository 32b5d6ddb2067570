#include "kernel/request.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/json.h"

namespace nereid::kernel {

namespace {

constexpr std::int64_t kDivisor = 16;  // the only divisibility Triton's compiler makes use of

// Whether an integer type of Triton's holds the value; floats hold none.
bool fits(std::string_view type, std::int64_t value) {
  const auto within = [&](auto limits) {
    return value >= std::int64_t{limits.min()} && value <= std::int64_t{limits.max()};
  };
  if (type == "i64") return true;
  if (type == "i32") return within(std::numeric_limits<std::int32_t>());
  if (type == "i16") return within(std::numeric_limits<std::int16_t>());
  if (type == "i8") return within(std::numeric_limits<std::int8_t>());
  return false;
}

bool contains(const std::vector<std::string>& types, std::string_view type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

// Works out one request; a class because every step reads and extends the known values.
class Chooser {
 public:
  Chooser(const Spec& spec, const Problem& problem) : spec_(spec), problem_(problem) {
    request_.kernel = spec.name;
    request_.function_files = problem.function_files;
  }

  KernelRequest choose(const TuningTable& tuning, std::string_view target,
                       const Choice& overriding) {
    check_problem_names();
    for (const auto& param : spec_.params) {
      if (param.is_pointer())
        add_pointer(param);
      else if (param.is_constexpr())
        add_constexpr(param);
      else
        add_number(param);
    }
    resolve();

    const auto family = std::string(target_family(target));
    const auto fallback = spec_.defaults.find(family);
    if (fallback == spec_.defaults.end()) fail("has no choice for target {}", target);
    const TuningRow* row = tuning.find(
        target, spec_.name, [this](std::string_view name) -> std::optional<std::int64_t> {
          const auto largest = problem_.largest.find(std::string(name));
          return largest != problem_.largest.end() ? largest->second : lookup()(name);
        });
    for (const auto& [name, expression] : fallback->second) pending_[name] = &expression;
    if (row != nullptr)
      for (const auto& [name, expression] : row->choice) pending_[name] = &expression;
    for (const auto& [name, expression] : overriding) pending_[name] = &expression;
    request_.why = row == nullptr      ? fmt::format("default of {}", family)
                   : row->note.empty() ? fmt::format("tuning of {}", target)
                                       : fmt::format("tuning of {}: {}", target, row->note);
    resolve();
    if (!pending_.empty()) fail_unresolved();

    const auto take_int = [&](const char* name) {
      const std::int64_t value = values_.at(name);
      if (value < 1 || value > 64) fail("{} = {}: expected 1 to 64", name, value);
      return static_cast<int>(value);
    };
    request_.num_warps = take_int("num_warps");
    request_.num_stages = take_int("num_stages");
    for (const auto& param : spec_.params)
      if (param.is_constexpr() && !param.function)
        request_.constexprs[param.name] = values_.at(param.name);
    return std::move(request_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("kernel {}: {}", spec_.name, fmt::format(format, std::forward<Args>(args)...));
  }

  void check_problem_names() const {
    const auto check = [&](const std::string& name, bool (*is_right)(const Param&),
                           const char* what) {
      const Param* param = spec_.find_param(name);
      if (param == nullptr || !is_right(*param)) fail("\"{}\" is no {} of it", name, what);
    };
    const auto is_pointer = [](const Param& param) { return param.is_pointer(); };
    for (const auto& [name, dtype] : problem_.pointers) check(name, is_pointer, "pointer");
    for (const auto& name : problem_.unaligned) check(name, is_pointer, "pointer");
    for (const auto& [name, value] : problem_.sizes)
      check(
          name,
          [](const Param& param) {
            return (param.role == ParamRole::size || param.role == ParamRole::stride) &&
                   !param.is_step;
          },
          "size or stride that is known when planning");
    for (const auto& [name, value] : problem_.largest)
      check(
          name, [](const Param& param) { return param.is_step; }, "size that steps set");
    for (const auto& [name, type] : problem_.types)
      check(
          name, [](const Param& param) { return !param.is_pointer() && !param.is_constexpr(); },
          "size, stride or scalar");
    for (const auto& [name, value] : problem_.constexprs)
      check(
          name, [](const Param& param) { return param.is_given(); },
          "constexpr that the planner gives");
    for (const auto& [name, text] : problem_.functions)
      check(
          name, [](const Param& param) { return param.function.has_value(); }, "function");
  }

  void add_pointer(const Param& param) {
    const auto it = problem_.pointers.find(param.name);
    if (it == problem_.pointers.end()) fail("the element type of {} is missing", param.name);
    const std::string type(dtype_name(it->second));
    if (!contains(param.types, type)) fail("{} cannot be {}", param.name, type);
    values_[fmt::format("sizeof({})", param.name)] =
        static_cast<std::int64_t>(dtype_size_bytes(it->second));
    values_[fmt::format("typeof({})", param.name)] = static_cast<std::int64_t>(it->second);
    request_.args[param.name] = "*" + type + (problem_.unaligned.contains(param.name) ? "" : ":16");
  }

  void add_number(const Param& param) {
    const auto chosen = problem_.types.find(param.name);
    const std::string& type = chosen != problem_.types.end() ? chosen->second : param.types.front();
    if (!contains(param.types, type)) fail("{} cannot be {}", param.name, type);
    const auto size = problem_.sizes.find(param.name);
    bool is_divisible = false;
    if (size != problem_.sizes.end()) {
      if (!fits(type, size->second))
        fail("{} = {} does not fit {}", param.name, size->second, type);
      values_[param.name] = size->second;
      is_divisible = size->second % kDivisor == 0;
    }
    request_.args[param.name] = type + (is_divisible ? ":16" : "");
  }

  void add_constexpr(const Param& param) {
    if (param.function) {
      const auto it = problem_.functions.find(param.name);
      const bool is_there = it != problem_.functions.end();
      if (is_there) request_.functions[param.name] = it->second;
      values_[param.name] = is_there ? 1 : 0;
    } else if (param.value) {
      pending_[param.name] = &*param.value;
    } else if (!param.is_tuned) {
      const auto it = problem_.constexprs.find(param.name);
      if (it == problem_.constexprs.end()) fail("the constexpr {} is missing", param.name);
      values_[param.name] = it->second;
    }
  }

  Expression::Lookup lookup() const {
    return [this](std::string_view name) -> std::optional<std::int64_t> {
      const auto it = values_.find(name);
      if (it == values_.end()) return std::nullopt;
      return it->second;
    };
  }

  // Evaluates what can be evaluated, as often as that makes more values known.
  void resolve() {
    const auto known = lookup();
    for (bool has_changed = true; has_changed;) {
      has_changed = false;
      for (auto it = pending_.begin(); it != pending_.end();) {
        auto value = it->second->constant_value();
        if (!value) {
          const Expression rest = it->second->substitute(known);
          if (!rest.symbols().empty()) {
            ++it;
            continue;
          }
          value = rest.evaluate(std::span<const std::int64_t>());
        }
        values_[it->first] = *value;
        it = pending_.erase(it);
        has_changed = true;
      }
    }
  }

  [[noreturn]] void fail_unresolved() const {
    const auto& [name, expression] = *pending_.begin();
    const auto rest = expression->substitute(lookup());
    fail("{} = \"{}\" needs {}, which is {}", name, expression->text(), rest.symbols()[0],
         pending_.contains(rest.symbols()[0]) ? "itself not resolved" : "not known when planning");
  }

  const Spec& spec_;
  const Problem& problem_;
  KernelRequest request_;
  std::map<std::string, std::int64_t, std::less<>> values_;
  std::map<std::string, const Expression*> pending_;
};

// Keys are made hundreds of times as a model is opened: plain names are written as they are, and
// the rest by the JSON library.
void append_string(std::string& text, const std::string& value) {
  const bool is_plain = std::ranges::all_of(
      value, [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
  if (is_plain)
    text.append(1, '"').append(value).append(1, '"');
  else
    text += Json(value).dump();
}

void append_value(std::string& text, const std::string& value) { append_string(text, value); }
void append_value(std::string& text, std::int64_t value) { text += fmt::format_int(value).c_str(); }

// Of a map, whose order is the canonical one.
template <typename T>
void append_object(std::string& text, const std::map<std::string, T>& map) {
  char separator = '{';
  for (const auto& [name, value] : map) {
    text += separator;
    append_string(text, name);
    text += ':';
    append_value(text, value);
    separator = ',';
  }
  text += map.empty() ? "{}" : "}";
}

}  // namespace

std::string KernelRequest::key() const {
  std::string text;
  text.reserve(1024);
  text += "{\"args\":";
  append_object(text, args);
  text += ",\"constexprs\":";
  append_object(text, constexprs);
  if (!functions.empty()) {
    text += ",\"functions\":";
    append_object(text, functions);
  }
  text += ",\"kernel\":";
  append_string(text, kernel);
  fmt::format_to(std::back_inserter(text),
                 ",\"num_stages\":{},\"num_warps\":{},\"options\":", num_stages, num_warps);
  append_object(text, options);
  return text += '}';
}

KernelRequest KernelRequest::from_key(std::string_view key, const std::string& where) {
  const Json json = parse_json(key, where);
  KernelRequest request;
  request.kernel = json_field<std::string>(json, "kernel", where);
  request.args = json_field<std::map<std::string, std::string>>(json, "args", where);
  request.constexprs = json_field<std::map<std::string, std::int64_t>>(json, "constexprs", where);
  request.num_warps = json_field<int>(json, "num_warps", where);
  request.num_stages = json_field<int>(json, "num_stages", where);
  request.options = json_field<std::map<std::string, std::int64_t>>(json, "options", where);
  request.functions =
      json_field_or<std::map<std::string, std::string>>(json, "functions", {}, where);
  return request;
}

KernelRequest make_request(const Spec& spec, const TuningTable& tuning, std::string_view target,
                           const Problem& problem, const Choice& overriding) {
  return Chooser(spec, problem).choose(tuning, target, overriding);
}

}  // namespace nereid::kernel
