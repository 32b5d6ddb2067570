// Reads lines of JSON {"template", "context"}, renders each, and writes a line of JSON
// {"text", "ranges"} or {"error"}: what jinja_reference_test.py holds against Python's Jinja.
// The context's bos_token and eos_token are the template's, all else is a caller's.
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "chat/jinja/from_json.h"
#include "chat/jinja/template.h"

namespace {

using nlohmann::ordered_json;
namespace jinja = nereid::chat::jinja;

ordered_json render(const ordered_json& row) {
  try {
    const auto source = row.at("template").get<std::string>();
    const auto program = jinja::Template::parse(source, "template");
    jinja::Runtime runtime(program.limits(), std::time(nullptr));
    jinja::Dict context;
    for (const auto& [name, value] : row.at("context").items())
      context.set(
          jinja::Value(name),
          jinja::from_json(value, name != "bos_token" && name != "eos_token", runtime.budget));
    const jinja::Text text = program.render(runtime, context);
    ordered_json ranges = ordered_json::array();
    for (const auto& range : text.input()) ranges.push_back({range.begin, range.end});
    return {{"text", text.view()}, {"ranges", std::move(ranges)}};
  } catch (const nereid::Error& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) std::cout << render(ordered_json::parse(line)) << std::endl;
}
