#include "ptx.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "names.h"

namespace nereid::ttir {

namespace {

struct Instruction {
  std::string_view spelling;
  std::string_view registers;
  std::string_view function;
};

constexpr std::array kInstructions = {
#define PTX_OP(spelling, registers, ...) Instruction{spelling, registers, #__VA_ARGS__},
#include "ptx.def"
#undef PTX_OP
};

constexpr std::size_t kMaxRegisters = 1000;

int bits_of(char letter) { return letter == 'h' ? 16 : letter == 'r' ? 32 : 64; }

std::string unsigned_type(int n_bits) { return fmt::format("std::uint{}_t", n_bits); }

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '$' || c == '%' || c == '-';
}

class Reader {
 public:
  Reader(std::string_view text, const std::vector<PtxRegister>& registers,
         const std::function<std::string(const std::string&)>& fresh,
         const std::function<void(const std::string&)>& fail)
      : text_(text), fresh_(fresh), fail_(fail) {
    for (std::size_t i = 0; i < registers.size(); ++i)
      registers_[fmt::format("${}", i)] = registers[i];
    next();
  }

  std::vector<std::string> run() {
    // Braces around the whole, or a part, are scopes: a name is declared once in all of them.
    while (!word_.empty()) {
      if (word_ == "{" || word_ == "}" || word_ == ";") {
        next();
      } else if (word_ == ".reg") {
        declaration();
      } else {
        instruction();
      }
    }
    return std::move(lines_);
  }

 private:
  // The next name, number or punctuation; empty at the end.
  void next() {
    for (;;) {
      while (at_ < text_.size() &&
             (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
        ++at_;
      if (text_.substr(at_).starts_with("//")) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (text_.substr(at_).starts_with("/*")) {
        const std::size_t end = text_.find("*/", at_);
        if (end == std::string_view::npos) fail_("a comment does not end");
        at_ = end + 2;
      } else {
        break;
      }
    }
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (at_ == begin && at_ < text_.size()) ++at_;
    word_ = text_.substr(begin, at_ - begin);
  }

  void expect(std::string_view word) {
    if (word_ != word)
      fail_(fmt::format("expected '{}', got '{}'", word, word_.empty() ? "the end" : word_));
    next();
  }

  // .reg .b32 a<2>, b;
  void declaration() {
    next();
    const std::string_view type = word_;
    next();
    int n_bits = 0;
    for (const auto& [name, n] : {std::pair{"8", 16}, {"16", 16}, {"32", 32}, {"64", 64}})
      if (type.size() > 2 && type[0] == '.' &&
          std::string_view("bsuf").find(type[1]) != type.npos && type.substr(2) == name)
        n_bits = n;
    if (type == ".f16x2" || type == ".bf16x2") n_bits = 32;
    if (n_bits == 0)
      fail_(
          fmt::format("registers of type {} are not supported; expected .b16, .b32 or .b64", type));
    do {
      if (word_ == ",") next();
      const std::string name(word_);
      if (name.empty() || name == ";") fail_("expected the name of a register");
      next();
      if (word_ != "<") {
        declare(name, n_bits);
        continue;
      }
      next();
      const std::size_t n = number(word_, 64);
      next();
      expect(">");
      if (n > kMaxRegisters)
        fail_(fmt::format("{} registers; expected {} or fewer", n, kMaxRegisters));
      for (std::size_t i = 0; i < n; ++i) declare(fmt::format("{}{}", name, i), n_bits);
    } while (word_ == ",");
    expect(";");
  }

  void declare(const std::string& name, int n_bits) {
    if (registers_.size() > kMaxRegisters)
      fail_(fmt::format("more than {} registers", kMaxRegisters));
    const PtxRegister made{fresh_("reg"), n_bits};
    if (!registers_.emplace(name, made).second) fail_(fmt::format("a second register {}", name));
    lines_.push_back(cat(unsigned_type(n_bits), " ", made.name, "{};"));
  }

  const PtxRegister& reg(std::string_view name) {
    const auto found = registers_.find(std::string(name));
    if (found == registers_.end()) fail_(fmt::format("there is no register {}", name));
    return found->second;
  }

  std::uint64_t number(std::string_view word, int n_bits) {
    std::string_view digits = word;
    const bool negative = digits.starts_with("-");
    if (negative) digits.remove_prefix(1);
    if (digits.ends_with("U") || digits.ends_with("u")) digits.remove_suffix(1);
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X") || digits.starts_with("0f") ||
        digits.starts_with("0F")) {  // 0f: the bits of an fp32
      digits.remove_prefix(2);
      base = 16;
    }
    std::uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    const bool fits = n_bits == 64 || value >> n_bits == 0;
    if (error != std::errc() || end != digits.data() + digits.size() || !fits)
      fail_(fmt::format("'{}' is no number of {} bits", word, n_bits));
    return negative ? 0 - value : value;
  }

  // A register or a number, as an expression of n bits.
  std::string operand(std::string_view word, int n_bits) {
    if (word.empty()) fail_("expected an operand, got the end");
    if (word == "%globaltimer" && n_bits == 64) return "rt::ptx::globaltimer()";
    const bool is_number = (word[0] >= '0' && word[0] <= '9') || word[0] == '-';
    if (is_number) {
      const std::uint64_t value = number(word, n_bits);
      const std::uint64_t mask =
          n_bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n_bits) - 1;
      return fmt::format("{}(0x{:x}u{})", unsigned_type(n_bits), value & mask,
                         n_bits == 64 ? "ll" : "");
    }
    if (word[0] == '%' && registers_.count(std::string(word)) == 0)
      fail_(fmt::format("there is no {} on a CPU", word));
    const PtxRegister& r = reg(word);
    if (r.n_bits != n_bits)
      fail_(fmt::format("{} has {} bits; expected {}", word, r.n_bits, n_bits));
    return r.name;
  }

  void instruction() {
    const std::string_view opcode = word_;
    if (opcode.starts_with("@")) fail_("predicates are not supported");
    next();
    const auto* row = std::find_if(kInstructions.begin(), kInstructions.end(),
                                   [&](const Instruction& r) { return r.spelling == opcode; });
    if (row == kInstructions.end()) {
      std::string known;
      for (const Instruction& r : kInstructions)
        known += cat(known.empty() ? "" : " ", std::string(r.spelling));
      fail_(fmt::format("{}: instruction not supported; there are {}", opcode, known));
    }
    std::vector<std::vector<std::string_view>> operands;  // several: {a, b}
    while (word_ != ";") {
      if (word_.empty() || operands.size() > 8) fail_(fmt::format("{}: expected ';'", opcode));
      if (!operands.empty()) expect(",");
      operands.emplace_back();
      if (word_ != "{") {
        operands.back().push_back(word_);
        next();
        continue;
      }
      do {
        next();
        operands.back().push_back(word_);
        next();
      } while (word_ == "," && operands.back().size() < 8);
      expect("}");
    }
    next();
    const std::string_view takes = row->registers.substr(2);
    if (operands.size() != takes.size() + 1)
      fail_(fmt::format("{}: {} operands; expected {}", opcode, operands.size(), takes.size() + 1));
    const bool is_vector = std::any_of(operands.begin(), operands.end(),
                                       [](const auto& words) { return words.size() != 1; });
    if (is_vector) {
      if (row->function != "copy" || operands.size() != 2)
        fail_(fmt::format("{}: registers in braces; expected them in mov", opcode));
      return packed(opcode, operands[0], operands[1], bits_of(takes[0]));
    }
    std::string function = cat("rt::ptx::", std::string(row->function));
    if (const std::size_t at = function.find('<'); at != std::string::npos)
      function.insert(at + 1, "rt::ptx::");
    std::string call = function + "(";
    for (std::size_t i = 0; i < takes.size(); ++i)
      call += cat(i == 0 ? "" : ", ", operand(operands[i + 1][0], bits_of(takes[i])));
    assign(operands[0][0], bits_of(row->registers[0]), call + ")");
  }

  void assign(std::string_view to, int n_bits, const std::string& value) {
    const PtxRegister& r = reg(to);
    if (r.n_bits != n_bits) fail_(fmt::format("{} has {} bits; expected {}", to, r.n_bits, n_bits));
    lines_.push_back(cat(r.name, " = ", value, ";"));
  }

  // mov.b32 {low, high}, a; mov.b32 a, {low, high};
  void packed(std::string_view opcode, const std::vector<std::string_view>& to,
              const std::vector<std::string_view>& from, int n_bits) {
    const bool unpacks = to.size() > 1;
    const auto& parts = unpacks ? to : from;
    const auto& whole = unpacks ? from : to;
    const int n_part = n_bits / static_cast<int>(parts.size());
    const bool fits = whole.size() == 1 && (parts.size() == 2 || parts.size() == 4) && n_part >= 8;
    if (!fits) fail_(fmt::format("{}: cannot move {} parts", opcode, parts.size()));
    const int n_register = std::max(n_part, 16);  // registers of 8 bits are kept in 16
    const std::string mask = fmt::format("0x{:x}u", (std::uint64_t{1} << n_part) - 1);
    std::string value;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::string shift = std::to_string(n_part * static_cast<int>(i));
      if (unpacks) {
        assign(parts[i], n_register,
               cat(unsigned_type(n_register), "(", operand(whole[0], n_bits), " >> ", shift, " & ",
                   mask, ")"));
      } else {
        value += cat(i == 0 ? "" : " | ", unsigned_type(n_bits), "(", operand(parts[i], n_register),
                     " & ", mask, ") << ", shift);
      }
    }
    if (!unpacks) assign(whole[0], n_bits, value);
  }

  std::string_view text_;
  const std::function<std::string(const std::string&)>& fresh_;
  const std::function<void(const std::string&)>& fail_;
  std::unordered_map<std::string, PtxRegister> registers_;
  std::vector<std::string> lines_;
  std::size_t at_ = 0;
  std::string_view word_;
};

}  // namespace

std::vector<std::string> ptx_lines(std::string_view text, const std::vector<PtxRegister>& registers,
                                   const std::function<std::string(const std::string&)>& fresh,
                                   const std::function<void(const std::string&)>& fail) {
  return Reader(text, registers, fresh, fail).run();
}

}  // namespace nereid::ttir
