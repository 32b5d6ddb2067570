// Goal: what was measured stays measured: a line of JSON for each choice, appended as soon as it is
// known, so that an interrupted run goes on where it stopped.
// Non-goal: choosing. Rejected: one JSON document written anew each time, which a crash can lose.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace nereid::measure {

struct MeasuredTime {
  double us = 0;  // negative: this device cannot run it
  std::string date;
};

class TuneState {
 public:
  // Reads what is there; lines that are no entry, such as half a line of a run that was killed, are
  // passed over.
  explicit TuneState(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  // `id` is all that the time depends on.
  std::optional<MeasuredTime> find(const std::string& id) const;
  // `what` is for people who read the file. Later entries of an id count.
  void add(const std::string& id, const MeasuredTime& time, const std::string& what);

 private:
  std::filesystem::path path_;
  std::map<std::string, MeasuredTime> times_;
  bool ends_in_half_a_line_ = false;
};

}  // namespace nereid::measure
