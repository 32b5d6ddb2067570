#include "chat/jinja/parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "chat/jinja/expression_parser.h"
#include "chat/jinja/token_stream.h"

namespace nereid::chat::jinja {

namespace {

using Names = std::initializer_list<std::string_view>;

class Parser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits)
      : tokens_(std::move(tokens)), limits_(limits), expressions_(tokens_, limits) {}

  Block run() {
    Block block = statements({});
    if (!tokens_.at(TokenKind::kEnd)) tokens_.fail("the end of the template");
    return block;
  }

 private:
  // Up to `{% NAME` of one of `ends`, or to the end of the source where there are none.
  Block statements(Names ends) {
    const Nesting nesting(depth_, limits_.depth, "blocks");
    Block block;
    const int begin_line = tokens_.line();
    while (true) {
      if (tokens_.at(TokenKind::kEnd)) {
        if (ends.size() == 0) return block;
        throw Error("line {}: the template ends before {{% {} %}}", begin_line, *ends.begin());
      }
      if (tokens_.at(TokenKind::kData)) {
        Statement data = make(StatementKind::kData);
        data.text = tokens_.next().text;
        block.push_back(std::move(data));
      } else if (tokens_.at(TokenKind::kVariableBegin)) {
        tokens_.next();
        Statement output = make(StatementKind::kOutput);
        output.expr = expressions_.tuple(true);
        tokens_.expect(TokenKind::kVariableEnd, "}}");
        block.push_back(std::move(output));
      } else {
        tokens_.expect(TokenKind::kBlockBegin, "{%");
        const std::string& name = tokens_.current().text;
        if (tokens_.at(TokenKind::kName) && std::find(ends.begin(), ends.end(), name) != ends.end())
          return block;
        block.push_back(statement());
      }
    }
  }

  // Behind the end's name: "%}".
  void end_tag() { tokens_.expect(TokenKind::kBlockEnd, "%}"); }
  Block body(Names ends) {
    end_tag();
    return statements(ends);
  }

  Statement make(StatementKind kind) const {
    Statement made;
    made.kind = kind;
    made.line = tokens_.line();
    return made;
  }

  Statement statement() {
    const Token name = tokens_.expect(TokenKind::kName, "the name of a statement");
    if (name.text == "if") return if_statement();
    if (name.text == "for") return for_loop();
    if (name.text == "set") return set();
    if (name.text == "macro") return macro();
    if (name.text == "filter") return filter_block();
    if (name.text == "generation") return generation();
    if (name.text == "break" || name.text == "continue") {
      if (loops_ == 0) throw Error("line {}: '{}' stands outside of a loop", name.line, name.text);
      Statement made =
          make(name.text == "break" ? StatementKind::kBreak : StatementKind::kContinue);
      end_tag();
      return made;
    }
    throw Error("line {}: the statement {{% {} %}} is not supported here", name.line, name.text);
  }

  Statement if_statement() {
    Statement made = make(StatementKind::kIf);
    made.expr = expressions_.tuple(false);
    ++expressions_.conditions;
    made.body = body({"endif", "else", "elif"});
    const std::string end = tokens_.next().text;
    if (end == "elif") {
      const Nesting nesting(elifs_, kMaxElifs, "elif");
      made.otherwise.push_back(if_statement());
      --expressions_.conditions;
      return made;
    }
    if (end == "else") {
      made.otherwise = body({"endif"});
      tokens_.next();
    }
    --expressions_.conditions;
    end_tag();
    return made;
  }

  Statement for_loop() {
    Statement made = make(StatementKind::kFor);
    made.target = target(false);
    if (!tokens_.skip_name("in")) tokens_.fail("in");
    made.expr = expressions_.tuple(false, "recursive");
    if (tokens_.skip_name("if")) made.test = expressions_.expression();
    if (tokens_.at_name("recursive"))
      throw Error("line {}: a recursive loop is not supported", tokens_.line());
    ++loops_;
    made.body = body({"endfor", "else"});
    --loops_;
    if (tokens_.next().text == "else") {
      made.otherwise = body({"endfor"});
      tokens_.next();
    }
    end_tag();
    return made;
  }

  Target one_target(bool with_attribute) {
    Target made;
    if (tokens_.skip_operator("(")) {
      const Nesting nesting(depth_, limits_.depth, "targets");
      made = target(with_attribute);
      tokens_.expect_operator(")");
      return made;
    }
    const int line = tokens_.line();
    made.name = tokens_.expect(TokenKind::kName, "a name").text;
    constexpr std::array<std::string_view, 6> kConstants = {"true", "false", "none",
                                                            "True", "False", "None"};
    if (std::find(kConstants.begin(), kConstants.end(), made.name) != kConstants.end())
      throw Error("line {}: '{}' cannot be assigned to", line, made.name);
    if (with_attribute && tokens_.skip_operator("."))
      made.attribute = tokens_.expect(TokenKind::kName, "the name of an attribute").text;
    return made;
  }

  Target target(bool with_attribute) {
    Target first = one_target(with_attribute);
    if (!tokens_.at_operator(",")) return first;
    Target tuple;
    tuple.is_tuple = true;
    tuple.parts.push_back(std::move(first));
    while (tokens_.skip_operator(",")) {
      if (!tokens_.at(TokenKind::kName) && !tokens_.at_operator("(")) break;
      if (tokens_.at_name("in")) break;
      tuple.parts.push_back(one_target(with_attribute));
    }
    return tuple;
  }

  Statement set() {
    Statement made = make(StatementKind::kSet);
    made.target = target(true);
    if (tokens_.skip_operator("=")) {
      made.expr = expressions_.tuple(true);
      end_tag();
      return made;
    }
    made.kind = StatementKind::kSetBlock;
    made.expr = expressions_.filters(nullptr, true);
    made.body = closed_body("endset");
    return made;
  }

  Block closed_body(std::string_view end) {
    // A function of its own, or a part put aside: a loop outside of it cannot be left from here.
    const int loops = std::exchange(loops_, 0);
    Block block = body({end});
    loops_ = loops;
    tokens_.next();
    end_tag();
    return block;
  }

  Statement filter_block() {
    Statement made = make(StatementKind::kFilter);
    made.expr = expressions_.filters(nullptr, false);
    made.body = closed_body("endfilter");
    return made;
  }

  Statement generation() {
    Statement made = make(StatementKind::kGeneration);
    made.body = closed_body("endgeneration");
    return made;
  }

  Statement macro() {
    Statement made = make(StatementKind::kMacro);
    made.text = tokens_.expect(TokenKind::kName, "the macro's name").text;
    tokens_.expect_operator("(");
    ++expressions_.macros;
    while (!tokens_.at_operator(")")) {
      if (!made.parameters.empty()) tokens_.expect_operator(",");
      if (tokens_.at_operator(")")) break;
      Parameter parameter;
      parameter.name = tokens_.expect(TokenKind::kName, "a parameter").text;
      if (tokens_.skip_operator("="))
        parameter.fallback = expressions_.expression();
      else if (!made.parameters.empty() && made.parameters.back().fallback)
        tokens_.fail("a default, as the parameter before has one");
      made.parameters.push_back(std::move(parameter));
    }
    tokens_.expect_operator(")");
    made.body = closed_body("endmacro");
    --expressions_.macros;
    return made;
  }

  // Chains of elif are parsed one inside the other.
  static constexpr int kMaxElifs = 200;

  TokenStream tokens_;
  const Limits& limits_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int elifs_ = 0;
  int loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source, const Limits& limits) {
  return Parser(read_tokens(source, limits), limits).run();
}

}  // namespace nereid::chat::jinja
