// Goal: a parsed template. One node type for expressions and one for statements: what a kind has is
// said beside it.
// Rejected: a class for each of 25 kinds, and a visitor; one switch in the evaluator reads better.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

enum class ExprKind : std::uint8_t {
  kConst,      // value
  kName,       // name
  kTuple,      // children
  kList,       // children
  kDict,       // children: key, value, key, value, ...
  kAttribute,  // children[0].name
  kItem,       // children[0][children[1]]
  kSlice,      // children[0][children[1] : children[2] : children[3]]; null where left out
  kCall,       // children[0](children[1..], named)
  kFilter,     // children[0] | name(children[1..], named); children[0] null in a filter block
  kTest,       // children[0] is name(children[1..], named)
  kNot,        // not children[0]
  kNegative,   // -children[0]
  kPositive,   // +children[0]
  kAnd,        // children[0] and children[1]
  kOr,         // children[0] or children[1]
  kBinary,     // children[0] name children[1]
  kConcat,     // children, joined by ~
  kCompare,    // children[0] names[0] children[1] names[1] children[2] ...
  kCondition,  // children[1] if children[0] else children[2], which may be null
};

struct Expr;
using ExprPointer = std::unique_ptr<Expr>;

struct Expr {
  ExprKind kind;
  int line;
  std::string name;
  Value value;
  std::vector<ExprPointer> children;
  std::vector<std::pair<std::string, ExprPointer>> named;
  std::vector<std::string> names;
};

enum class StatementKind : std::uint8_t {
  kData,      // text
  kOutput,    // expr
  kIf,        // expr, body, otherwise
  kFor,       // target in expr if test: body, otherwise
  kSet,       // target = expr
  kSetBlock,  // target = body | expr, where expr may be null
  kFilter,    // body | expr
  kMacro,     // text(parameters): body
  kBreak,
  kContinue,
  kGeneration,  // body
};

// What is assigned to: a name, an attribute of a namespace, or a tuple of these.
struct Target {
  std::string name;
  std::string attribute;      // empty: the name itself
  std::vector<Target> parts;  // not empty: a tuple
  bool is_tuple = false;
};

struct Statement;
using Block = std::vector<Statement>;

struct Parameter {
  std::string name;
  ExprPointer fallback;  // may be null
};

struct Statement {
  StatementKind kind;
  int line;
  std::string text;
  ExprPointer expr;
  ExprPointer test;
  Target target;
  Block body;
  Block otherwise;
  std::vector<Parameter> parameters;
};

}  // namespace nereid::chat::jinja
