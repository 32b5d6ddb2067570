#include "server/page.h"

#include <fmt/format.h>

#include <random>
#include <string>
#include <string_view>

#include "server/page_html.h"

namespace nereid::server {

namespace {

constexpr std::string_view kNoncePlace = "{{nonce}}";  // as page.html has it

// Nobody who can only add to the page's text can guess it.
std::string random_nonce() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

}  // namespace

HttpReply page_reply() {
  const std::string nonce = random_nonce();
  std::string page(kPageHtml);
  for (auto at = page.find(kNoncePlace); at != std::string::npos; at = page.find(kNoncePlace, at))
    page.replace(at, kNoncePlace.size(), nonce);
  // Nothing is loaded from elsewhere, nothing but this server is spoken to, no text becomes HTML.
  return {.body = std::move(page),
          .content_type = "text/html; charset=utf-8",
          .headers = {{"Content-Security-Policy",
                       fmt::format("default-src 'none'; script-src 'nonce-{0}'; "
                                   "style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
                                   "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                                   "require-trusted-types-for 'script'",
                                   nonce)},
                      {"X-Content-Type-Options", "nosniff"},
                      {"X-Frame-Options", "DENY"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-store"}}};  // the nonce serves once
}

}  // namespace nereid::server
