// Goal: a line a request on stderr, for people or as JSON.
// Non-goal: what a request held: prompts and answers are the users'.
#pragma once

#include "server/http/message.h"

namespace nereid::server {

class AccessLog {
 public:
  AccessLog(bool is_on, bool is_json) : is_on_(is_on), is_json_(is_json) {}

  void write(const HttpRequest& request, int status, double seconds) const;

 private:
  bool is_on_, is_json_;
};

}  // namespace nereid::server
