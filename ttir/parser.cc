#include "parser.h"

#include <algorithm>
#include <array>

namespace nereid::ttir {
namespace {

constexpr std::size_t kMaxResults = 1024;
constexpr std::size_t kMaxText_bytes = std::size_t{64} << 20;

struct OpName {
  std::string_view spelling;
  OpKind kind;
};

constexpr std::array kOpNames = {
#define TTIR_OP(enumerator, spelling, op_class) OpName{spelling, OpKind::enumerator},
#include "ops.def"
#undef TTIR_OP
    OpName{"gpu.barrier", OpKind::barrier},  // its name up to Triton 3.6
};

struct RefusedOp {
  std::string_view prefix;
  std::string_view cure;
};

constexpr std::array kRefusedOps = {
    RefusedOp{"cf.", "a branch; expected scf.for, scf.if or scf.while, or an early return"},
    RefusedOp{"tt.make_tensor_descriptor",
              "a tensor descriptor; expected Triton to have made it "
              "pointers (rewrite-tensor-descriptor-to-pointer)"},
    RefusedOp{"tt.descriptor_", "a tensor descriptor; expected Triton to have made it pointers"},
    RefusedOp{"tt.make_tensor_ptr", "a block pointer; use pointers, offsets and masks"},
    RefusedOp{"ttg.", "Triton GPU IR; expected Triton IR from before the GPU passes"},
    RefusedOp{"ttng.", "Triton GPU IR; expected Triton IR from before the GPU passes"},
};

}  // namespace

Parser::Parser(std::string_view text, const std::string& where) : lexer_(text, where) {
  if (text.size() > kMaxText_bytes) {
    throw Error("{}:1: a text of {} bytes; expected at most {}", where, text.size(),
                kMaxText_bytes);
  }
  advance();
}

void Parser::fail_at(int line, const std::string& message) const {
  if (kernel_.empty()) throw Error("{}:{}: {}", lexer_.where(), line, message);
  throw Error("{}:{}: {} (in kernel {})", lexer_.where(), line, message, kernel_);
}

bool Parser::at(std::string_view punctuation) const {
  return token_.kind == TokenKind::punctuation && token_.text == punctuation;
}

bool Parser::at_word(std::string_view word) const {
  return token_.kind == TokenKind::word && token_.text == word;
}

bool Parser::accept(std::string_view punctuation) {
  const bool found = at(punctuation);
  if (found) advance();
  return found;
}

bool Parser::accept_word(std::string_view word) {
  const bool found = at_word(word);
  if (found) advance();
  return found;
}

void Parser::expect(std::string_view punctuation) {
  if (!accept(punctuation)) fail("expected '{}', got {}", punctuation, got());
}

void Parser::expect_word(std::string_view word) {
  if (!accept_word(word)) fail("expected '{}', got {}", word, got());
}

std::string Parser::take(TokenKind kind, std::string_view what) {
  if (token_.kind != kind) fail("expected {}, got {}", what, got());
  std::string text(token_.text);
  advance();
  return text;
}

std::string Parser::got() const {
  if (token_.kind == TokenKind::end) return "the end of the text";
  constexpr std::size_t kShown = 40;
  const std::string_view text = lexer_.text().substr(token_.begin, token_.end - token_.begin);
  return fmt::format("'{}{}'", text.substr(0, kShown), text.size() > kShown ? "..." : "");
}

// --- Operands, results, names ---

Value* Parser::use() {
  const int line = token_.line;
  std::string name = take(TokenKind::value, "a value (%name)") + suffix_;
  if (token_.kind == TokenKind::hash) {
    name += ":" + std::string(token_.text);
    advance();
  }
  const auto found = names_.find(name);
  if (found == names_.end()) {
    const bool is_group = names_.contains(name + ":0");
    fail_at(line, fmt::format("{}: %{} {}", op_name_, name,
                              is_group ? "has several results; expected %name#number"
                                       : "is not defined before its use"));
  }
  return found->second;
}

void Parser::operands(Op& op) {
  do add_operand(op, use());
  while (accept(","));
}

void Parser::define(Value* value) {
  if (!names_.emplace(value->name, value).second) fail("%{} is defined twice", value->name);
  scope_.push_back(value->name);
}

void Parser::close_scope(std::size_t n_names) {
  while (scope_.size() > n_names) {
    names_.erase(scope_.back());
    scope_.pop_back();
  }
}

Value* Parser::add_argument(Block& block, std::string name, Type type) {
  auto value = std::make_unique<Value>();
  value->name = std::move(name) + suffix_;
  value->type = std::move(type);
  value->block = &block;
  value->index = static_cast<int>(block.args.size());
  block.args.push_back(std::move(value));
  define(block.args.back().get());
  return block.args.back().get();
}

void Parser::add_result(Op& op, Type type) {
  auto value = std::make_unique<Value>();
  value->type = std::move(type);
  value->def = &op;
  value->index = static_cast<int>(op.results.size());
  op.results.push_back(std::move(value));
}

void Parser::check_operand(const Op& op, std::size_t i, const Type& type) const {
  const Value& value = *op.operands[i];
  if (value.type == type) return;
  fail_at(op.line, fmt::format("{}: operand %{} has type {}, written here as {}", op_name_,
                               value.name, type_text(value.type), type_text(type)));
}

void Parser::check_operands(const Op& op, const Types& types) const {
  if (types.size() != op.operands.size()) {
    fail_at(op.line, fmt::format("{}: {} operands and {} types", op_name_, op.operands.size(),
                                 types.size()));
  }
  for (std::size_t i = 0; i < types.size(); ++i) check_operand(op, i, types[i]);
}

// --- Regions ---

// A `{ ... }` whose block arguments are `args`, unless the text has a label that brings its own.
Block& Parser::region(Op& op, std::vector<std::pair<std::string, Type>> args) {
  if (++nesting_ > kMaxNesting) fail("regions nested deeper than {}", kMaxNesting);
  const std::size_t n_names = scope_.size();
  op.regions.push_back(std::make_unique<Region>());
  op.regions.back()->block = std::make_unique<Block>();
  Block& block = *op.regions.back()->block;
  block.parent = &op;
  const std::string op_name = op_name_;
  expect("{");
  for (auto& [name, type] : args) add_argument(block, std::move(name), std::move(type));
  if (token_.kind == TokenKind::label && args.empty()) block_label(block);
  if (op.kind == OpKind::map_elementwise) {
    op.regions.back()->block = blocks(std::move(op.regions.back()->block));
    op.regions.back()->block->parent = &op;
  } else {
    block_body(block);
  }
  close_scope(n_names);
  --nesting_;
  op_name_ = op_name;
  return *op.regions.back()->block;
}

// ^bb0(%a: f32, %b: i32):
void Parser::block_label(Block& block) {
  advance();
  if (accept("(")) {
    do {
      std::string name = take(TokenKind::value, "a block argument");
      expect(":");
      add_argument(block, std::move(name), type());
      skip_location();
    } while (accept(","));
    expect(")");
  }
  expect(":");
}

// Blocks that end in branches, up to the '}' that closes the function or region.
std::unique_ptr<Block> Parser::blocks(std::unique_ptr<Block> entry) {
  std::vector<BasicBlock> list(1);
  list[0].block = std::move(entry);
  while (!at("}")) {
    const bool has_ended = !list.back().edges.empty();
    if (token_.kind == TokenKind::label) {
      list.emplace_back();
      list.back().label = token_.text;
      list.back().line = token_.line;
      block_label(*list.back().block);
    } else if (has_ended) {
      fail("expected '}}' or a block after a branch, got {}", got());
    } else if (at_branch()) {
      branch(list.back());
    } else {
      list.back().block->ops.push_back(operation(*list.back().block));
    }
  }
  expect("}");
  return structured(std::move(list),
                    [&](int line, const std::string& message) { fail_at(line, message); });
}

// cf.br ^bb1(%a : T) | cf.cond_br %c, ^bb1(%a : T), ^bb2
void Parser::branch(BasicBlock& from) {
  from.line = token_.line;
  op_name_ = token_.text;
  advance();
  if (op_name_ == "cf.cond_br") {
    from.condition = use();
    if (from.condition->type != scalar_type(Scalar::i1)) {
      fail("cf.cond_br: a condition of type {}", type_text(from.condition->type));
    }
    expect(",");
    from.edges.push_back(edge());
    expect(",");
  }
  from.edges.push_back(edge());
  Op attributes{};
  if (at("{")) attribute_dictionary(attributes);
  skip_location();
}

Edge Parser::edge() {
  Edge edge;
  edge.label = take(TokenKind::label, "a block (^name)");
  if (!accept("(")) return edge;
  do edge.values.push_back(use());
  while (accept(","));
  expect(":");
  const Types types = type_list();
  if (types.size() != edge.values.size())
    fail("{}: {} values and {} types", op_name_, edge.values.size(), types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (edge.values[i]->type != types[i]) {
      fail("{}: %{} has type {}, written here as {}", op_name_, edge.values[i]->name,
           type_text(edge.values[i]->type), type_text(types[i]));
    }
  }
  expect(")");
  return edge;
}

void Parser::block_body(Block& block) {
  while (!at("}")) {
    if (token_.kind == TokenKind::label) {
      fail("a second block ^{} in a region; expected scf.for, scf.if or scf.while", token_.text);
    }
    block.ops.push_back(operation(block));
  }
  // Loops and branches without results leave their scf.yield out of the text.
  const bool may_omit = block.parent != nullptr && (block.parent->kind == OpKind::scf_for ||
                                                    block.parent->kind == OpKind::scf_if);
  const bool ends = !block.ops.empty() && (block.ops.back()->kind == OpKind::scf_yield ||
                                           block.ops.back()->kind == OpKind::return_);
  if (may_omit && !ends) {
    auto yield = std::make_unique<Op>();
    yield->kind = OpKind::scf_yield;
    yield->parent = &block;
    yield->line = token_.line;
    block.ops.push_back(std::move(yield));
  }
  expect("}");
}

// --- Operations ---

std::vector<Parser::ResultName> Parser::result_names() {
  std::vector<ResultName> names;
  if (token_.kind != TokenKind::value) return names;
  do {
    ResultName name{take(TokenKind::value, "a result"), 0};
    if (accept(":")) {
      const std::int64_t n = integer();
      if (n < 1 || n > std::int64_t{kMaxResults}) fail("a group of {} results", n);
      name.n_results = static_cast<std::size_t>(n);
    }
    names.push_back(std::move(name));
    if (names.size() > kMaxResults) fail("more than {} results", kMaxResults);
  } while (accept(","));
  expect("=");
  return names;
}

std::unique_ptr<Op> Parser::operation(Block& block) {
  auto op = std::make_unique<Op>();
  const std::vector<ResultName> names = result_names();
  const Token token = token_;
  op->line = token.line;
  op->parent = &block;
  if (token.kind != TokenKind::word && token.kind != TokenKind::string) {
    fail("expected an operation, got {}", got());
  }
  op_name_ = token.text;
  const auto* known = std::find_if(kOpNames.begin(), kOpNames.end(),
                                   [&](const OpName& row) { return row.spelling == op_name_; });
  if (known == kOpNames.end()) {
    for (const RefusedOp& refused : kRefusedOps) {
      if (op_name_.starts_with(refused.prefix)) {
        fail("{}: operation not supported: {}", op_name_, refused.cure);
      }
    }
    fail("{}: operation not supported", op_name_);
  }
  op->kind = known->kind;
  advance();
  if (token.kind == TokenKind::string)
    generic_form(*op);
  else
    pretty_form(*op);
  skip_location();

  std::size_t n_results = 0;
  for (const ResultName& name : names) {
    for (std::size_t i = 0; i < std::max<std::size_t>(name.n_results, 1); ++i, ++n_results) {
      if (n_results >= op->results.size()) continue;
      Value* result = op->result(n_results);
      result->name = name.name + suffix_;
      if (name.n_results != 0) result->name += fmt::format(":{}", i);
    }
  }
  if (n_results != op->results.size()) {
    fail_at(op->line,
            fmt::format("{}: {} results, named {}", op_name_, op->results.size(), n_results));
  }
  for (const auto& result : op->results) define(result.get());
  return op;
}

// --- Functions ---

void Parser::function_arguments(Function& function) {
  expect("(");
  if (accept(")")) return;
  do {
    std::string name = take(TokenKind::value, "a function argument");
    expect(":");
    add_argument(*function.body, std::move(name), type());
    Op attributes{};
    if (at("{")) attribute_dictionary(attributes);
    skip_location();
    const std::int64_t divisibility = attributes.int_attr("tt.divisibility", 1);
    if (divisibility < 1) fail("tt.func: tt.divisibility = {}; expected 1 or more", divisibility);
    function.arg_divisibility.push_back(divisibility);
  } while (accept(","));
  expect(")");
}

std::unique_ptr<Function> Parser::function() {
  auto function = std::make_unique<Function>();
  function->line = token_.line;
  function->body = std::make_unique<Block>();
  op_name_ = "tt.func";
  expect_word("tt.func");
  accept_word("public");
  function->name = unescape(take(TokenKind::symbol, "a function name (@name)"));
  kernel_ = function->name;
  function_arguments(*function);
  if (at("->")) fail("tt.func: a kernel that returns a value; expected none");
  Op attributes{};
  if (accept_word("attributes")) attribute_dictionary(attributes);
  expect("{");
  if (token_.kind == TokenKind::label) fail("tt.func: a label before the first operation");
  function->body = blocks(std::move(function->body));
  skip_location();
  close_scope(0);
  kernel_.clear();
  return function;
}

// Location aliases (`#loc1 = loc(...)`) and functions.
void Parser::top_level(Module& module) {
  if (token_.kind == TokenKind::hash) {
    advance();
    expect("=");
    const int line = token_.line;
    while (token_.line == line && token_.kind != TokenKind::end) advance();
    return;
  }
  if (!at_word("tt.func")) fail("expected tt.func, got {}", got());
  if (skip_private_function()) return;
  if (!module.functions.empty()) fail("tt.func: a second function; expected one kernel");
  module.functions.push_back(function());
}

std::unique_ptr<Module> Parser::module() {
  auto module = std::make_unique<Module>();
  while (token_.kind == TokenKind::hash) top_level(*module);
  if (accept_word("module")) {
    if (token_.kind == TokenKind::symbol) advance();
    Op attributes{};
    if (accept_word("attributes")) attribute_dictionary(attributes);
    expect("{");
    while (!at("}")) top_level(*module);
    advance();
    skip_location();
    while (token_.kind == TokenKind::hash) top_level(*module);
    if (token_.kind != TokenKind::end) fail("expected the end of the text, got {}", got());
  } else {
    while (token_.kind != TokenKind::end) top_level(*module);
  }
  if (module->functions.empty()) fail("no function; expected one tt.func");
  return module;
}

std::unique_ptr<Module> parse_module(std::string_view text, const std::string& where) {
  std::unique_ptr<Module> module = Parser(text, where).module();
  verify(*module, where);
  return module;
}

}  // namespace nereid::ttir
