#include "measure/tune_state.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace nereid::measure {

TuneState::TuneState(std::filesystem::path path) : path_(std::move(path)) {
  if (!std::filesystem::exists(path_)) return;
  const std::string text = read_text_file(path_);
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    ends_in_half_a_line_ = end == std::string_view::npos;
    const auto line = rest.substr(0, end);
    rest.remove_prefix(ends_in_half_a_line_ ? rest.size() : end + 1);
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("id") || !json.at("id").is_string() ||
        !json.contains("us") || !json.at("us").is_number() || !json.contains("date") ||
        !json.at("date").is_string())
      continue;
    times_[json.at("id").get<std::string>()] = {json.at("us").get<double>(),
                                                json.at("date").get<std::string>()};
  }
}

std::optional<MeasuredTime> TuneState::find(const std::string& id) const {
  const auto it = times_.find(id);
  if (it == times_.end()) return std::nullopt;
  return it->second;
}

void TuneState::add(const std::string& id, const MeasuredTime& time, const std::string& what) {
  if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path());
  const nlohmann::ordered_json json{
      {"id", id}, {"us", time.us}, {"date", time.date}, {"what", what}};
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  file << (ends_in_half_a_line_ ? "\n" : "") + json.dump() + "\n" << std::flush;
  if (!file) throw Error("cannot write {}; name another file with --state", path_.string());
  ends_in_half_a_line_ = false;
  times_[id] = time;
}

}  // namespace nereid::measure
