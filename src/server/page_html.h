// Goal: the text of page/page.html, which the build embeds (page/embed.cmake).
#pragma once

#include <string_view>

namespace nereid::server {

extern const std::string_view kPageHtml;

}  // namespace nereid::server
