// Goal: one call's JSON object, byte by byte: its name, and which bytes are its arguments.
// Non-goal: what stands around the object; keeping its bytes.
// Rejected: taking a call's id from it. It may stand behind the arguments, which are long passed
// on.
#pragma once

#include <cstdint>
#include <string>

#include "chat/output/json_scanner.h"
#include "chat/output/tool_format.h"

namespace nereid::chat {

class CallScanner {
 public:
  enum class Byte : std::uint8_t {
    broken,  // no call can go on so
    other,
    argument,  // one of the arguments' object
    last,      // of the call's object
  };

  explicit CallScanner(const ToolFormat& format) : format_(&format) {}

  Byte push(char byte);
  bool has_name() const { return !name_.empty(); }
  const std::string& name() const { return name_; }
  // Their object has begun; has ended.
  bool has_arguments() const { return arguments_ != Arguments::absent; }
  bool has_all_arguments() const { return arguments_ == Arguments::ended; }

 private:
  enum class Arguments : std::uint8_t { absent, open, ended };

  Byte begin_value(char byte);

  const ToolFormat* format_;
  JsonScanner json_;
  std::string token_;            // the key, or the name, as it is written
  bool collects_token_ = false;  // it is being read
  std::string key_;              // whose value comes
  std::string name_;
  bool had_arguments_key_ = false;
  Arguments arguments_ = Arguments::absent;
};

}  // namespace nereid::chat
