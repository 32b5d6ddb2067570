// Goal: recursive descent over the pretty form of Triton IR, one class read in four files:
// parser.cc (regions, functions), parse_forms.cc (operations), parse_values.cc (types,
// attributes, constants) and parse_calls.cc (functions that are called).
// Non-goal: judging what was read beyond what reading needs; verify.cc does.
// Rejected: backtracking: every form is decided by its next token.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "forms.h"
#include "ir.h"
#include "lexer.h"
#include "structure.h"

namespace nereid::ttir {

class Parser {
 public:
  Parser(std::string_view text, const std::string& where);
  std::unique_ptr<Module> module();

 private:
  struct ResultName {
    std::string name;
    std::size_t n_results = 0;  // 0: one result, written without a number
  };
  using Types = std::vector<Type>;

  // Tokens.
  void advance() { token_ = lexer_.next(); }
  bool at(std::string_view punctuation) const;
  bool at_word(std::string_view word) const;
  bool accept(std::string_view punctuation);
  bool accept_word(std::string_view word);
  void expect(std::string_view punctuation);
  void expect_word(std::string_view word);
  std::string take(TokenKind kind, std::string_view what);
  std::string got() const;
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(token_.line, fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void fail_at(int line, const std::string& message) const;

  // parse_values.cc: types, attributes, constants.
  Type type();
  Type element_type();
  Types types_in_parentheses();
  Types result_types();
  Types type_list();
  std::size_t skip_balanced(std::string_view opening, std::string_view closing);
  std::string skip_value();
  std::string skip_element();
  void skip_location();
  void skip_attribute_type();
  std::int64_t integer();
  Attr number();
  Attr attribute_value();
  Attr integer_list(std::string_view closing);
  void attribute(Op& op);
  void attribute_dictionary(Op& op);
  void cache_policy(Op& op);
  void put(Op& op, std::string name, Attr value);
  void constant(Op& op);
  Attr constant_as(const Attr& value, std::string_view text, int line, Scalar scalar) const;

  // parse_forms.cc: operations.
  void pretty_form(Op& op);
  void generic_form(Op& op);
  void for_loop(Op& op);
  void if_else(Op& op);
  void while_loop(Op& op);
  void loop_attributes(Op& op);
  void dot_scaled(Op& op);
  void inline_asm(Op& op);
  void operands_with_tail(Op& op);
  void tail(Op& op);

  // parser.cc: structure.
  std::unique_ptr<Function> function();
  void function_arguments(Function& function);
  void top_level(Module& module);
  std::unique_ptr<Op> operation(Block& block);
  std::vector<ResultName> result_names();
  Block& region(Op& op, std::vector<std::pair<std::string, Type>> args);
  void block_label(Block& block);
  void block_body(Block& block);
  std::unique_ptr<Block> blocks(std::unique_ptr<Block> entry);
  void branch(BasicBlock& from);
  Edge edge();
  bool at_branch() const { return at_word("cf.br") || at_word("cf.cond_br"); }

  // parse_calls.cc: the body of a function where it is called.
  bool at_private_function() const;
  bool skip_private_function();
  void find_functions();
  void call(Op& op);
  std::unique_ptr<Block> inlined(int line, const std::string& name,
                                 const std::vector<Value*>& values, const Types& results);

  // Operands, results, names.
  Value* use();
  void operands(Op& op);
  void add_result(Op& op, Type type);
  void check_operand(const Op& op, std::size_t i, const Type& type) const;
  void check_operands(const Op& op, const Types& types) const;
  void define(Value* value);
  Value* add_argument(Block& block, std::string name, Type type);
  void close_scope(std::size_t n_names);

  Lexer lexer_;
  Token token_;
  std::unordered_map<std::string, Value*> names_;
  std::vector<std::string>
      scope_;           // names in order of definition: a region's are taken back at its end
  std::string kernel_;  // for messages
  std::string op_name_;
  int nesting_ = 0;
  // A place to read on from.
  struct Place {
    Lexer lexer;
    Token token;
  };
  std::unordered_map<std::string, Place> functions_;  // private ones, behind their names
  std::vector<std::string> calling_;                  // innermost last
  std::size_t n_calls_ = 0;
  std::size_t n_called_bytes_ = 0;
  std::string suffix_;  // of the names in the function being called: each call has its own
};

}  // namespace nereid::ttir
