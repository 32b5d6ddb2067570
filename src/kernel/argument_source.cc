#include "kernel/argument_source.h"

#include <array>
#include <charconv>
#include <utility>

#include "base/error.h"

namespace nereid::kernel {

namespace {

using Kind = ArgumentSource::Kind;

constexpr std::array<std::pair<std::string_view, Kind>, 7> kWhole{
    {{"step.rows", Kind::class_rows},
     {"step.uneven", Kind::class_uneven},
     {"step.max_query", Kind::max_query},
     {"step.decodes", Kind::decodes},
     {"step.is_decode", Kind::is_decode},
     {"scratch", Kind::scratch},
     {"counter", Kind::counter}}};

constexpr std::array<std::pair<std::string_view, Kind>, 4> kSizes{{{".rows", Kind::rows},
                                                                   {".elements", Kind::elements},
                                                                   {".stride", Kind::stride},
                                                                   {".group", Kind::group}}};

bool is_name(std::string_view text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") == std::string_view::npos;
}

}  // namespace

ArgumentSource ArgumentSource::parse(std::string_view text, const std::string& where) {
  const auto named = [&](Kind kind, std::string_view name) {
    if (!is_name(name)) throw Error("{}: \"{}\" is no source of an argument", where, text);
    return ArgumentSource{kind, std::string(name), 0, {}};
  };
  for (const auto& [whole, kind] : kWhole)
    if (text == whole) return {kind, {}, 0, {}};
  if (text.starts_with("has(") && text.ends_with(')'))
    return named(Kind::presence, text.substr(4, text.size() - 5));
  if (text.starts_with('@')) {
    constexpr std::string_view kEqual = " == ";
    constexpr std::string_view kNonzero = " != 0";
    if (text.ends_with(kNonzero))
      return named(Kind::is_nonzero, text.substr(1, text.size() - 1 - kNonzero.size()));
    constexpr std::string_view kTakes = " takes ";
    if (const auto at = text.find(kTakes);
        at != std::string_view::npos && text.size() == at + kTakes.size() + 1) {
      auto source = named(Kind::takes, text.substr(1, at - 1));
      source.index = text.back() - '0';
      return source;
    }
    const auto equal = text.find(kEqual);
    if (equal == std::string_view::npos) return named(Kind::attribute, text.substr(1));
    auto source = named(Kind::is_value, text.substr(1, equal - 1));
    source.value = text.substr(equal + kEqual.size());
    return source;
  }
  for (const auto& [suffix, kind] : kSizes)
    if (text.ends_with(suffix)) return named(kind, text.substr(0, text.size() - suffix.size()));
  if (const auto bracket = text.find('['); bracket != std::string_view::npos) {
    auto source = named(Kind::dimension, text.substr(0, bracket));
    const auto* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + bracket + 1, end, source.index);
    if (error != std::errc{} || std::string_view(rest, end) != "]")
      throw Error("{}: \"{}\" is no source of an argument", where, text);
    return source;
  }
  return named(Kind::value, text);
}

}  // namespace nereid::kernel
