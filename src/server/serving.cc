#include "server/serving.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "engine/service_impl.h"
#include "server/error_body.h"

namespace nereid::server {

namespace {

constexpr std::size_t kMaxUnknownNames = 1000;
constexpr std::size_t kMaxNameBytes = 64;

}  // namespace

bool UnknownFields::count(const std::string& name) {
  const std::string key = name.substr(0, kMaxNameBytes);
  const std::scoped_lock lock(mutex_);
  const auto it = counts_.find(key);
  if (it != counts_.end()) {
    ++it->second;
    return false;
  }
  if (counts_.size() < kMaxUnknownNames) counts_.emplace(key, 1);
  return true;
}

std::map<std::string, std::int64_t> UnknownFields::counts() const {
  const std::scoped_lock lock(mutex_);
  return counts_;
}

Serving::Serving(ServerOptions options, std::unique_ptr<Service> service)
    : options_(std::move(options)),
      service_(std::move(service)),
      fingerprint_("nereid-" + options_.version),
      started_s_(std::chrono::duration_cast<std::chrono::seconds>(
                     std::chrono::system_clock::now().time_since_epoch())
                     .count()) {
  // A file that was given is read at once, so that what is wrong with it is said at the start.
  if (!options_.chat_template.empty())
    template_ = chat::ChatTemplate::load(options_.model_dir, options_.chat_template);
}

const tokenizer::Tokenizer& Serving::tokenizer() const {
  const auto& model = Service::Impl::of(*service_).core.model();
  if (!model.tokenizer)
    throw ApiError(400, "the model has no tokenizer.json; send prompts as token ids");
  return *model.tokenizer;
}

const chat::ChatTemplate& Serving::chat_template() const {
  const auto& tokens = tokenizer();
  std::call_once(template_read_, [&] {
    if (template_) return;
    template_ = chat::ChatTemplate::load(options_.model_dir, tokens);
    if (template_->is_fallback())
      fmt::print(stderr,
                 "nereid: the model has no chat template: messages are put together in a general "
                 "form; --chat-template FILE gives it one\n");
  });
  return *template_;
}

std::int64_t Serving::kv_block_tokens() const {
  if (service_->status().state != ServiceState::ready) return 0;
  return Service::Impl::of(*service_).core.model().runner->limits().block_tokens;
}

void Serving::check_model(std::string_view name) const {
  const auto& names = options_.model_names;
  if (std::ranges::find(names, name) != names.end()) return;
  throw ApiError(404,
                 fmt::format("there is no model \"{}\" here; this server has \"{}\"", name,
                             fmt::join(names, "\", \"")),
                 "model", "model_not_found");
}

}  // namespace nereid::server
