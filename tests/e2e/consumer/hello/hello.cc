// hello [MODEL]: continues each prompt of standard input, which end with zeros, all at once.
#include <iostream>
#include <string>
#include <vector>

#include "nereid/engine.h"

int main(int argc, char** argv) {
  std::vector<nereid::Request> requests;
  for (std::string prompt; std::getline(std::cin, prompt, '\0');)
    requests.push_back({.prompt = prompt, .max_tokens = 96});
  try {
    nereid::Engine engine({.model_dir = argc > 1 ? argv[1] : DEMO_MODEL});
    for (const auto& completion : engine.run(requests))
      std::cout << completion.answers[0].text << '\0';
  } catch (const nereid::Error& error) {
    std::cerr << nereid::error_code_name(error.code()) << ": " << error.what() << '\n';
    return 1;
  }
  return 0;
}
