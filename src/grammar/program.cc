#include "grammar/program.h"

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "grammar/literal.h"
#include "grammar/program_builder.h"
#include "grammar/regex_parser.h"
#include "tokenizer/utf8.h"

namespace nereid::grammar {

namespace {

void check_node(const Program& program, NodeId node, const std::string& where) {
  const std::uint32_t height = program.nodes[node].height;
  if (height >= kNever)
    throw Error("{}: no JSON value is valid for this schema; expected one that some value fits",
                where);
  if (height > program.most_depth)
    throw Error("{}: a valid value is nested {} levels; expected at most {}", where, height,
                program.most_depth);
}

TerminalId choice_terminal(ProgramBuilder& builder, const std::vector<std::string>& choices,
                           const Limits& limits) {
  if (choices.empty()) throw Error("choice: no choices; expected at least one");
  if (choices.size() > limits.n_enum_values)
    throw Error("choice: {} choices; expected at most {}", choices.size(), limits.n_enum_values);
  for (const std::string& text : choices)
    if (!tokenizer::is_valid_utf8(text)) throw Error("choice: a choice is no valid UTF-8");
  return builder.add_terminal(
      Terminal(Terminal::Kind::bytes, std::make_shared<const Automaton>(automaton_of_bytes(
                                          choices, limits.n_total_states, "choice: its texts"))));
}

void check_size(const Constraint& constraint, const Limits& limits) {
  std::size_t n_bytes = constraint.text.size() + constraint.before.size() +
                        constraint.between.size() + constraint.after.size();
  for (const std::string& text : constraint.choices) n_bytes += text.size();
  for (const Constraint::Call& call : constraint.calls)
    n_bytes += call.prefix.size() + call.schema.size() + call.suffix.size();
  if (n_bytes > limits.text_bytes)
    throw Error("the constraint has {} bytes; expected at most {}", n_bytes, limits.text_bytes);
}

}  // namespace

Program make_program(const Constraint& constraint, const Limits& limits) {
  check_size(constraint, limits);
  Program program;
  SchemaSet schemas(limits);
  ProgramBuilder builder(program, schemas, limits);
  switch (constraint.kind) {
    case Constraint::Kind::none:
      throw Error("the constraint is none; expected JSON, a regex, choices or tool calls");
    case Constraint::Kind::json_object:
      program.value = builder.node_of({schemas.add_any_object()});
      break;
    case Constraint::Kind::json_schema:
      program.value = builder.node_of({schemas.add(constraint.text, "json_schema")});
      break;
    case Constraint::Kind::regex: {
      auto automaton = std::make_shared<const Automaton>(
          parse_regex(constraint.text, RegexUse::full_match, limits, "regex"));
      if (automaton->is_empty()) throw Error("regex: no text matches \"{}\"", constraint.text);
      program.text = builder.add_terminal(Terminal(Terminal::Kind::text, std::move(automaton)));
      break;
    }
    case Constraint::Kind::choice:
      program.text = choice_terminal(builder, constraint.choices, limits);
      break;
    case Constraint::Kind::tool_calls: {
      if (constraint.calls.empty()) throw Error("tool_calls: no calls; expected at least one");
      if (constraint.max_calls < 1)
        throw Error("tool_calls: max_calls is {}; expected at least 1", constraint.max_calls);
      for (std::size_t i = 0; i < constraint.calls.size(); ++i) {
        const Constraint::Call& call = constraint.calls[i];
        const NodeId node =
            builder.node_of({schemas.add(call.schema, fmt::format("tool_calls[{}]", i))});
        program.calls.push_back({builder.literal(call.prefix), node, builder.literal(call.suffix)});
      }
      program.before = builder.literal(constraint.before);
      program.between = builder.literal(constraint.between);
      program.after = builder.literal(constraint.after);
      program.most_calls = static_cast<std::uint32_t>(constraint.max_calls);
      break;
    }
  }
  builder.finish();
  if (program.value != kNone) check_node(program, program.value, "json_schema");
  for (std::size_t i = 0; i < program.calls.size(); ++i)
    check_node(program, program.calls[i].arguments, fmt::format("tool_calls[{}]", i));
  return program;
}

}  // namespace nereid::grammar
