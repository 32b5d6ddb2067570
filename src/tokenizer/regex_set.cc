#include "tokenizer/regex_set.h"

#include <cctype>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/regex_property.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

namespace {

constexpr int kMaxDepth =
    32;  // of classes in classes; stops a hostile file from using up the stack
constexpr std::string_view kAnyCharacter = "(?s:.)";
constexpr std::string_view kNoCharacter = "(?!)";

// What matches one character of the set.
std::string emit(const PlainSet& set) {
  if (set.body.empty()) return std::string(set.is_negated ? kAnyCharacter : kNoCharacter);
  return (set.is_negated ? "[^" : "[") + set.body + "]";
}

// [...] as it is read: the characters that are in each operand of &&, or all others.
struct Class {
  struct Operand {
    std::string body;             // of items that a plain class may hold
    std::vector<PlainSet> plain;  // others that are plain classes themselves
    std::vector<std::string> others;
  };
  std::vector<Operand> operands = {{}};
  bool is_negated = false;
};

std::optional<PlainSet> as_plain(Class::Operand operand) {
  if (!operand.others.empty()) return std::nullopt;
  if (operand.plain.empty()) return PlainSet{operand.body};
  if (operand.plain.size() == 1 && operand.body.empty()) return operand.plain[0];
  for (const PlainSet& set : operand.plain) {
    if (set.is_negated) return std::nullopt;
    operand.body += set.body;
  }
  return PlainSet{operand.body};
}

// The body of a class of all characters that are not in `set`, where it is easily written.
std::optional<std::string> complement(const PlainSet& set) {
  if (set.is_negated) return set.body;
  const bool is_property = set.body.starts_with("\\p{") || set.body.starts_with("\\P{");
  if (!is_property || set.body.find('}') + 1 != set.body.size()) return std::nullopt;
  std::string other = set.body;
  other[1] = other[1] == 'p' ? 'P' : 'p';
  return other;
}

std::optional<PlainSet> as_plain(const Class& set) {
  if (set.operands.size() == 1) {
    auto plain = as_plain(set.operands[0]);
    if (plain) plain->is_negated ^= set.is_negated;
    return plain;
  }
  // What is in all of them is not in any one's complement: a plain class is quicker than looking
  // ahead.
  PlainSet outside{"", !set.is_negated};
  for (const auto& operand : set.operands) {
    const auto plain = as_plain(operand);
    const auto others = plain ? complement(*plain) : std::nullopt;
    if (!others) return std::nullopt;
    outside.body += *others;
  }
  return outside;
}

std::string emit(const Class::Operand& operand) {
  if (const auto plain = as_plain(operand)) return emit(*plain);
  std::string branches;
  const auto add = [&](const std::string& branch) {
    branches += (branches.empty() ? "" : "|") + branch;
  };
  if (!operand.body.empty()) add(emit(PlainSet{operand.body}));
  for (const PlainSet& set : operand.plain) add(emit(set));
  for (const std::string& other : operand.others) add(other);
  return "(?:" + branches + ")";
}

std::string emit(const Class& set) {
  if (const auto plain = as_plain(set)) return emit(*plain);
  std::string all;
  for (std::size_t i = 0; i + 1 < set.operands.size(); ++i)
    all += "(?=" + emit(set.operands[i]) + ")";
  all += emit(set.operands.back());
  if (set.is_negated) return "(?:(?!" + all + ")" + std::string(kAnyCharacter) + ")";
  return "(?:" + all + ")";
}

class ClassReader {
 public:
  ClassReader(const RegexSource& source, std::size_t at) : source_(source), at_(at) {}

  std::size_t at() const { return at_; }

  // [...] of which the [ is at hand.
  Class read_class() {
    if (++depth_ > kMaxDepth) source_.unsupported("classes nested too deep");
    Class set;
    ++at_;
    if (starts("^")) {
      set.is_negated = true;
      ++at_;
    }
    bool is_first = true;
    while (!starts("]") || is_first) {
      if (at_ == source_.pattern.size()) source_.unsupported("a [ without its ]");
      is_first = false;
      if (starts("&&")) {
        at_ += 2;
        set.operands.emplace_back();
      } else {
        read_item(set.operands.back());
      }
    }
    ++at_;
    --depth_;
    return set;
  }

  // \p{...}, \w and the like; none for other escapes.
  std::optional<PlainSet> read_escaped_set() {
    const std::string_view rest = source_.from(at_);
    if (rest.size() < 2) source_.unsupported("a lone backslash at its end");
    if ((rest[1] == 'p' || rest[1] == 'P') && rest.substr(2).starts_with('{'))
      return read_property();
    auto set = escaped_set(rest[1]);
    if (set) at_ += 2;
    return set;
  }

 private:
  bool starts(std::string_view text) const { return source_.from(at_).starts_with(text); }

  PlainSet read_property() {
    const std::string_view rest = source_.from(at_);
    const std::string_view whole = rest.substr(0, rest.find('}') + 1);
    if (whole.empty()) source_.unsupported("a \\p{ without its }");
    std::string_view name = whole.substr(3, whole.size() - 4);
    bool is_negated = rest[1] == 'P';
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    auto set = property_set(name);
    if (!set) source_.unsupported(whole);
    set->is_negated ^= is_negated;
    at_ += whole.size();
    if (set->is_negated)
      if (const auto others = complement({set->body})) return {*others};
    return *set;
  }

  void read_item(Class::Operand& operand) {
    if (starts("--[")) source_.unsupported("a subtraction (--) inside [...]");
    if (starts("[:")) {
      read_posix(operand);
    } else if (starts("[")) {
      const Class nested = read_class();
      if (auto plain = as_plain(nested))
        operand.plain.push_back(std::move(*plain));
      else
        operand.others.push_back(emit(nested));
    } else if (auto set = starts("\\") ? read_escaped_set() : std::nullopt) {
      if (set->is_negated)
        operand.plain.push_back(std::move(*set));
      else
        operand.body += set->body;
    } else {
      operand.body += read_character();
      const std::string_view rest = source_.from(at_);
      const bool is_range = rest.size() > 1 && rest[0] == '-' && rest[1] != ']' && rest[1] != '[' &&
                            !rest.starts_with("-&&");
      if (!is_range) return;
      ++at_;
      if (starts("\\"))
        if (const std::size_t begin = at_; read_escaped_set())
          source_.unsupported(
              fmt::format("{} at the end of a range", source_.pattern.substr(begin, at_ - begin)));
      operand.body += '-' + read_character();
    }
  }

  void read_posix(Class::Operand& operand) {
    const std::string_view rest = source_.from(at_);
    const std::size_t end = rest.find(":]");
    if (end == std::string_view::npos) source_.unsupported("a [: without its :]");
    std::string_view name = rest.substr(2, end - 2);
    const bool is_negated = name.starts_with('^');
    if (is_negated) name.remove_prefix(1);
    auto set = posix_set(name);
    if (!set) source_.unsupported(rest.substr(0, end + 2));
    set->is_negated ^= is_negated;
    operand.plain.push_back(std::move(*set));
    at_ += end + 2;
  }

  // One character as the inside of a class writes it.
  std::string read_character() {
    if (!starts("\\")) {
      const std::size_t size_bytes = utf8_at(source_.pattern, at_).size_bytes;
      std::string text(source_.pattern.substr(at_, size_bytes));
      at_ += size_bytes;
      constexpr std::string_view kMeaning = "]^-[&";
      return kMeaning.find(text) == std::string_view::npos ? text : "\\" + text;
    }
    return read_escaped_character(source_, at_);
  }

 private:
  const RegexSource& source_;
  std::size_t at_;
  int depth_ = 0;
};

}  // namespace

void RegexSource::unsupported(std::string_view what) const {
  throw Error("{}: the regular expression \"{}\" uses {}, which is not supported", where, pattern,
              what);
}

std::optional<std::string> read_set(const RegexSource& source, std::size_t& at) {
  ClassReader reader(source, at);
  std::optional<std::string> text;
  if (source.from(at).starts_with('[')) {
    text = emit(reader.read_class());
  } else if (source.from(at).starts_with('\\')) {
    if (const auto set = reader.read_escaped_set()) text = emit(*set);
  }
  at = reader.at();
  return text;
}

std::string read_escaped_character(const RegexSource& source, std::size_t& at) {
  const std::string_view rest = source.from(at);
  if (rest.size() < 2) source.unsupported("a lone backslash at its end");
  if (rest[1] == 'Q' || rest[1] == 'E') source.unsupported(rest.substr(0, 2));
  if (rest[1] == 'v') {  // PCRE2's \v is every vertical space
    at += 2;
    return "\\x0B";
  }
  if (rest[1] == 'u') {
    const std::string_view digits = rest.substr(2, 4);
    bool is_complete = digits.size() == 4;
    for (const char digit : digits)
      is_complete = is_complete && std::isxdigit(static_cast<unsigned char>(digit)) != 0;
    if (!is_complete) source.unsupported("an incomplete \\u");
    at += 6;
    return "\\x{" + std::string(digits) + "}";
  }
  std::size_t size_bytes = 1 + utf8_at(source.pattern, at + 1).size_bytes;
  if (rest[1] == 'x') {
    if (rest.substr(2).starts_with('{')) {
      size_bytes = rest.find('}') + 1;
      if (size_bytes == 0) source.unsupported("a \\x{ without its }");
    } else {
      while (size_bytes < 4 && size_bytes < rest.size() &&
             std::isxdigit(static_cast<unsigned char>(rest[size_bytes])) != 0)
        ++size_bytes;
    }
  } else if (std::isdigit(static_cast<unsigned char>(rest[1])) != 0) {
    while (size_bytes < 4 && size_bytes < rest.size() && rest[size_bytes] >= '0' &&
           rest[size_bytes] <= '7')
      ++size_bytes;
  }
  at += size_bytes;
  return std::string(rest.substr(0, size_bytes));
}

}  // namespace nereid::tokenizer
