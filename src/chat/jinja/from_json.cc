#include "chat/jinja/from_json.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "tokenizer/utf8.h"

namespace nereid::chat::jinja {

namespace {

using OrderedJson = nlohmann::ordered_json;

class Converter {
 public:
  Converter(bool is_input, Budget& budget) : is_input_(is_input), budget_(budget) {}

  Value convert(const OrderedJson& json) {
    const Nesting nesting(depth_, budget_.limits().depth, "JSON");
    budget_.spend();
    switch (json.type()) {
      case OrderedJson::value_t::boolean:
        return Value(json.get<bool>());
      case OrderedJson::value_t::number_integer:
        return Value(json.get<std::int64_t>());
      case OrderedJson::value_t::number_unsigned: {
        const auto number = json.get<std::uint64_t>();
        if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
          throw Error("the integer {} has more than 64 bits", number);
        return Value(static_cast<std::int64_t>(number));
      }
      case OrderedJson::value_t::number_float:
        return Value(json.get<double>());
      case OrderedJson::value_t::string:
        return text(json.get_ref<const std::string&>());
      case OrderedJson::value_t::array: {
        std::vector<Value> items;
        items.reserve(json.size());
        for (const OrderedJson& item : json) items.push_back(convert(item));
        return Value::list(std::move(items));
      }
      case OrderedJson::value_t::object: {
        auto dict = std::make_shared<Dict>();
        for (const auto& [key, item] : json.items()) dict->set(text(key), convert(item));
        return Value(std::shared_ptr<const Dict>(std::move(dict)));
      }
      default:
        return Value::none();
    }
  }

 private:
  Value text(const std::string& bytes) {
    budget_.spend_text(bytes.size());
    return Value(
        Text(tokenizer::is_valid_utf8(bytes) ? bytes : tokenizer::to_valid_utf8(bytes), is_input_));
  }

  bool is_input_;
  Budget& budget_;
  int depth_ = 0;
};

// Of a text not yet parsed: nlohmann builds nested values without recursion, but each level costs.
bool nests_deeper(std::string_view json, int most) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '\\' && in_string)
      ++i;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '[' || c == '{') && ++depth > most)
      return true;
    else if (!in_string && (c == ']' || c == '}'))
      --depth;
  }
  return false;
}

}  // namespace

Value from_json(const OrderedJson& json, bool is_input, Budget& budget) {
  return Converter(is_input, budget).convert(json);
}

Value parse_json_text(const Text& text, Budget& budget) {
  budget.spend_text(text.size());
  budget.spend(text.size() / 4);
  if (nests_deeper(text.view(), budget.limits().depth))
    throw Error("from_json: JSON nests too deep");
  const auto json = OrderedJson::parse(text.view(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw Error("from_json: the text is not JSON");
  return from_json(json, text.has_input(), budget);
}

}  // namespace nereid::chat::jinja
