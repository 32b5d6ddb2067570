// Goal: nereid-ttir, the compiler step of the CPU target: Triton IR text in, C++ and its entry
// point's description out.
// Non-goal: calling the C++ compiler; aot/targets/cpu.py does.
// Rejected: reading from standard input: messages name the file.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "emit.h"
#include "source_line.h"

namespace {

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf()))
    throw nereid::Error("{}: cannot be read; expected a file of Triton IR text", path);
  return text.str();
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw nereid::Error("{}: cannot be written", path);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Compiles a kernel's Triton IR to C++ for the CPU target."};
  std::string input, source, meta;
  app.add_option("input", input, "Triton IR text")->required();
  app.add_option("--source", source, "where to write the C++")->required();
  app.add_option("--meta", meta, "where to write {\"symbol\", \"arena_bytes\"}")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  std::string text;
  try {
    text = read_text(input);
    const auto module = nereid::ttir::parse_module(text, input);
    const auto emitted = nereid::ttir::emit_cpp(*module, input);
    write_text(source, emitted.source);
    write_text(
        meta,
        nereid::Json{{"symbol", emitted.symbol}, {"arena_bytes", emitted.arena_bytes}}.dump() +
            "\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "nereid-ttir: %s\n",
                 nereid::ttir::with_source_line(e.what(), text).c_str());
    return 1;
  }
  return 0;
}
