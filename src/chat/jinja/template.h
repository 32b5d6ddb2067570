// Goal: a Jinja template: parsed once, rendered often.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "chat/jinja/budget.h"
#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

// Immutable: any number of threads may render at the same time.
class Template {
 public:
  // `where` is what an Error calls the template.
  static Template parse(std::string_view source, const std::string& where,
                        const Limits& limits = {});
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // `context`: its variables. The runtime is made with limits() and used once.
  Text render(Runtime& runtime, const Dict& context) const;
  const Limits& limits() const;
  bool uses_name(std::string_view name) const;  // see inspect.h
  bool loops_over(std::string_view key) const;

 private:
  struct Parts;
  explicit Template(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

// What raise_exception throws: the template's words are for the caller, its line is not.
class Refusal : public Error {
 public:
  using Error::Error;
};

}  // namespace nereid::chat::jinja
