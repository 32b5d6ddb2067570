// Goal: the prompts of a command line, in the order they are answered: -p, then -f, then --ids.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "nereid/request.h"

namespace nereid::apps {

struct PromptArguments {
  std::vector<std::string> texts;  // -p
  std::string file;                // -f: one prompt, or one a line in a .jsonl
  std::vector<std::string> ids;    // --ids
};

void add_prompts(CLI::App& command, PromptArguments& arguments);
// No prompt at all is wrong usage.
void require_prompts(const PromptArguments& arguments);

// Requests with only their prompt or prompt_ids set. An Error names the file and line that is not a
// prompt.
std::vector<Request> read_prompts(const PromptArguments& arguments);

}  // namespace nereid::apps
