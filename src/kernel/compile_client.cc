#include "kernel/compile_client.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/installation.h"
#include "kernel/compile_progress.h"
#include "kernel/spec.h"

extern char** environ;

namespace nereid::kernel {

namespace {

namespace fs = std::filesystem;

// Enough for the errors of a few kernels.
constexpr std::size_t kMaxErrorText = 16 << 10;
// How often a log may learn that work goes on.
constexpr int kPollMs = 1000;

std::optional<fs::path> from_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

bool is_program(const fs::path& path) { return ::access(path.c_str(), X_OK) == 0; }

fs::path find_python() {
  if (const auto path = from_environment("NEREID_PYTHON")) {
    if (!is_program(*path)) throw Error("NEREID_PYTHON is {}, which is no program", path->string());
    return *path;
  }
  const fs::path path = NEREID_DEFAULT_PYTHON;
  if (!is_program(path))
    throw Error(ErrorCode::not_found,
                "no Python with Triton at {} (set NEREID_PYTHON to one that has what {} lists)",
                path.string(), (share_dir() / "aot" / "requirements.txt").string());
  return path;
}

fs::path find_aot_dir() {
  const auto holds_aot = [](const fs::path& dir) { return fs::exists(dir / "aot" / "compile.py"); };
  if (const auto dir = from_environment("NEREID_AOT_DIR")) {
    if (!holds_aot(*dir))
      throw Error("NEREID_AOT_DIR is {}, which holds no aot/compile.py", dir->string());
    return *dir;
  }
  const fs::path dir = share_dir();
  if (!holds_aot(dir))
    throw Error(ErrorCode::not_found,
                "no kernel compiler in {} (set NEREID_AOT_DIR to the folder that holds aot/)",
                dir.string());
  return dir;
}

fs::path find_ttir() {
  if (const auto path = from_environment("NEREID_TTIR")) {
    if (!is_program(*path)) throw Error("NEREID_TTIR is {}, which is no program", path->string());
    return *path;
  }
  if (const auto prefix = installed_prefix()) {
    const fs::path path = *prefix / "bin" / "nereid-ttir";
    if (!is_program(path))
      throw Error(ErrorCode::not_found, "no nereid-ttir at {} (set NEREID_TTIR to one)",
                  path.string());
    return path;
  }
  // In a build tree programs and tests lie one or two folders down.
  const fs::path dir = own_file().parent_path();
  for (const char* place : {"../ttir/emit", "../../ttir/emit"})
    if (is_program(dir / place / "nereid-ttir")) return dir / place / "nereid-ttir";
  throw Error(ErrorCode::not_found,
              "no nereid-ttir in the build tree of {} (build it, or set NEREID_TTIR to one)",
              dir.string());
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  void set(int fd) { fd_ = fd; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct Pipe {
  FileDescriptor read_end, write_end;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
      throw Error(ErrorCode::device, "cannot make a pipe: {}", std::strerror(errno));
    read_end.set(ends[0]);
    write_end.set(ends[1]);
  }
};

// The environment with NEREID_TTIR set, as posix_spawn takes it.
std::vector<std::string> child_environment(const fs::path& ttir) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (ttir.empty() || !std::string_view(*variable).starts_with("NEREID_TTIR="))
      variables.emplace_back(*variable);
  if (!ttir.empty()) variables.push_back("NEREID_TTIR=" + ttir.string());
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (auto& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Starts the program in `dir` with stdin empty and its output on the two pipes.
pid_t start(std::vector<std::string> arguments, std::vector<std::string> environment,
            const fs::path& dir, const Pipe& out, const Pipe& err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.write_end.get(), STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&actions, dir.c_str());
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, arguments[0].c_str(), &actions, nullptr,
                                  pointers(arguments).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    throw Error(ErrorCode::device, "cannot start {}: {}", arguments[0], std::strerror(error));
  return pid;
}

// Reads both pipes to their ends; keeps the last of what came on the second.
std::string read_all(Pipe& out, Pipe& err, const std::function<void()>& tick,
                     const std::function<void(std::string_view)>& take) {
  std::string errors;
  std::array<char, 4096> chunk;
  while (out.read_end.get() >= 0 || err.read_end.get() >= 0) {
    std::array<pollfd, 2> polled{
        {{out.read_end.get(), POLLIN, 0}, {err.read_end.get(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), kPollMs) < 0 && errno != EINTR)
      throw Error(ErrorCode::device, "cannot wait for the kernel compiler: {}",
                  std::strerror(errno));
    tick();
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) continue;
      const ssize_t n_read = ::read(polled[i].fd, chunk.data(), chunk.size());
      if (n_read < 0 && errno == EINTR) continue;
      if (n_read <= 0) {
        (i == 0 ? out : err).read_end.close();
        continue;
      }
      const std::string_view text(chunk.data(), static_cast<std::size_t>(n_read));
      if (i == 1) {
        errors += text;
        if (errors.size() > 2 * kMaxErrorText) errors.erase(0, errors.size() - kMaxErrorText);
        continue;
      }
      take(text);
    }
  }
  if (errors.size() > kMaxErrorText) errors.erase(0, errors.size() - kMaxErrorText);
  while (!errors.empty() && errors.back() == '\n') errors.pop_back();
  return errors;
}

// What it says while it compiles, for people or for `sink`.
std::string follow(Pipe& out, Pipe& err, const ProgressSink& sink) {
  using Clock = CompileProgress::Clock;
  CompileProgress progress(::isatty(STDERR_FILENO) == 1);
  const auto show = [&](const std::string& text) {
    if (!sink) std::fputs(text.c_str(), stderr);
  };
  std::string line;
  const auto take = [&](std::string_view text) {
    for (const char c : text) {
      if (c == '\n') {
        show(progress.take(line, Clock::now()));
        if (sink) sink("compiling kernels", progress.n_done(), progress.n_total());
        line.clear();
      } else if (line.size() < kMaxErrorText) {
        line += c;
      }
    }
  };
  auto errors = read_all(
      out, err, [&] { show(progress.tick(Clock::now())); }, take);
  show(progress.finish(Clock::now()));
  return errors;
}

// Its exit code.
int wait_for(pid_t pid, const std::string& errors) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      throw Error(ErrorCode::device, "lost the kernel compiler: {}", std::strerror(errno));
  if (WIFSIGNALED(status))
    throw Error(ErrorCode::internal, "the kernel compiler was killed by signal {} ({})\n{}",
                WTERMSIG(status), ::strsignal(WTERMSIG(status)), errors);
  return WEXITSTATUS(status);
}

}  // namespace

CompilerPaths find_compiler(const std::string& target) {
  CompilerPaths paths{find_python(), find_aot_dir(), {}};
  if (target_family(target) == "cpu") paths.ttir = find_ttir();
  return paths;
}

void run_compiler(const CompilerPaths& paths, const std::string& target, const std::string& isas,
                  const fs::path& requests_file, const fs::path& out_dir, int n_jobs,
                  const ProgressSink& progress) {
  std::vector<std::string> arguments{
      fs::absolute(paths.python).string(),  "-m",         "aot.compile", "--requests",
      fs::absolute(requests_file).string(), "--target",   target,        "--out",
      fs::absolute(out_dir).string(),       "--progress", "json"};
  if (n_jobs > 0) arguments.insert(arguments.end(), {"--jobs", std::to_string(n_jobs)});
  if (!isas.empty()) arguments.insert(arguments.end(), {"--isa", isas});
  Pipe out, err;
  const fs::path ttir = paths.ttir.empty() ? paths.ttir : fs::absolute(paths.ttir);
  const pid_t pid = start(std::move(arguments), child_environment(ttir), paths.aot_dir, out, err);
  out.write_end.close();
  err.write_end.close();
  const std::string errors = follow(out, err, progress);
  if (wait_for(pid, errors) != 0)
    throw Error(ErrorCode::internal, "the kernel compiler failed for target {}:\n{}", target,
                errors);
}

std::string run_own_export(const fs::path& file, const std::string& name) {
  constexpr std::size_t kMaxExported = 4 << 20;
  const auto aot_dir = find_aot_dir();
  Pipe out, err;
  const pid_t pid = start({fs::absolute(find_python()).string(), "-m", "aot.export_own", "--file",
                           fs::absolute(file).string(), "--shown", file.string(), "--name", name},
                          child_environment({}), aot_dir, out, err);
  out.write_end.close();
  err.write_end.close();
  std::string exported;
  const auto errors = read_all(
      out, err, [] {},
      [&](std::string_view text) { exported += text.substr(0, kMaxExported - exported.size()); });
  if (wait_for(pid, errors) != 0) throw Error("{}", errors);
  return exported;
}

}  // namespace nereid::kernel
