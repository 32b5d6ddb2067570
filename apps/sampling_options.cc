#include "apps/sampling_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <variant>
#include <vector>

#include "apps/checks.h"
#include "base/usage_error.h"
#include "engine/sampling_params.h"

namespace nereid::apps {

namespace {

template <typename Range, typename T>
void set_checked(T& to, const Range& range, const std::string& name, const std::string& value) {
  if (const std::string wrong = in_range(range)(const_cast<std::string&>(value)); !wrong.empty())
    throw UsageError("{} {}", name, wrong);
  CLI::detail::lexical_cast(value, to);
}

}  // namespace

void add_sampling_options(CLI::App& command, Request& request) {
  command.add_option("-n,--max-tokens", request.max_tokens, "Longest answer, in tokens")
      ->check(in_range(engine::ranges::kMaxTokens))
      ->capture_default_str()
      ->group(kAnswerGroup);
  for (const engine::SamplingParam& param : engine::kSamplingParams) {
    std::string flag = "--" + std::string(param.name);
    std::ranges::replace(flag, '_', '-');
    std::visit(
        [&](const auto& field) {
          command.add_option(flag, request.sampling.*field.member, param.help)
              ->check(in_range(field.range))
              ->capture_default_str()
              ->group(kAnswerGroup);
        },
        param.field);
  }
}

void set_sampling(Request& request, const std::string& name, const std::string& value) {
  std::vector<std::string_view> names{"max_tokens", "seed"};
  if (name == "max_tokens")
    return set_checked(request.max_tokens, engine::ranges::kMaxTokens, name, value);
  if (name == "seed") {
    std::uint64_t seed = 0;
    set_checked(seed, engine::ranges::kSeed, name, value);
    request.sampling.seed = seed;
    return;
  }
  for (const engine::SamplingParam& param : engine::kSamplingParams) {
    names.push_back(param.name);
    if (param.name != name) continue;
    std::visit(
        [&](const auto& field) {
          set_checked(request.sampling.*field.member, field.range, name, value);
        },
        param.field);
    return;
  }
  throw UsageError("\"{}\" cannot be set; expected one of {}", name, fmt::join(names, ", "));
}

std::string sampling_text(const Request& request) {
  std::string text = fmt::format("max_tokens {}", request.max_tokens);
  if (request.sampling.seed) text += fmt::format(", seed {}", *request.sampling.seed);
  for (const engine::SamplingParam& param : engine::kSamplingParams)
    std::visit(
        [&](const auto& field) {
          text += fmt::format(", {} {}", param.name, request.sampling.*field.member);
        },
        param.field);
  return text;
}

}  // namespace nereid::apps
