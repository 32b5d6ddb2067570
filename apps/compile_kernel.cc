// nereid compile-kernel: one Triton kernel of anybody's to an object and a C header to launch it.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "apps/checks.h"
#include "apps/commands.h"
#include "base/error.h"
#include "kernel/compile_client.h"

namespace nereid::apps {

namespace {

struct CompileKernelArguments {
  std::string kernel, signature, target, out_dir, name, isa;
  int n_warps = 4;
  int n_stages = 3;
  bool debug = false;
};

// The compiler takes this process's place: its output and exit code are the command's.
[[noreturn]] void become_compiler(const CompileKernelArguments& arguments) {
  const kernel::CompilerPaths paths = kernel::find_compiler(arguments.target);
  // -P: a file of the user's that is named like a module does not come before it.
  std::vector<std::string> words = {paths.python.string(),
                                    "-P",
                                    "-m",
                                    "aot.compile_kernel",
                                    arguments.kernel,
                                    "--signature=" + arguments.signature,
                                    "--target=" + arguments.target,
                                    "--out=" + arguments.out_dir,
                                    "--num-warps=" + std::to_string(arguments.n_warps),
                                    "--num-stages=" + std::to_string(arguments.n_stages)};
  if (!arguments.name.empty()) words.push_back("--name=" + arguments.name);
  if (!arguments.isa.empty()) words.push_back("--isa=" + arguments.isa);
  if (!paths.ttir.empty()) words.push_back("--ttir=" + paths.ttir.string());
  if (arguments.debug) words.push_back("--debug");
  const char* before = std::getenv("PYTHONPATH");
  const std::string python_path = paths.aot_dir.string() +
                                  (before != nullptr && *before != '\0' ? ":" : "") +
                                  (before != nullptr ? before : "");
  if (::setenv("PYTHONPATH", python_path.c_str(), 1) != 0)
    throw Error("cannot set PYTHONPATH: {}", std::strerror(errno));
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  ::execv(pointers[0], pointers.data());
  throw Error("cannot start {}: {}", words[0], std::strerror(errno));
}

}  // namespace

void add_compile_kernel(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<CompileKernelArguments>();
  CLI::App& command = *app.add_subcommand(
      "compile-kernel", "Compile one Triton kernel for any C or C++ program, for any target");
  command.footer(
      "\nWrites NAME.h with the arguments and a launch, NAME.json, the object and every stage's\n"
      "text. Needs Python with the pinned Triton, no GPU. A type is [*]TYPE[:16], :16 for what is\n"
      "divisible by 16, or constexpr=VALUE.\n"
      "Example:\n"
      "  nereid compile-kernel add.py:add_kernel --signature "
      "'*fp32,*fp32,*fp32,i32,constexpr=1024' \\\n    --target cpu --out add\n");
  command.add_option("KERNEL", arguments->kernel, "FILE.py:FUNCTION")->required()->type_name("");
  command
      .add_option("--signature", arguments->signature, "A type for each parameter, in their order")
      ->required()
      ->type_name("TYPES");
  command.add_option("--target", arguments->target, "cpu, cuda:80, cuda:90, hip:gfx942")
      ->required()
      ->type_name("NAME");
  command.add_option("--out", arguments->out_dir, "The folder to write to")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--name", arguments->name, "What files and C names start with; the function's")
      ->type_name("NAME");
  command.add_option("--num-warps", arguments->n_warps, "Warps of a program on a GPU")
      ->check(in_range(engine::ranges::kCount))
      ->capture_default_str();
  command.add_option("--num-stages", arguments->n_stages, "Stages of pipelined loops on a GPU")
      ->check(in_range(engine::ranges::kCount))
      ->capture_default_str();
  command
      .add_option("--isa", arguments->isa,
                  "cpu: x86-64-v3, x86-64-v4 or aarch64; default: this machine's")
      ->type_name("LEVEL");
  command.add_flag("--debug", arguments->debug, "Keep tl.device_assert");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) -> int { become_compiler(*arguments); };
  });
}

}  // namespace nereid::apps
