#include "apps/prompts.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "apps/checks.h"
#include "apps/model_options.h"
#include "base/error.h"
#include "base/json.h"

namespace nereid::apps {

namespace {

Request parse_line(std::string_view line, const std::string& where) {
  const Json object = parse_json(line, where);
  Request request;
  const bool has_prompt = object.is_object() && object.contains("prompt");
  const bool has_ids = object.is_object() && object.contains("ids");
  if (has_prompt == has_ids)
    throw Error("{}: expected {{\"prompt\": TEXT}} or {{\"ids\": [1, 2, 3]}}", where);
  if (has_prompt) {
    request.prompt = json_field<std::string>(object, "prompt", where);
    return request;
  }
  request.prompt_ids = json_field<std::vector<TokenId>>(object, "ids", where);
  if (request.prompt_ids.empty()) throw Error("{}: \"ids\" is empty; expected at least one", where);
  return request;
}

void read_jsonl(const std::string& path, std::vector<Request>& requests) {
  const std::string text = read_input(path);
  std::string_view rest = text;
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    requests.push_back(parse_line(line, fmt::format("{}:{}", path, number)));
  }
}

}  // namespace

void add_prompts(CLI::App& command, PromptArguments& arguments) {
  const std::string group = "Prompt";
  command.add_option("-p,--prompt", arguments.texts, "A prompt; repeat it for several at once")
      ->allow_extra_args(false)
      ->type_name("TEXT")
      ->group(group);
  command
      .add_option(
          "-f,--file", arguments.file,
          "A text file as the prompt, - for standard input; a .jsonl has a {\"prompt\": TEXT} or "
          "{\"ids\": [1,2,3]} a line")
      ->check(not_empty())
      ->type_name("FILE")
      ->group(group);
  command.add_option("--ids", arguments.ids, "A prompt as token ids, 1,2,3; may be repeated")
      ->allow_extra_args(false)
      ->type_name("IDS")
      ->group(group);
}

void require_prompts(const PromptArguments& arguments) {
  if (arguments.texts.empty() && arguments.file.empty() && arguments.ids.empty())
    throw CLI::ValidationError("no prompt; give one with -p TEXT, -f FILE or --ids 1,2,3");
}

std::vector<Request> read_prompts(const PromptArguments& arguments) {
  std::vector<Request> requests;
  for (const auto& text : arguments.texts) requests.push_back({.prompt = text});
  if (arguments.file.ends_with(".jsonl"))
    read_jsonl(arguments.file, requests);
  else if (!arguments.file.empty())
    requests.push_back({.prompt = read_input(arguments.file)});
  for (const auto& ids : arguments.ids) requests.push_back({.prompt_ids = parse_ids(ids)});
  if (requests.empty()) throw Error("{}: no prompt in it; expected one a line", arguments.file);
  return requests;
}

}  // namespace nereid::apps
