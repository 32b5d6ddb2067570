#include "chat/jinja/methods.h"

#include <algorithm>
#include <array>
#include <span>

#include "chat/jinja/arguments.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/string_methods.h"

namespace nereid::chat::jinja {

namespace {

Value list_index(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "index", {"value"}, 1);
  const auto& items = self.as_list()->items;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (equal(items[i], args[0], runtime.budget)) return Value(static_cast<std::int64_t>(i));
  throw Error("index: the value is not there");
}

Value list_count(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "count", {"value"}, 1);
  std::int64_t n = 0;
  for (const Value& item : self.as_list()->items) n += equal(item, args[0], runtime.budget);
  return Value(n);
}

Value copy(Runtime&, const Value& self, const CallArgs& call) {
  const Arguments args(call, "copy", {});
  return self;
}

Value dict_get(Runtime&, const Value& self, const CallArgs& call) {
  const Arguments args(call, "get", {"key", "default"}, 1);
  require_hashable(args[0]);
  if (const Value* found = self.as_dict()->find(args[0])) return *found;
  return args.has(1) ? args[1] : Value::none();
}

template <DictPart kPart>
Value dict_view(Runtime& runtime, const Value& self, const CallArgs& call) {
  const Arguments args(call, "a dict's view", {});
  const Dict& dict = *self.as_dict();
  runtime.budget.spend(2 * dict.size());
  std::vector<Value> items;
  for (const auto& [key, value] : dict.entries()) {
    if (kPart == DictPart::kItems)
      items.push_back(Value::list({key, value}, ListKind::kTuple));
    else
      items.push_back(kPart == DictPart::kKeys ? key : value);
  }
  return Value::view(std::move(items), kPart);
}

// A row without a function is one that changes what it is called on.
constexpr std::array kListMethods = {Method{"index", list_index},
                                     Method{"count", list_count},
                                     Method{"copy", copy},
                                     Method{"append"},
                                     Method{"clear"},
                                     Method{"extend"},
                                     Method{"insert"},
                                     Method{"pop"},
                                     Method{"remove"},
                                     Method{"reverse"},
                                     Method{"sort"}};
constexpr std::array kTupleMethods = {Method{"index", list_index}, Method{"count", list_count}};
constexpr std::array kDictMethods = {Method{"get", dict_get},
                                     Method{"items", dict_view<DictPart::kItems>},
                                     Method{"keys", dict_view<DictPart::kKeys>},
                                     Method{"values", dict_view<DictPart::kValues>},
                                     Method{"copy", copy},
                                     Method{"clear"},
                                     Method{"pop"},
                                     Method{"popitem"},
                                     Method{"setdefault"},
                                     Method{"update"}};

struct BoundMethod final : Object {
  BoundMethod(Value bound, const Method& row) : self(std::move(bound)), method(row) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, CallArgs& args) override {
    if (method.call == nullptr)
      throw Error("'{}' would change a {}, which chat templates may not", method.name,
                  self.type_name());
    return method.call(runtime, self, args);
  }
  const Value self;
  const Method& method;
};

}  // namespace

std::optional<Value> find_method(const Value& self, const std::string& name) {
  std::span<const Method> methods;
  if (self.as_text() != nullptr)
    methods = string_methods();
  else if (self.as_dict() != nullptr)
    methods = kDictMethods;
  else if (self.as_list(ListKind::kList) != nullptr)
    methods = kListMethods;
  else if (self.as_list(ListKind::kTuple) != nullptr || self.as_list(ListKind::kRange) != nullptr)
    methods = kTupleMethods;
  const auto found = std::find_if(methods.begin(), methods.end(),
                                  [&](const Method& method) { return method.name == name; });
  if (found == methods.end()) return std::nullopt;
  return Value(std::shared_ptr<Object>(std::make_shared<BoundMethod>(self, *found)));
}

}  // namespace nereid::chat::jinja
