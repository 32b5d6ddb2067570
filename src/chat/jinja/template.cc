#include "chat/jinja/template.h"

#include "chat/jinja/evaluator.h"
#include "chat/jinja/inspect.h"
#include "chat/jinja/parser.h"
#include "tokenizer/utf8.h"

namespace nereid::chat::jinja {

namespace {

// Messages quote the template by bytes, which may end within a character.
std::string whole_characters(const Error& error) { return tokenizer::to_valid_utf8(error.what()); }

}  // namespace

struct Template::Parts {
  std::string where;
  Limits limits;
  Block block;
};

Template::Template(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

Template Template::parse(std::string_view source, const std::string& where, const Limits& limits) {
  try {
    return Template(
        std::make_unique<const Parts>(Parts{where, limits, parse_template(source, limits)}));
  } catch (const Error& error) {
    throw Error("{}: {}", where, whole_characters(error));
  }
}

bool Template::uses_name(std::string_view name) const {
  return jinja::uses_name(parts_->block, name);
}

bool Template::loops_over(std::string_view key) const {
  return jinja::loops_over(parts_->block, key);
}

const Limits& Template::limits() const { return parts_->limits; }

Text Template::render(Runtime& runtime, const Dict& context) const {
  Evaluator evaluator(runtime, context);
  try {
    return evaluator.run(parts_->block);
  } catch (const Refusal&) {
    throw;
  } catch (const Error& error) {
    throw Error(error.code(), "{} line {}: {}", parts_->where, evaluator.line(),
                whole_characters(error));
  }
}

}  // namespace nereid::chat::jinja
