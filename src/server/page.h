// Goal: the page at "/", one file with all that it needs.
#pragma once

#include "server/http/message.h"

namespace nereid::server {

HttpReply page_reply();

}  // namespace nereid::server
