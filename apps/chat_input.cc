#include "apps/chat_input.h"

#include <fmt/format.h>
#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>
#include <iostream>
#include <string_view>

namespace nereid::apps {

namespace fs = std::filesystem;

namespace {

constexpr int kHistoryLines = 1000;
constexpr int kLookForCtrlCMs = 50;
constexpr std::string_view kBlockMark = "\"\"\"";

// Where the XDG base directory specification puts what outlives a program; empty without a home.
fs::path history_path() {
  const char* const state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return fs::path(state) / "nereid" / "history";
  const char* const home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return {};
  return fs::path(home) / ".local" / "state" / "nereid" / "history";
}

}  // namespace

struct ChatInput::Editor {
  Editor() {
    // The editor counts characters by the locale; without one of UTF-8 it would count bytes.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    line = el_init("nereid", stdin, stdout, stderr);
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_PROMPT, &Editor::prompt);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, ::history, history);
    el_wset(line, EL_GETCFN, &Editor::read_character);
    el_set(line, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_source(line, nullptr);  // ~/.editrc
    HistEvent event;
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    ::history(history, &event, H_SETUNIQUE, 1);
    if (!path.empty()) ::history(history, &event, H_LOAD, path.c_str());
  }
  ~Editor() {
    el_end(line);
    history_end(history);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  static Editor& of(EditLine* line) {
    void* self = nullptr;
    el_get(line, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }
  static char* prompt(EditLine* line) {
    static char first[] = "> ";
    static char further[] = ". ";
    return of(line).is_first ? first : further;
  }
  // The editor's own reads on after a signal; this one ends the line.
  static int read_character(EditLine* line, wchar_t* character) {
    std::mbstate_t state{};
    for (;;) {
      // A signal that comes just before the wait is seen when that ends.
      pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      const int n_ready = ::poll(&input, 1, kLookForCtrlCMs);
      if (of(line).interrupt->is_set()) return 0;
      if (n_ready == 0 || (n_ready < 0 && errno == EINTR)) continue;
      char byte = 0;
      if (::read(STDIN_FILENO, &byte, 1) != 1) return 0;
      const std::size_t n_bytes = std::mbrtowc(character, &byte, 1, &state);
      if (n_bytes == std::size_t(-2)) continue;  // more of it comes
      if (n_bytes == std::size_t(-1)) *character = L'\uFFFD';
      return 1;
    }
  }

  // After each line: a program that is ended forgets nothing.
  void remember(const char* text) {
    HistEvent event;
    ::history(history, &event, H_ENTER, text);
    if (path.empty()) return;
    std::error_code failed;
    if (fs::create_directories(path.parent_path(), failed); !failed) {
      if (::history(history, &event, H_SAVE, path.c_str()) >= 0) {
        fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write, failed);
        return;
      }
    }
    fmt::print(stderr, "nereid: {} cannot be written; the history ends with this chat\n",
               path.string());
    path.clear();
  }

  EditLine* line = nullptr;
  History* history = history_init();
  fs::path path = history_path();
  bool is_first = true;
  const InterruptFlag* interrupt = nullptr;  // while a line is read
};

ChatInput::ChatInput() {
  if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) editor_ = std::make_unique<Editor>();
}
ChatInput::~ChatInput() = default;

bool ChatInput::is_terminal() const { return editor_ != nullptr; }

ChatInput::End ChatInput::next_line(bool is_first, InterruptFlag& interrupt, std::string& line) {
  if (!editor_) return std::getline(std::cin, line) ? End::line : End::over;
  editor_->is_first = is_first;
  editor_->interrupt = &interrupt;
  int n_bytes = 0;
  const char* const text = el_gets(editor_->line, &n_bytes);
  if (text == nullptr || n_bytes <= 0) {
    std::fputs("\n", stdout);
    std::fflush(stdout);
    return interrupt.take() ? End::interrupted : End::over;
  }
  line.assign(text, std::size_t(n_bytes));
  if (line.find_first_not_of(" \t\r\n") != std::string::npos) editor_->remember(text);
  if (line.ends_with('\n')) line.pop_back();
  return End::line;
}

std::optional<std::string> ChatInput::next_message() {
  InterruptFlag interrupt;
  std::string message;
  bool is_block = false;
  bool was_interrupted = false;
  for (bool is_first = true;;) {
    std::string line;
    const End end = next_line(is_first, interrupt, line);
    if (end == End::interrupted) {
      if (was_interrupted) return {};
      was_interrupted = is_first = true;
      is_block = false;
      message.clear();
      fmt::print(stderr, "(Ctrl-C once more, Ctrl-D or /exit ends the chat)\n");
      continue;
    }
    if (end == End::over) {
      if (message.empty()) return {};
      return message;
    }
    was_interrupted = false;
    if (line.ends_with('\r')) line.pop_back();
    if (is_first && line.starts_with(kBlockMark)) {
      is_block = true;
      line.erase(0, kBlockMark.size());
      if (line.empty()) {
        is_first = false;
        continue;
      }
    }
    is_first = false;
    if (is_block) {
      if (line.ends_with(kBlockMark)) {
        line.resize(line.size() - kBlockMark.size());
        if (line.empty() && message.ends_with('\n')) message.pop_back();
        return message + line;
      }
      message += line + "\n";
    } else if (line.ends_with('\\')) {
      line.back() = '\n';
      message += line;
    } else {
      return message + line;
    }
  }
}

}  // namespace nereid::apps
