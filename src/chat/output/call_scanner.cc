#include "chat/output/call_scanner.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace nereid::chat {

namespace {

// What a string of JSON says; nothing where it says no Unicode text.
std::optional<std::string> said_by(const std::string& token) {
  const auto json = nlohmann::json::parse(token, nullptr, false);
  if (!json.is_string()) return {};
  return json.get<std::string>();
}

}  // namespace

CallScanner::Byte CallScanner::push(char byte) {
  const std::size_t depth = json_.depth();
  const JsonScanner::Byte role = json_.push(byte);
  if (role == JsonScanner::Byte::broken) return Byte::broken;
  if (depth == 0) return byte == '{' ? Byte::other : Byte::broken;
  if (json_.is_complete()) return Byte::last;
  if (arguments_ == Arguments::open) {
    if (json_.depth() == 1) arguments_ = Arguments::ended;
    return Byte::argument;
  }
  if (collects_token_) token_ += byte;
  if (depth != 1) return Byte::other;
  if (role == JsonScanner::Byte::key_starts) {
    token_ = byte;
    collects_token_ = true;
  } else if (role == JsonScanner::Byte::value_starts) {
    return begin_value(byte);
  } else if (collects_token_ &&
             (role == JsonScanner::Byte::key_ends || role == JsonScanner::Byte::value_ends)) {
    collects_token_ = false;
    const auto said = said_by(token_);
    if (!said) return Byte::broken;
    if (role == JsonScanner::Byte::key_ends) {
      key_ = *said;
    } else {
      name_ = *said;
      if (name_.empty()) return Byte::broken;
    }
  }
  return Byte::other;
}

CallScanner::Byte CallScanner::begin_value(char byte) {
  if (key_ == format_->name_key) {
    if (byte != '"' || has_name()) return Byte::broken;
    token_ = byte;
    collects_token_ = true;
  } else if (key_ == format_->arguments_key) {
    // Arguments of null are as none: the functions without parameters are called so, too.
    if ((byte != '{' && byte != 'n') || std::exchange(had_arguments_key_, true))
      return Byte::broken;
    if (byte == '{') {
      arguments_ = Arguments::open;
      return Byte::argument;
    }
  }
  return Byte::other;
}

}  // namespace nereid::chat
