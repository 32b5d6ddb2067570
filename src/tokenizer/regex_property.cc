#include "tokenizer/regex_property.h"

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cctype>

namespace nereid::tokenizer {

namespace {

#define NEREID_WORD R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})"

struct Row {
  std::string_view name;  // lower case, without spaces, hyphens and underscores
  std::string_view body;
  bool is_negated = false;
};

// The long names of the general categories (PropertyValueAliases.txt of Unicode).
constexpr std::array kCategories = {
    Row{"other", R"(\p{C})"},
    Row{"control", R"(\p{Cc})"},
    Row{"format", R"(\p{Cf})"},
    Row{"unassigned", R"(\p{Cn})"},
    Row{"privateuse", R"(\p{Co})"},
    Row{"surrogate", R"(\p{Cs})"},
    Row{"letter", R"(\p{L})"},
    Row{"lc", R"(\p{Lu}\p{Ll}\p{Lt})"},
    Row{"l&", R"(\p{Lu}\p{Ll}\p{Lt})"},
    Row{"casedletter", R"(\p{Lu}\p{Ll}\p{Lt})"},
    Row{"lowercaseletter", R"(\p{Ll})"},
    Row{"modifierletter", R"(\p{Lm})"},
    Row{"otherletter", R"(\p{Lo})"},
    Row{"titlecaseletter", R"(\p{Lt})"},
    Row{"uppercaseletter", R"(\p{Lu})"},
    Row{"mark", R"(\p{M})"},
    Row{"combiningmark", R"(\p{M})"},
    Row{"spacingmark", R"(\p{Mc})"},
    Row{"enclosingmark", R"(\p{Me})"},
    Row{"nonspacingmark", R"(\p{Mn})"},
    Row{"number", R"(\p{N})"},
    Row{"decimalnumber", R"(\p{Nd})"},
    Row{"letternumber", R"(\p{Nl})"},
    Row{"othernumber", R"(\p{No})"},
    Row{"punctuation", R"(\p{P})"},
    Row{"connectorpunctuation", R"(\p{Pc})"},
    Row{"dashpunctuation", R"(\p{Pd})"},
    Row{"closepunctuation", R"(\p{Pe})"},
    Row{"finalpunctuation", R"(\p{Pf})"},
    Row{"initialpunctuation", R"(\p{Pi})"},
    Row{"otherpunctuation", R"(\p{Po})"},
    Row{"openpunctuation", R"(\p{Ps})"},
    Row{"symbol", R"(\p{S})"},
    Row{"currencysymbol", R"(\p{Sc})"},
    Row{"modifiersymbol", R"(\p{Sk})"},
    Row{"mathsymbol", R"(\p{Sm})"},
    Row{"othersymbol", R"(\p{So})"},
    Row{"separator", R"(\p{Z})"},
    Row{"lineseparator", R"(\p{Zl})"},
    Row{"paragraphseparator", R"(\p{Zp})"},
    Row{"spaceseparator", R"(\p{Zs})"},
};

// POSIX's names, as Oniguruma means them for Unicode.
constexpr std::array kPosix = {
    Row{"alpha", R"(\p{Alphabetic})"},
    Row{"digit", R"(\p{Nd})"},
    Row{"alnum", R"(\p{Alphabetic}\p{Nd})"},
    Row{"space", R"(\p{White_Space})"},
    Row{"upper", R"(\p{Uppercase})"},
    Row{"lower", R"(\p{Lowercase})"},
    Row{"word", NEREID_WORD},
    Row{"xdigit", "0-9a-fA-F"},
    Row{"punct", R"(\p{P}\p{S})"},  // \p{Punct} is without the symbols
    Row{"cntrl", R"(\p{Cc})"},
    Row{"blank", R"(\p{Zs}\t)"},
    Row{"ascii", R"(\x00-\x7F)"},
    Row{"graph", R"(\p{White_Space}\p{Cc}\p{Cn}\p{Cs})", true},
    Row{"print", R"(\p{Zl}\p{Zp}\p{Cc}\p{Cn}\p{Cs})", true},
};

template <typename Table>
std::optional<PlainSet> find(const Table& table, std::string_view name) {
  for (const Row& row : table)
    if (row.name == name) return PlainSet{std::string(row.body), row.is_negated};
  return std::nullopt;
}

// As Unicode compares names of properties and their values.
std::string loose(std::string_view name) {
  std::string text;
  for (const char c : name)
    if (c != ' ' && c != '_' && c != '-') text += char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::optional<PlainSet> known_to_pcre2(const std::string& name) {
  for (const char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != ':') return std::nullopt;
  const std::string body = "\\p{" + name + "}";
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(body.data()), body.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code == nullptr) return std::nullopt;
  pcre2_code_free(code);
  return PlainSet{body};
}

std::optional<PlainSet> category_set(const std::string& name) {
  if (auto found = find(kCategories, name)) return found;
  constexpr std::string_view kClasses = "clmnpsz";
  if (name.empty() || name.size() > 2 || kClasses.find(name[0]) == std::string_view::npos)
    return std::nullopt;
  std::string canonical = name;
  canonical[0] = char(std::toupper(static_cast<unsigned char>(name[0])));
  return known_to_pcre2(canonical);
}

}  // namespace

std::optional<PlainSet> property_set(std::string_view name) {
  if (const std::size_t at = name.find_first_of("=:"); at != std::string_view::npos) {
    const std::string property = loose(name.substr(0, at));
    const std::string value = loose(name.substr(at + 1));
    if (property == "gc" || property == "generalcategory") return category_set(value);
    if (property == "sc" || property == "script") return known_to_pcre2("sc:" + value);
    if (property == "scx" || property == "scriptextensions") return known_to_pcre2("scx:" + value);
    return std::nullopt;
  }
  const std::string plain = loose(name);
  if (auto found = category_set(plain)) return found;
  if (plain == "punct") return PlainSet{R"(\p{P})"};
  if (plain == "assigned") return PlainSet{R"(\P{Cn})"};
  if (auto found = find(kPosix, plain)) return found;
  // PCRE2 means the extensions of a script by its bare name.
  if (auto found = known_to_pcre2("sc:" + plain)) return found;
  return known_to_pcre2(plain);
}

std::optional<PlainSet> posix_set(std::string_view name) { return find(kPosix, name); }

std::optional<PlainSet> escaped_set(char letter) {
  switch (letter) {
    case 's':
    case 'S':
      return PlainSet{R"(\p{White_Space})", letter == 'S'};
    case 'd':
    case 'D':
      return PlainSet{R"(\p{Nd})", letter == 'D'};
    case 'w':
    case 'W':
      return PlainSet{NEREID_WORD, letter == 'W'};
    case 'h':
    case 'H':
      return PlainSet{"0-9a-fA-F", letter == 'H'};
    default:
      return std::nullopt;
  }
}

#undef NEREID_WORD

}  // namespace nereid::tokenizer
