// nereid compile-kernel: one Triton kernel of anybody's to an object and a C header to launch it.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "base/error.h"
#include "kernel/compile_client.h"

namespace nereid::apps {

namespace {

// What the command hands on as it stands: the compiler checks it. One with no value name is a flag.
struct Passed {
  const char *name, *help, *value;
};
constexpr Passed kPassed[] = {
    {"--signature", "A kind for each parameter, in order or by name", "KINDS"},
    {"--variants", "In place of --signature: a file with several, of which a launch chooses",
     "FILE"},
    {"--name", "What the files, C names and the symbol start with; the function's", "NAME"},
    {"--config", "Which config of @triton.autotune: N, or 'BLOCK=64,num_warps=4'", "CONFIG"},
    {"--all-configs", "An object for each config: NAME_0, NAME_1, ...", nullptr},
    {"--num-warps", "Warps of a program on a GPU; the config's, or 4", "N"},
    {"--num-stages", "Stages of pipelined loops on a GPU; the config's, or 3", "N"},
    {"--num-ctas", "cuda:90 and newer: thread blocks of a program", "N"},
    {"--maxnreg", "cuda: the most registers of a thread", "N"},
    {"--launch-pdl", "cuda: the kernel waits itself for the one before it", nullptr},
    {"--isa", "cpu: x86-64-v3, x86-64-v4 or aarch64; default: this machine's", "LEVEL"},
    {"--debug", "Keep tl.device_assert", nullptr},
};

struct CompileKernelArguments {
  std::string kernel, target, out_dir;
  std::array<std::optional<std::string>, std::size(kPassed)> values;
  std::array<bool, std::size(kPassed)> flags{};
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
                                    "--target=" + arguments.target,
                                    "--out=" + arguments.out_dir};
  for (std::size_t i = 0; i < std::size(kPassed); ++i) {
    if (arguments.flags[i]) words.emplace_back(kPassed[i].name);
    if (arguments.values[i])
      words.push_back(std::string(kPassed[i].name) + "=" + *arguments.values[i]);
  }
  if (!paths.ttir.empty()) words.push_back("--ttir=" + paths.ttir.string());
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
      "text. Needs Python with the pinned Triton, no GPU; docs/compile_kernel.md is a tutorial.\n"
      "A kind is [*]TYPE[:16], :16 for what is divisible by 16, or constexpr=VALUE, None,\n"
      "tensordesc<TYPE[N,N]>, or a tuple of kinds; NAME=KIND gives one by name. Parameters left\n"
      "out have their default.\n"
      "Example:\n"
      "  nereid compile-kernel add.py:add_kernel --signature "
      "'*fp32,*fp32,*fp32,i32,constexpr=1024' \\\n    --target cpu --out add\n");
  command.add_option("KERNEL", arguments->kernel, "FILE.py:FUNCTION")->required()->type_name("");
  command
      .add_option("--target", arguments->target,
                  "cpu, cuda:80, cuda:90, hip:gfx942 or another that Triton has")
      ->required()
      ->type_name("NAME");
  command.add_option("--out", arguments->out_dir, "The folder to write to")
      ->required()
      ->type_name("DIR");
  for (std::size_t i = 0; i < std::size(kPassed); ++i) {
    const Passed& passed = kPassed[i];
    if (passed.value == nullptr)
      command.add_flag(passed.name, arguments->flags[i], passed.help);
    else
      command.add_option(passed.name, arguments->values[i], passed.help)->type_name(passed.value);
  }
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) -> int { become_compiler(*arguments); };
  });
}

}  // namespace nereid::apps
