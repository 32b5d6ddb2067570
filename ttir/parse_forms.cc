#include "parser.h"

namespace nereid::ttir {

// Operands, then attributes: `%a, %b, rounding = rtne {x = 1}`.
void Parser::operands_with_tail(Op& op) {
  add_operand(op, use());
  while (accept(",")) {
    if (token_.kind != TokenKind::value) {
      attribute(op);
      break;
    }
    add_operand(op, use());
  }
  tail(op);
}

// What may stand between the operands and the ':' : `, rounding = rtne`, `overflow<nsw>`, `nneg`,
// `{...}`.
void Parser::tail(Op& op) {
  while (true) {
    if (accept(",")) {
      attribute(op);
    } else if (at("{")) {
      attribute_dictionary(op);
    } else if (token_.kind == TokenKind::word && token_.text != "loc") {
      const Token word = token_;
      advance();
      if (at("<")) {
        const std::size_t begin = token_.end;
        std::size_t end = begin;
        for (advance(); !accept(">"); advance()) {
          if (token_.kind == TokenKind::end) fail("{}: expected '>'", op_name_);
          end = token_.end;
        }
        put(op, std::string(word.text), std::string(lexer_.text().substr(begin, end - begin)));
      } else if (accept("=")) {
        put(op, std::string(word.text), attribute_value());
      } else {
        put(op, std::string(word.text), std::int64_t{1});
      }
    } else {
      return;
    }
  }
}

void Parser::loop_attributes(Op& op) {
  accept_word("attributes");
  if (at("{")) attribute_dictionary(op);
}

// scf.for %i = %lb to %ub step %s iter_args(%a = %x) -> (T) : i32 { ... } {attributes}
void Parser::for_loop(Op& op) {
  std::vector<std::pair<std::string, Type>> args;
  args.emplace_back(take(TokenKind::value, "the loop variable"), scalar_type(Scalar::index));
  expect("=");
  add_operand(op, use());
  expect_word("to");
  add_operand(op, use());
  expect_word("step");
  add_operand(op, use());
  Types carried;
  if (accept_word("iter_args")) {
    expect("(");
    do {
      args.emplace_back(take(TokenKind::value, "a carried value"), Type{});
      expect("=");
      add_operand(op, use());
    } while (accept(","));
    expect(")");
    expect("->");
    carried = result_types();
  }
  if (carried.size() + 1 != args.size()) {
    fail("{}: {} carried values and {} types", op_name_, args.size() - 1, carried.size());
  }
  if (accept(":")) args[0].second = type();
  for (std::size_t i = 0; i < 3; ++i) check_operand(op, i, args[0].second);
  for (std::size_t i = 0; i < carried.size(); ++i) {
    check_operand(op, i + 3, carried[i]);
    args[i + 1].second = carried[i];
  }
  region(op, std::move(args));
  loop_attributes(op);
  for (Type& type : carried) add_result(op, std::move(type));
}

// scf.if %c -> (T) { ... } else { ... }
void Parser::if_else(Op& op) {
  add_operand(op, use());
  Types types;
  if (accept("->")) types = result_types();
  region(op, {});
  if (accept_word("else")) region(op, {});
  loop_attributes(op);
  for (Type& type : types) add_result(op, std::move(type));
}

// scf.while (%a = %x) : (T) -> U { ... scf.condition(%c) %a : T } do { ^bb0(%b: U): ... }
void Parser::while_loop(Op& op) {
  std::vector<std::pair<std::string, Type>> args;
  if (accept("(") && !accept(")")) {
    do {
      args.emplace_back(take(TokenKind::value, "a carried value"), Type{});
      expect("=");
      add_operand(op, use());
    } while (accept(","));
    expect(")");
  }
  expect(":");
  const Types inits = types_in_parentheses();
  expect("->");
  Types types = result_types();
  check_operands(op, inits);
  for (std::size_t i = 0; i < args.size(); ++i) args[i].second = inits[i];
  region(op, std::move(args));
  expect_word("do");
  region(op, {});
  loop_attributes(op);
  for (Type& type : types) add_result(op, std::move(type));
}

// "tt.reduce"(%a) <{axis = 1 : i32}> ({ ... }) {attributes} : (T) -> U
void Parser::generic_form(Op& op) {
  expect("(");
  if (!accept(")")) {
    operands(op);
    expect(")");
  }
  if (accept("<")) {
    attribute_dictionary(op);
    expect(">");
  }
  if (accept("(")) {
    do region(op, {});
    while (accept(","));
    expect(")");
  }
  if (at("{")) attribute_dictionary(op);
  expect(":");
  check_operands(op, types_in_parentheses());
  expect("->");
  for (Type& type : result_types()) add_result(op, std::move(type));
}

// %a scale %s, %b, %c lhs = e4m3 rhs = bf16 {fastMath = false} : A, S * B -> C
void Parser::dot_scaled(Op& op) {
  std::vector<Value*> scales;
  std::int64_t which = 0;
  for (std::int64_t side = 1; side <= 2; ++side) {
    add_operand(op, use());
    if (accept_word("scale")) {
      scales.push_back(use());
      which |= side;
    }
    expect(",");
  }
  add_operand(op, use());
  for (Value* scale : scales) add_operand(op, scale);
  put(op, "scales", which);
  tail(op);
  expect(":");
  Types types(3), scale_types;
  for (std::size_t side = 0; side < 2; ++side) {
    types[side] = type();
    if (accept(",")) scale_types.push_back(type());
    if (side == 0) expect("*");
  }
  expect("->");
  types[2] = type();
  types.insert(types.end(), scale_types.begin(), scale_types.end());
  check_operands(op, types);
  add_result(op, types[2]);
}

// "text" {constraints = "=r,r", packed_element = 1 : i32, pure = true} %a : T -> U, V
void Parser::inline_asm(Op& op) {
  put(op, "asm", unescape(take(TokenKind::string, "a text")));
  tail(op);
  if (token_.kind == TokenKind::value) {
    operands(op);
    expect(":");
    check_operands(op, type_list());
  }
  expect("->");
  for (Type& type : type_list()) add_result(op, std::move(type));
}

void Parser::pretty_form(Op& op) {
  const auto result_at_colon = [&] {
    tail(op);
    expect(":");
    return type();
  };
  const auto check_all = [&](const Type& type) {
    for (std::size_t i = 0; i < op.operands.size(); ++i) check_operand(op, i, type);
  };
  switch (op_form(op.kind)) {
    case Form::same: {
      operands_with_tail(op);
      expect(":");
      Type result = type();
      check_all(result);
      return add_result(op, std::move(result));
    }
    case Form::compare: {
      put(op, "predicate", take(TokenKind::word, "a predicate"));
      expect(",");
      operands_with_tail(op);
      expect(":");
      Type result = type();
      check_all(result);
      result.scalar = Scalar::i1;
      result.is_pointer = false;
      return add_result(op, std::move(result));
    }
    case Form::select: {
      operands_with_tail(op);
      expect(":");
      Types types = type_list();
      if (op.operands.size() != 3 || types.size() > 2) fail("{}: expected 3 operands", op_name_);
      if (types.size() == 2) {
        check_operand(op, 0, types[0]);
      } else {
        check_operand(op, 0, scalar_type(Scalar::i1));
      }
      check_operand(op, 1, types.back());
      check_operand(op, 2, types.back());
      return add_result(op, std::move(types.back()));
    }
    case Form::convert:
    case Form::arrow: {
      operands_with_tail(op);
      expect(":");
      check_all(type());
      if (op_form(op.kind) == Form::convert)
        expect_word("to");
      else
        expect("->");
      Type result = type();
      if (op.kind == OpKind::split) add_result(op, result);
      return add_result(op, std::move(result));
    }
    case Form::addptr: {
      operands_with_tail(op);
      expect(":");
      Types types = type_list();
      check_operands(op, types);
      return add_result(op, std::move(types.front()));
    }
    case Form::load:
    case Form::store: {
      operands_with_tail(op);
      expect(":");
      Type pointer = type();
      check_operand(op, 0, pointer);
      if (op.kind == OpKind::store) return;
      pointer.is_pointer = false;
      return add_result(op, std::move(pointer));
    }
    case Form::gather: {
      // %source[%indices] {axis = 0} : (T, I) -> U
      add_operand(op, use());
      expect("[");
      add_operand(op, use());
      expect("]");
      tail(op);
      expect(":");
      check_operands(op, types_in_parentheses());
      expect("->");
      return add_result(op, type());
    }
    case Form::histogram: {
      operands_with_tail(op);
      expect(":");
      const Type source = type();
      check_operand(op, 0, source);
      expect("->");
      return add_result(op, type());
    }
    case Form::print:
      put(op, "prefix", unescape(take(TokenKind::string, "a text")));
      if (at("{")) attribute_dictionary(op);
      if (!accept(":")) return;
      operands(op);
      expect(":");
      return check_operands(op, type_list());
    case Form::assertion:
      add_operand(op, use());
      expect(",");
      put(op, "message", unescape(take(TokenKind::string, "a text")));
      tail(op);
      expect(":");
      return check_operands(op, type_list());
    case Form::atomic:
      if (op.kind == OpKind::atomic_rmw) {
        put(op, "rmw_op", take(TokenKind::word, "an atomic operation"));
        expect(",");
      }
      put(op, "sem", take(TokenKind::word, "a memory order"));
      expect(",");
      put(op, "scope", take(TokenKind::word, "a scope"));
      expect(",");
      [[fallthrough]];
    case Form::functional: {
      operands_with_tail(op);
      expect(":");
      check_operands(op, types_in_parentheses());
      expect("->");
      return add_result(op, type());
    }
    case Form::dot: {
      operands_with_tail(op);
      expect(":");
      Types types = {type()};
      expect("*");
      types.push_back(type());
      expect("->");
      types.push_back(type());
      check_operands(op, types);
      return add_result(op, std::move(types.back()));
    }
    case Form::dot_scaled:
      return dot_scaled(op);
    case Form::inline_asm:
      return inline_asm(op);
    case Form::call:
      return call(op);
    case Form::program_id: {
      const Token axis = token_;
      const std::string word = take(TokenKind::word, "x, y or z");
      if (word != "x" && word != "y" && word != "z") {
        fail_at(axis.line, fmt::format("{}: expected x, y or z, got '{}'", op_name_, word));
      }
      put(op, "axis", std::int64_t{word[0] - 'x'});
      return add_result(op, result_at_colon());
    }
    case Form::produce:
      return add_result(op, result_at_colon());
    case Form::constant:
      return constant(op);
    case Form::unsplat: {
      operands_with_tail(op);
      expect(":");
      Type result = type();
      check_all(result);
      result.shape.clear();
      return add_result(op, std::move(result));
    }
    case Form::condition: {
      expect("(");
      add_operand(op, use());
      expect(")");
      if (token_.kind != TokenKind::value) return tail(op);
      operands_with_tail(op);
      expect(":");
      Types types = type_list();
      types.insert(types.begin(), scalar_type(Scalar::i1));
      return check_operands(op, types);
    }
    case Form::statement:
      if (token_.kind != TokenKind::value) return tail(op);
      operands_with_tail(op);
      expect(":");
      return check_operands(op, type_list());
    case Form::barrier:
      // The memory it is for: a CPU program has one thread and nothing to wait for.
      while (at_word("all") || at_word("local") || at_word("global_read") ||
             at_word("global_write") || at_word("tensor_read") || at_word("tensor_write")) {
        advance();
        accept("|");
      }
      if (at("{")) attribute_dictionary(op);
      return;
    case Form::for_loop:
      return for_loop(op);
    case Form::if_else:
      return if_else(op);
    case Form::while_loop:
      return while_loop(op);
    case Form::generic:
      fail_at(op.line, op_name_ + ": expected the form \"name\"(operands)");
    case Form::function:
      fail_at(op.line, "tt.func inside a function");
  }
}

}  // namespace nereid::ttir
