// graph GRAPH OP INPUTS OUT: a graph with an operation of its own, twice: the second time over what
// the first gave as `y` in the place of `x`.
#include <iostream>

#include "nereid/graph_program.h"

int main(int, char** argv) {
  try {
    nereid::GraphProgram program(argv[1], {.ops = {argv[2]}, .device = "cpu"});
    auto inputs = nereid::read_safetensors(argv[3]);
    auto outputs = program.run(inputs);
    inputs["x"] = outputs.at("y");
    outputs = program.run(inputs);
    nereid::write_safetensors(argv[4], outputs);
  } catch (const nereid::Error& error) {
    std::cerr << nereid::error_code_name(error.code()) << ": " << error.what() << '\n';
    return 1;
  }
  return 0;
}
