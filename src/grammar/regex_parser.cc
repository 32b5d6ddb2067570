#include "grammar/regex_parser.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar/character_set.h"
#include "tokenizer/utf8.h"

namespace nereid::grammar {

namespace {

constexpr std::uint32_t kUnbounded = UINT32_MAX;
constexpr int kMaxGroups = 100;  // inside one another: bounds recursion

struct RegexNode {
  enum class Kind { set, sequence, choice, repeat, text_begin, text_end };
  Kind kind;
  CharacterSet set = {};
  std::vector<std::size_t> parts = {};
  std::uint32_t least = 0;
  std::uint32_t most = 0;
};
using Kind = RegexNode::Kind;

class RegexReader {
 public:
  RegexReader(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {
    if (!tokenizer::is_valid_utf8(pattern)) throw Error("{}: the pattern is no valid UTF-8", where);
  }

  std::size_t read() {
    const std::size_t root = choice(0);
    if (at_ < pattern_.size()) fail("a ) without its (");
    return root;
  }
  std::vector<RegexNode> nodes;

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw Error("{}: {} at byte {} of the pattern \"{}\"", where_, what, at_,
                pattern_.substr(0, 200));
  }
  [[noreturn]] void unsupported(std::string_view what) const {
    fail(fmt::format("{} is not supported", what));
  }

  bool ends() const { return at_ >= pattern_.size(); }
  bool sees(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!sees(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t take_character() {
    const auto [code, size_bytes] = tokenizer::utf8_at(pattern_, at_);
    at_ += size_bytes;
    return code;
  }
  std::size_t add(RegexNode node) {
    nodes.push_back(std::move(node));
    return nodes.size() - 1;
  }

  std::size_t choice(int depth) {
    if (depth > kMaxGroups) fail("too many groups inside one another");
    std::vector<std::size_t> branches = {sequence(depth)};
    while (take("|")) branches.push_back(sequence(depth));
    if (branches.size() == 1) return branches[0];
    return add({.kind = Kind::choice, .parts = std::move(branches)});
  }

  std::size_t sequence(int depth) {
    std::vector<std::size_t> parts;
    while (!ends() && !sees("|") && !sees(")")) {
      const std::size_t atom = read_atom(depth);
      const bool repeats =
          nodes[atom].kind != Kind::text_begin && nodes[atom].kind != Kind::text_end;
      const auto counts = read_counts();
      if (counts && !repeats) fail("nothing to repeat");
      parts.push_back(counts ? add({.kind = Kind::repeat,
                                    .parts = {atom},
                                    .least = counts->first,
                                    .most = counts->second})
                             : atom);
    }
    return add({.kind = Kind::sequence, .parts = std::move(parts)});
  }

  std::optional<std::uint32_t> read_number() {
    std::uint64_t number = 0;
    const std::size_t begin = at_;
    for (; !ends() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_)
      number = std::min<std::uint64_t>(
          number * 10 + static_cast<std::uint64_t>(pattern_[at_] - '0'), kUnbounded - 1);
    if (at_ == begin) return std::nullopt;
    return static_cast<std::uint32_t>(number);
  }

  std::optional<std::pair<std::uint32_t, std::uint32_t>> read_counts() {
    std::pair<std::uint32_t, std::uint32_t> counts;
    const std::size_t begin = at_;
    if (take("*")) {
      counts = {0, kUnbounded};
    } else if (take("+")) {
      counts = {1, kUnbounded};
    } else if (take("?")) {
      counts = {0, 1};
    } else if (take("{")) {
      const auto least = read_number();
      const bool is_range = take(",");
      const auto most = is_range ? read_number() : least;
      if (!least || !take("}")) {
        at_ = begin;  // a brace that stands for itself
        return std::nullopt;
      }
      counts = {*least, most.value_or(kUnbounded)};
      if (counts.second < counts.first) fail("a repetition {n,m} with n > m");
    } else {
      return std::nullopt;
    }
    if (sees("+")) unsupported("a possessive quantifier");
    take("?");  // lazy: which texts match is the same
    if (sees("*") || sees("+") || sees("?")) fail("nothing to repeat");
    return counts;
  }

  std::size_t read_atom(int depth) {
    if (take("^")) return add({.kind = Kind::text_begin});
    if (take("$")) return add({.kind = Kind::text_end});
    if (take(".")) return add({.kind = Kind::set, .set = all_but_line_ends()});
    if (sees("*") || sees("+") || sees("?")) fail("nothing to repeat");
    if (sees("[")) return add({.kind = Kind::set, .set = read_class()});
    if (take("(")) {
      if (take("?")) open_group();
      const std::size_t inside = choice(depth + 1);
      if (!take(")")) fail("a ( without its )");
      return inside;
    }
    CharacterSet set;
    if (sees("\\")) {
      if (auto named = read_named_set())
        set = *std::move(named);
      else
        add_one(set, read_escape(false));
    } else {
      add_one(set, take_character());
    }
    return add({.kind = Kind::set, .set = std::move(set)});
  }

  void open_group() {
    if (take(":")) return;
    if (sees("=") || sees("!")) unsupported("a look-ahead (?= (?!");
    if (sees("<=") || sees("<!")) unsupported("a look-behind (?<= (?<!");
    if (!take("<") && !take("P<")) unsupported("a group (? of this kind");
    const std::size_t end = pattern_.find('>', at_);
    if (end == std::string_view::npos) fail("a group's name without its >");
    at_ = end + 1;
  }

  static void add_one(CharacterSet& set, char32_t c) { set.add(c, c); }

  // \d and the like, where one stands here.
  std::optional<CharacterSet> read_named_set() {
    struct Row {
      char letter;
      const CharacterSet& (*set)();
    };
    static constexpr Row kRows[] = {{'d', digits}, {'w', word_characters}, {'s', white_space}};
    const char letter = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    for (const Row& row : kRows) {
      if (letter != row.letter && letter != row.letter - 32) continue;
      at_ += 2;
      return letter == row.letter ? row.set() : row.set().others();
    }
    return std::nullopt;
  }

  char32_t read_hex(std::size_t n_digits) {
    char32_t code = 0;
    for (std::size_t i = 0; i < n_digits; ++i, ++at_) {
      const char digit = ends() ? '\0' : pattern_[at_];
      if (digit >= '0' && digit <= '9')
        code = code * 16 + static_cast<char32_t>(digit - '0');
      else if ((digit | 32) >= 'a' && (digit | 32) <= 'f')
        code = code * 16 + static_cast<char32_t>((digit | 32) - 'a' + 10);
      else
        fail("an escape without its hexadecimal digits");
    }
    return code;
  }

  // The character of an escape, which stands here.
  char32_t read_escape(bool in_class) {
    ++at_;
    if (ends()) fail("a \\ at the end");
    const char32_t letter = take_character();
    switch (letter) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'x':
        return read_hex(2);
      case 'u':
        return read_unicode_escape();
      case '0':
        if (!ends() && pattern_[at_] >= '0' && pattern_[at_] <= '9') unsupported("an octal escape");
        return 0;
      case 'b':
        if (in_class) return '\b';
        unsupported("\\b");
      case 'c': {
        const char control = ends() ? '\0' : static_cast<char>(pattern_[at_] | 32);
        if (control < 'a' || control > 'z') fail("\\c without its letter");
        ++at_;
        return static_cast<char32_t>(control - 'a' + 1);
      }
      default:
        break;
    }
    if (letter >= '1' && letter <= '9') unsupported("a back reference");
    if ((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))
      unsupported(fmt::format("\\{}", static_cast<char>(letter)));
    return letter;
  }

  char32_t read_unicode_escape() {
    if (take("{")) {
      const std::size_t end = pattern_.find('}', at_);
      if (end == std::string_view::npos || end == at_ || end - at_ > 6)
        fail("\\u{...} without one to six digits");
      const char32_t code = read_hex(end - at_);
      ++at_;
      if (code > kLastCharacter) fail("\\u{...} past U+10FFFF");
      return code;
    }
    const char32_t code = read_hex(4);
    if (code < 0xD800 || code > 0xDBFF || !sees("\\u")) return code;
    const std::size_t begin = at_;
    at_ += 2;
    const char32_t low = sees("{") ? 0 : read_hex(4);
    if (low >= 0xDC00 && low <= kLastSurrogate)
      return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    at_ = begin;
    return code;
  }

  CharacterSet read_class() {
    ++at_;
    const bool is_negated = take("^");
    if (sees("]")) unsupported("a class [] or [^]");
    CharacterSet set;
    while (true) {
      if (ends()) fail("a [ without its ]");
      if (take("]")) break;
      if (sees("[:") || sees("[=") || sees("[.")) unsupported("a class [: [= [.");
      if (auto named = read_named_set()) {
        set.add(*named);
        continue;
      }
      const char32_t first = class_character();
      char32_t last = first;
      if (sees("-") && !sees("-]")) {
        ++at_;
        if (ends()) fail("a [ without its ]");
        const std::size_t begin = at_;
        if (read_named_set()) {
          at_ = begin;
          unsupported("a range that ends in a set");
        }
        last = class_character();
        if (last < first) fail("a range whose end comes before its begin");
      }
      set.add(first, last);
    }
    return is_negated ? set.others() : set;
  }
  char32_t class_character() { return sees("\\") ? read_escape(true) : take_character(); }

  std::string_view pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
};

// Thompson's construction, then subsets. A step without a character may ask to be at the text's
// begin or end.
class RegexCompiler {
 public:
  RegexCompiler(const std::vector<RegexNode>& nodes, const Limits& limits, const std::string& where)
      : nodes_(nodes), limits_(limits), where_(where) {}

  Automaton compile(std::size_t root, RegexUse use) {
    const CharacterSet any = {{0, kLastCharacter}};
    const std::size_t start = new_state();
    const std::size_t end = new_state();
    std::size_t entry = start;
    if (use == RegexUse::search) {
      states_[start].steps.push_back({any, start});
      states_[end].steps.push_back({any, end});
    }
    entry = emit(root, start);
    states_[entry].free.push_back(end);
    end_ = end;
    return subsets(start);
  }

 private:
  struct Step {
    CharacterSet set;
    std::size_t to;
  };
  struct NfaState {
    std::vector<Step> steps = {};
    std::vector<std::size_t> free = {};
    std::vector<std::size_t> at_begin = {};
    std::vector<std::size_t> at_end = {};
  };

  void count_work(std::size_t n) {
    work_ += n;
    // A subset has a few dozen members at most in patterns that people write.
    if (work_ > limits_.n_automaton_states * 100)
      throw Error("{}: the pattern takes more work than allowed; make its repetitions smaller",
                  where_);
  }
  std::size_t new_state() {
    if (states_.size() >= limits_.n_regex_nodes)
      throw Error(
          "{}: the pattern has more than {} parts with its repetitions written out; make "
          "them smaller",
          where_, limits_.n_regex_nodes);
    states_.emplace_back();
    return states_.size() - 1;
  }

  // Appends what `node` matches behind `from`; returns where it ends.
  std::size_t emit(std::size_t index, std::size_t from) {
    count_work(1);
    const RegexNode& node = nodes_[index];
    switch (node.kind) {
      case Kind::set: {
        const std::size_t to = new_state();
        states_[from].steps.push_back({node.set, to});
        return to;
      }
      case Kind::text_begin:
      case Kind::text_end: {
        const std::size_t to = new_state();
        auto& edges = node.kind == Kind::text_begin ? states_[from].at_begin : states_[from].at_end;
        edges.push_back(to);
        return to;
      }
      case Kind::sequence: {
        for (const std::size_t part : node.parts) from = emit(part, from);
        return from;
      }
      case Kind::choice: {
        const std::size_t to = new_state();
        for (const std::size_t part : node.parts) {
          const std::size_t begin = new_state();
          states_[from].free.push_back(begin);
          const std::size_t end = emit(part, begin);
          states_[end].free.push_back(to);
        }
        return to;
      }
      case Kind::repeat:
        return emit_repeat(node, from);
    }
    NEREID_UNREACHABLE("a regular expression's node");
  }

  std::size_t emit_repeat(const RegexNode& node, std::size_t from) {
    for (std::uint32_t i = 0; i < node.least; ++i) from = emit(node.parts[0], from);
    if (node.most == kUnbounded) {
      const std::size_t loop = new_state();
      states_[from].free.push_back(loop);
      const std::size_t end = emit(node.parts[0], loop);
      states_[end].free.push_back(loop);
      return loop;
    }
    const std::size_t to = new_state();
    for (std::uint32_t i = node.least; i < node.most; ++i) {
      states_[from].free.push_back(to);
      const std::size_t begin = new_state();  // what loops inside one round stays inside it
      states_[from].free.push_back(begin);
      from = emit(node.parts[0], begin);
    }
    states_[from].free.push_back(to);
    return to;
  }

  using Subset = std::vector<std::size_t>;  // sorted

  Subset closure(Subset from, bool at_begin, bool at_end) {
    std::vector<bool>& seen = seen_;
    seen.assign(states_.size(), false);
    Subset open = std::move(from);
    Subset out;
    for (const std::size_t state : open) seen[state] = true;
    while (!open.empty()) {
      const std::size_t state = open.back();
      open.pop_back();
      out.push_back(state);
      const auto follow = [&](const std::vector<std::size_t>& edges) {
        for (const std::size_t to : edges) {
          if (seen[to]) continue;
          seen[to] = true;
          open.push_back(to);
        }
      };
      follow(states_[state].free);
      if (at_begin) follow(states_[state].at_begin);
      if (at_end) follow(states_[state].at_end);
    }
    count_work(out.size() + states_.size() / 64);
    std::sort(out.begin(), out.end());
    return out;
  }

  Automaton subsets(std::size_t first) {
    AutomatonBuilder builder(limits_.n_automaton_states, where_ + ": the pattern");
    std::map<Subset, std::uint32_t> known;
    std::vector<Subset> open;
    const auto state_of = [&](Subset subset, bool at_begin) {
      subset = closure(std::move(subset), at_begin, false);
      // The first state is told apart: only there a ^ may still match.
      if (at_begin) subset.push_back(states_.size());
      const auto [found, is_new] = known.try_emplace(subset, 0);
      if (is_new) {
        if (at_begin) subset.pop_back();
        const Subset last = closure(subset, at_begin, true);
        found->second =
            builder.add_state(std::binary_search(last.begin(), last.end(), end_) ? 1 : 0);
        open.push_back(found->first);
      }
      return found->second;
    };
    const std::uint32_t start = state_of({first}, true);
    while (!open.empty()) {
      Subset subset = std::move(open.back());
      open.pop_back();
      const std::uint32_t from = known.at(subset);
      if (subset.back() == states_.size()) subset.pop_back();
      std::set<char32_t> begins;
      std::size_t n_ranges = 0;
      for (const std::size_t state : subset) {
        for (const Step& step : states_[state].steps) {
          n_ranges += step.set.ranges().size();
          for (const auto& range : step.set.ranges()) {
            begins.insert(range.first);
            begins.insert(range.last + 1);
          }
        }
      }
      count_work(n_ranges);
      std::map<char32_t, std::set<std::size_t>> targets;
      for (const char32_t begin : begins) targets[begin];
      for (const std::size_t state : subset) {
        for (const Step& step : states_[state].steps) {
          for (const auto& range : step.set.ranges()) {
            for (auto at = targets.find(range.first); at->first <= range.last; ++at) {
              count_work(1);
              at->second.insert(step.to);
            }
          }
        }
      }
      for (auto at = targets.begin(); at != targets.end() && std::next(at) != targets.end(); ++at) {
        if (at->second.empty()) continue;
        const std::uint32_t to = state_of({at->second.begin(), at->second.end()}, false);
        builder.add_edge(from, at->first, std::next(at)->first - 1, to);
      }
    }
    return builder.build(start);
  }

  const std::vector<RegexNode>& nodes_;
  const Limits& limits_;
  const std::string& where_;
  std::vector<NfaState> states_;
  std::vector<bool> seen_;
  std::size_t end_ = 0;
  std::size_t work_ = 0;
};

}  // namespace

Automaton parse_regex(std::string_view pattern, RegexUse use, const Limits& limits,
                      const std::string& where) {
  if (pattern.size() > limits.text_bytes)
    throw Error("{}: the pattern has {} bytes; expected at most {}", where, pattern.size(),
                limits.text_bytes);
  RegexReader reader(pattern, where);
  const std::size_t root = reader.read();
  return RegexCompiler(reader.nodes, limits, where).compile(root, use);
}

}  // namespace nereid::grammar
