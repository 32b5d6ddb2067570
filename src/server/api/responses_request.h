// Goal: what POST /v1/responses asks for, in the chat API's fields.
// Non-goal: the answer (responses.cc); what is kept between requests: nothing is.
// Rejected: an error for tools that the server would have to run (a search of the web). Clients
// send them along with their own; they are dropped, and that is logged.
#pragma once

#include <map>
#include <string>

#include "server/fields.h"
#include "server/serving.h"

namespace nereid::server {

// A tool that clients know otherwise than the model does: of a namespace, whose name the model
// sees before the tool's, or custom: called with a text, in place of JSON.
struct ClientTool {
  std::string name_space, name;
  bool is_custom = false;
};

struct ResponsesRequest {
  OrderedJson chat = {};                                      // as plan_chat() reads it
  std::map<std::string, ClientTool, std::less<>> tools = {};  // by the name that the model sees
  OrderedJson echo = {};  // what the response repeats of the request
};

// Throws ApiError.
ResponsesRequest read_responses_request(const OrderedJson& body, Serving& serving);

}  // namespace nereid::server
