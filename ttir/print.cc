#include <algorithm>
#include <charconv>
#include <cmath>

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "forms.h"
#include "ir.h"

namespace nereid::ttir {
namespace {

using Spellings = std::vector<std::string_view>;

bool is_word(std::string_view text) {
  if (text.empty() || text == "true" || text == "false" || text == "array" || text == "dense") {
    return false;
  }
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    const bool later = (c >= '0' && c <= '9') || c == '.' || c == '$';
    if (!letter && !(later && &c != text.data())) return false;
  }
  return true;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    if (plain)
      out += c;
    else
      out += fmt::format("\\{:02X}", static_cast<unsigned char>(c));
  }
  return out + "\"";
}

// MLIR's way: six digits where they say the number, else as many as the type needs, always with a
// point.
std::string float_text(double value, Scalar scalar) {
  const auto says = [&](const std::string& text) {
    double read = 0;
    std::from_chars(text.data(), text.data() + text.size(), read);
    return round_to(read, scalar) == value;
  };
  std::string text = fmt::format("{:.6e}", value);
  if (!says(text)) text = fmt::format("{:.8e}", value);
  if (!says(text)) text = fmt::format("{:.16e}", value);
  return text;
}

std::string list_text(const std::vector<std::int64_t>& list) {
  return fmt::format("[{}]", fmt::join(list, ", "));
}

class Printer {
 public:
  std::string module(const Module& module) {
    line("module {");
    for (const auto& function : module.functions) print_function(*function);
    line("}");
    return std::move(out_);
  }

 private:
  void line(std::string_view text) {
    out_.append(static_cast<std::size_t>(indent_) * 2, ' ');
    out_ += text;
    out_ += '\n';
  }

  static std::string name(const Value& value) {
    std::string text = "%" + value.name;
    if (const std::size_t colon = text.find(':'); colon != std::string::npos) text[colon] = '#';
    return text;
  }

  static std::string typed_args(const Block& block) {
    std::string text;
    for (const auto& arg : block.args) {
      text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", name(*arg), type_text(arg->type));
    }
    return text;
  }

  static std::string operands(const Op& op, std::size_t first = 0) {
    std::string text;
    for (std::size_t i = first; i < op.operands.size(); ++i) {
      text += (i > first ? ", " : "") + name(*op.operands[i]);
    }
    return text;
  }

  static std::string operand_types(const Op& op, std::size_t first = 0) {
    std::string text;
    for (std::size_t i = first; i < op.operands.size(); ++i) {
      text += (i > first ? ", " : "") + type_text(op.operands[i]->type);
    }
    return text;
  }

  // `(T, U)`, or without parentheses for a single one where `bare`.
  static std::string result_types(const Op& op, bool bare) {
    std::string text;
    for (const auto& result : op.results) {
      text += (text.empty() ? "" : ", ") + type_text(result->type);
    }
    return bare && op.results.size() == 1 ? text : "(" + text + ")";
  }

  // `%5:2 = `: results named 5:0, 5:1 are written as one group.
  static std::string result_names(const Op& op) {
    std::string text;
    for (std::size_t i = 0; i < op.results.size();) {
      const std::string& first = op.result(i)->name;
      const std::size_t colon = first.find(':');
      std::size_t n = 1;
      if (colon != std::string::npos) {
        while (i + n < op.results.size() &&
               op.result(i + n)->name == fmt::format("{}:{}", first.substr(0, colon), n)) {
          ++n;
        }
      }
      text += fmt::format("{}%{}", i > 0 ? ", " : "", first.substr(0, colon));
      if (colon != std::string::npos) text += fmt::format(":{}", n);
      i += n;
    }
    return text.empty() ? text : text + " = ";
  }

  // The dictionary of the attributes that the form has not written in a place of their own.
  static std::string attributes(const Op& op, const Spellings& written) {
    std::string text;
    for (const auto& [key, value] : op.attrs) {
      if (std::find(written.begin(), written.end(), key) != written.end()) continue;
      text += (text.empty() ? "" : ", ") + (is_word(key) ? key : quoted(key)) + " = ";
      if (const auto* integer = std::get_if<std::int64_t>(&value)) {
        text += std::to_string(*integer);
      } else if (const auto* number = std::get_if<double>(&value)) {
        text += float_text(*number, Scalar::f64);
      } else if (const auto* word = std::get_if<std::string>(&value)) {
        text += is_word(*word) ? *word : quoted(*word);
      } else {
        text += list_text(std::get<std::vector<std::int64_t>>(value));
      }
    }
    return text.empty() ? text : " {" + text + "}";
  }

  static std::string constant_text(const Op& op) {
    const Type& type = op.result()->type;
    const Attr& value = *op.attr("value");
    std::string text;
    if (const auto* number = std::get_if<double>(&value)) {
      text = std::isfinite(*number)
                 ? float_text(*number, type.scalar)
                 : fmt::format("0x{:0{}X}", bits_of_special(*number, type.scalar),
                               bit_width(type.scalar) / 4);
    } else {
      const std::int64_t integer = std::get<std::int64_t>(value);
      text =
          type.scalar == Scalar::i1 ? (integer != 0 ? "true" : "false") : std::to_string(integer);
    }
    if (type.is_tensor()) text = "dense<" + text + ">";
    return text + " : " + type_text(type);
  }

  void print_function(const Function& function) {
    ++indent_;
    std::string args;
    for (std::size_t i = 0; i < function.body->args.size(); ++i) {
      const Value& arg = *function.body->args[i];
      args += fmt::format("{}{}: {}", i > 0 ? ", " : "", name(arg), type_text(arg.type));
      if (function.arg_divisibility[i] != 1) {
        args += fmt::format(" {{tt.divisibility = {} : i32}}", function.arg_divisibility[i]);
      }
    }
    const std::string symbol = is_word(function.name) ? function.name : quoted(function.name);
    line(fmt::format("tt.func public @{}({}) {{", symbol, args));
    print_body(*function.body, false);
    line("}");
    --indent_;
  }

  void print_body(const Block& block, bool may_omit_yield) {
    ++indent_;
    for (const auto& op : block.ops) {
      const bool is_empty_yield = op->kind == OpKind::scf_yield && op->operands.empty();
      if (!(may_omit_yield && is_empty_yield && op->attrs.empty())) print_op(*op);
    }
    --indent_;
  }

  void print_labelled(const Block& block) {
    if (!block.args.empty()) line(fmt::format("^bb0({}):", typed_args(block)));
    print_body(block, false);
  }

  void print_op(const Op& op) {
    const std::string head = result_names(op) + std::string(op_spelling(op.kind));
    switch (op_form(op.kind)) {
      case Form::for_loop:
        return print_for(op, head);
      case Form::if_else:
        return print_if(op, head);
      case Form::while_loop:
        return print_while(op, head);
      case Form::generic:
      case Form::call:
        return print_generic(op);
      default:
        line(head + pretty_rest(op));
    }
  }

  static std::string pretty_rest(const Op& op) {
    const auto plain = [&](std::string_view types) {
      return fmt::format(" {}{} : {}", operands(op), attributes(op, {}), types);
    };
    const auto operand_type = [&](std::size_t i) { return type_text(op.operands[i]->type); };
    switch (op_form(op.kind)) {
      case Form::same:
      case Form::load:
      case Form::store:
      case Form::unsplat:
        return plain(operand_type(0));
      case Form::convert:
        return plain(operand_type(0) + " to " + result_types(op, true));
      case Form::arrow:
        return plain(operand_type(0) + " -> " + type_text(op.result()->type));
      case Form::addptr:
        return plain(operand_types(op));
      case Form::select: {
        const bool is_scalar = !op.operands[0]->type.is_tensor();
        return plain(is_scalar ? operand_type(1) : operand_type(0) + ", " + operand_type(1));
      }
      case Form::gather:
        return fmt::format(" {}[{}]{} : ({}) -> {}", name(*op.operands[0]), name(*op.operands[1]),
                           attributes(op, {}), operand_types(op), result_types(op, true));
      case Form::histogram:
        return plain(operand_type(0) + " -> " + result_types(op, true));
      case Form::print: {
        const std::string head = " " + quoted(op.word_attr("prefix", ""));
        const std::string rest = attributes(op, {"prefix", "isSigned"});
        const auto* is_signed = std::get_if<std::vector<std::int64_t>>(op.attr("isSigned"));
        std::string flags = is_signed == nullptr || is_signed->empty()
                                ? "array<i32>"
                                : fmt::format("array<i32: {}>", fmt::join(*is_signed, ", "));
        flags = (rest.empty() ? " {" : rest.substr(0, rest.size() - 1) + ", ") +
                "isSigned = " + flags + "}";
        const std::string head_and_flags = head + flags;
        if (op.operands.empty()) return head_and_flags;
        return fmt::format("{} : {} : {}", head_and_flags, operands(op), operand_types(op));
      }
      case Form::assertion:
        return fmt::format(" {}, {}{} : {}", operands(op), quoted(op.word_attr("message", "")),
                           attributes(op, {"message"}), operand_types(op));
      case Form::functional:
        return plain(fmt::format("({}) -> {}", operand_types(op), result_types(op, true)));
      case Form::dot:
        return plain(
            fmt::format("{} * {} -> {}", operand_type(0), operand_type(1), result_types(op, true)));
      case Form::dot_scaled: {
        const std::int64_t scales = op.int_attr("scales", 0);
        std::size_t next = 3;
        std::string values, types;
        for (std::size_t side = 0; side < 2; ++side) {
          values += " " + name(*op.operands[side]);
          types += (side > 0 ? " * " : "") + operand_type(side);
          if ((scales >> side & 1) != 0) {
            values += " scale " + name(*op.operands[next]);
            types += ", " + operand_type(next++);
          }
          values += ",";
        }
        return fmt::format("{} {}{} : {} -> {}", values, name(*op.operands[2]),
                           attributes(op, {"scales"}), types, result_types(op, true));
      }
      case Form::inline_asm: {
        const std::string head =
            fmt::format(" {}{}", quoted(op.word_attr("asm", "")), attributes(op, {"asm"}));
        std::string results;
        for (const auto& result : op.results)
          results += (results.empty() ? "" : ", ") + type_text(result->type);
        if (op.operands.empty()) return fmt::format("{} -> {}", head, results);
        return fmt::format("{} {} : {} -> {}", head, operands(op), operand_types(op), results);
      }
      case Form::compare:
        return fmt::format(" {}, {}{} : {}", op.word_attr("predicate", ""), operands(op),
                           attributes(op, {"predicate"}), operand_type(0));
      case Form::atomic:
        return fmt::format(" {}{}{}, {}, {}{} : ({}) -> {}", op.word_attr("rmw_op", ""),
                           op.kind == OpKind::atomic_rmw ? ", " : "", op.word_attr("sem", ""),
                           op.word_attr("scope", ""), operands(op),
                           attributes(op, {"rmw_op", "sem", "scope"}), operand_types(op),
                           result_types(op, true));
      case Form::produce:
        return fmt::format("{} : {}", attributes(op, {}), result_types(op, true));
      case Form::program_id:
        return fmt::format(" {}{} : {}", "xyz"[op.int_attr("axis", 0)], attributes(op, {"axis"}),
                           result_types(op, true));
      case Form::constant:
        return attributes(op, {"value"}) + " " + constant_text(op);
      case Form::condition:
        if (op.operands.size() == 1) {
          return fmt::format("({}){}", name(*op.operands[0]), attributes(op, {}));
        }
        return fmt::format("({}) {}{} : {}", name(*op.operands[0]), operands(op, 1),
                           attributes(op, {}), operand_types(op, 1));
      case Form::statement:
        return op.operands.empty() ? attributes(op, {}) : plain(operand_types(op));
      case Form::barrier:
        return attributes(op, {});
      default:
        break;
    }
    NEREID_UNREACHABLE("no pretty form for {}", op_spelling(op.kind));
  }

  static std::string assignments(const Op& op, std::size_t first_operand, std::size_t first_arg) {
    const Block& block = *op.regions[0]->block;
    std::string text;
    for (std::size_t i = 0; first_operand + i < op.operands.size(); ++i) {
      text += fmt::format("{}{} = {}", i > 0 ? ", " : "", name(*block.args[first_arg + i]),
                          name(*op.operands[first_operand + i]));
    }
    return text;
  }

  void print_for(const Op& op, const std::string& head) {
    const Block& block = *op.regions[0]->block;
    std::string text =
        fmt::format("{} {} = {} to {} step {}", head, name(*block.args[0]), name(*op.operands[0]),
                    name(*op.operands[1]), name(*op.operands[2]));
    if (!op.results.empty()) {
      text += fmt::format(" iter_args({}) -> {}", assignments(op, 3, 1), result_types(op, false));
    }
    line(text + " : " + type_text(block.args[0]->type) + " {");
    print_body(block, true);
    line("}" + attributes(op, {}));
  }

  void print_if(const Op& op, const std::string& head) {
    const std::string types = op.results.empty() ? "" : " -> " + result_types(op, false);
    line(head + " " + name(*op.operands[0]) + types + " {");
    print_body(*op.regions[0]->block, true);
    if (op.regions.size() > 1) {
      line("} else {");
      print_body(*op.regions[1]->block, true);
    }
    line("}" + attributes(op, {}));
  }

  void print_while(const Op& op, const std::string& head) {
    const std::string inits = op.operands.empty() ? "" : " (" + assignments(op, 0, 0) + ")";
    line(fmt::format("{}{} : ({}) -> {} {{", head, inits, operand_types(op),
                     result_types(op, true)));
    print_body(*op.regions[0]->block, false);
    line("} do {");
    print_labelled(*op.regions[1]->block);
    const std::string rest = attributes(op, {});
    line(rest.empty() ? "}" : "} attributes" + rest);
  }

  void print_generic(const Op& op) {
    const std::string properties = attributes(op, {});
    line(fmt::format("{}\"{}\"({}){} ({{", result_names(op), op_spelling(op.kind), operands(op),
                     properties.empty() ? "" : " <" + properties.substr(1) + ">"));
    print_labelled(*op.regions[0]->block);
    line(fmt::format("}}) : ({}) -> {}", operand_types(op), result_types(op, true)));
  }

  std::string out_;
  int indent_ = 0;
};

}  // namespace

std::string print(const Module& module) { return Printer().module(module); }

}  // namespace nereid::ttir
