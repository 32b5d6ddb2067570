// Goal: what goes to the terminal: text as it is produced on stdout, Ctrl-C, and the closing line
// of statistics.
#pragma once

#include <csignal>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "nereid/engine.h"

namespace nereid::apps {

// Writes all of it to stdout now. An Error where nobody reads any more.
void write_out(std::string_view text);
// One JSON document and a line end; bytes that are not UTF-8 become U+FFFD.
void write_json(const nlohmann::ordered_json& document);

// Says on stderr that a prompt writes what is put before every prompt. `start` as
// Engine::written_start() gives it; nothing where that is empty. `who`: "the prompt", "prompt 2".
void note_written_start(std::string_view who, std::string_view start);

// Now, as strftime writes it.
std::string utc_text(const char* format);

// While this lives, the first Ctrl-C only sets a flag; the second ends the program as usual.
class InterruptFlag {
 public:
  InterruptFlag();
  ~InterruptFlag();
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;
  bool is_set() const;
  // Whether it was; it can be set anew.
  bool take();

 private:
  struct sigaction before_;
};

// "stats" of --json.
nlohmann::ordered_json stats_json(const Stats& stats, double start_to_first_token_ms);
// The line of --stats.
std::string stats_line(const Stats& stats, double start_to_first_token_ms);

}  // namespace nereid::apps
