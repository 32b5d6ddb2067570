// What a request may ask for, an example each.
#pragma once

#include <chrono>
#include <vector>

#include "nereid/request.h"

inline std::vector<nereid::Request> example_requests() {
  nereid::Request greedy{.prompt = "def fibonacci(n):\n", .max_tokens = 48};

  nereid::Request three_answers{
      .prompt = "class Stack:\n",
      .sampling = {.temperature = 0.8F, .top_p = 0.95F, .seed = 7},  // answers: seeds 7, 8, 9
      .n_answers = 3,
      .max_tokens = 40};

  nereid::Request logprobs{
      .prompt = "import ", .max_tokens = 8, .n_logprobs = 5};  // and of the five likeliest

  nereid::Request penalties{.prompt = "words = [",
                            .sampling = {.presence_penalty = 0.4F, .frequency_penalty = 0.2F},
                            .max_tokens = 40};

  nereid::Request one_line{
      .prompt = "def area(width, height):\n    return ", .max_tokens = 40, .stop = {"\n"}};

  nereid::Request deadline{.prompt = "for i in range(10):\n",
                           .max_tokens = 64,
                           .time_limit = std::chrono::minutes(10),
                           .user_id = "of user 17"};

  return {greedy, three_answers, logprobs, penalties, one_line, deadline};
}
