// Triton IR text to the typed IR and back: what Triton prints is read whole, anything else is
// refused by place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "base/error.h"
#include "ir.h"
#include "null/ttir_samples.h"

namespace nereid::ttir {
namespace {

using testing::ElementsAre;

// A kernel around `body`; its first line is line 3.
std::string kernel(const std::string& body) {
  return "module {\n"
         "  tt.func public @k(%p: !tt.ptr<f32>, %n: i32, %b: i1, %f: f32, %h: !tt.ptr<f16>) {\n" +
         body + "\n    tt.return\n  }\n}\n";
}

std::string error_of(const std::string& text) {
  try {
    parse_module(text, "a.ttir");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// The operation that defines %name, searched for in all regions.
const Op* find(const Block& block, std::string_view name) {
  for (const auto& op : block.ops) {
    for (const auto& result : op->results) {
      if (result->name == name) return op.get();
    }
    for (const auto& region : op->regions) {
      if (const Op* found = find(*region->block, name)) return found;
    }
  }
  return nullptr;
}

const Op& defining(const Module& module, std::string_view name) {
  const Op* op = find(*module.functions[0]->body, name);
  if (op == nullptr) throw Error("no %{}", name);
  return *op;
}

const Sample& sample(const std::vector<Sample>& samples, std::string_view name) {
  for (const Sample& candidate : samples) {
    if (candidate.name == name) return candidate;
  }
  throw Error("no sample {}", name);
}

void collect_kinds(const Block& block, std::set<OpKind>& kinds) {
  for (const auto& op : block.ops) {
    kinds.insert(op->kind);
    for (const auto& region : op->regions) collect_kinds(*region->block, kinds);
  }
}

TEST(TtirParse, SamplesPrintAndReadAgain) {
  const std::vector<Sample> samples = read_samples("");
  ASSERT_GT(samples.size(), 20u);
  for (const Sample& sample : samples) {
    SCOPED_TRACE(sample.name);
    const std::string printed = print(*parse_module(sample.text, sample.name));
    EXPECT_EQ(print(*parse_module(printed, sample.name)), printed);
  }
}

// The text without what the printer writes in another way on purpose.
std::string normalised(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = std::string_view(text).substr(i);
    bool dropped = false;
    for (const std::string_view piece : {" attributes {noinline = false}", " : i32", "  "}) {
      if (!rest.starts_with(piece)) continue;
      i += piece.size() - 1;
      dropped = true;
      break;
    }
    if (!dropped) out += text[i];
  }
  return out;
}

// Triton's own text is the reference for the printer: on plain kernels both are the same, line by
// line.
TEST(TtirParse, PrintsAsTritonDoes) {
  const std::vector<Sample> samples = read_samples("");
  for (const std::string_view name : {"add", "softmax", "scan2", "ptrs"}) {
    const Sample& text = sample(samples, name);
    std::string wanted = normalised(text.text);
    if (const auto at = wanted.find("reverse = false"); at != std::string::npos) {
      wanted.replace(at, 15, "reverse = 0");
    }
    EXPECT_EQ(normalised(print(*parse_module(text.text, text.name))), wanted) << name;
  }
}

TEST(TtirParse, SamplesCoverEveryOperation) {
  std::set<OpKind> kinds = {OpKind::func};
  for (const Sample& sample : read_samples("")) {
    collect_kinds(*parse_module(sample.text, sample.name)->functions[0]->body, kinds);
  }
  for (const auto& [kind, spelling] : std::initializer_list<std::pair<OpKind, const char*>>{
#define TTIR_OP(enumerator, spelling, op_class) {OpKind::enumerator, spelling},
#include "ops.def"
#undef TTIR_OP
       }) {
    EXPECT_TRUE(kinds.contains(kind)) << spelling << " occurs in no sample";
  }
}

TEST(TtirParse, ReadsAFunction) {
  const auto module = parse_module(
      "module {\n  tt.func public @add_one(%x: !tt.ptr<bf16> {tt.divisibility = 16 : i32}, "
      "%n: i64, %s: f32 {tt.divisibility = 8 : i32}) attributes {noinline = false} {\n"
      "    tt.return\n  }\n}\n",
      "a.ttir");
  const Function& function = *module->functions.at(0);
  EXPECT_EQ(function.name, "add_one");
  EXPECT_EQ(function.line, 2);
  EXPECT_THAT(function.arg_divisibility, ElementsAre(16, 1, 8));
  ASSERT_EQ(function.body->args.size(), 3u);
  const Value& x = *function.body->args[0];
  EXPECT_EQ(x.name, "x");
  EXPECT_TRUE(x.type.is_pointer);
  EXPECT_EQ(x.type.scalar, Scalar::bf16);
  EXPECT_FALSE(x.type.is_tensor());
  EXPECT_EQ(x.block, function.body.get());
  EXPECT_EQ(x.def, nullptr);
  EXPECT_EQ(function.body->args[2]->index, 2);
  ASSERT_EQ(function.body->ops.size(), 1u);
  EXPECT_EQ(function.body->ops[0]->kind, OpKind::return_);
  EXPECT_EQ(function.body->ops[0]->line, 3);
}

TEST(TtirParse, FillsWhatTheHeaderPromises) {
  const std::vector<Sample> samples = read_samples("");
  const auto attention = parse_module(sample(samples, "attention").text, "attention");
  const Op& range = defining(*attention, "2");
  EXPECT_EQ(range.int_attr("start", -1), 0);
  EXPECT_EQ(range.int_attr("end", -1), 16);
  EXPECT_EQ(defining(*attention, "5").int_attr("axis", -1), 1);
  const Op& compare = defining(*attention, "10");
  EXPECT_EQ(compare.word_attr("predicate", ""), "slt");
  EXPECT_EQ(type_text(compare.result()->type), "tensor<16x1xi1>");
  const Op& load = defining(*attention, "24");
  ASSERT_EQ(load.operands.size(), 3u);
  EXPECT_EQ(load.operands[0]->name, "22");
  EXPECT_EQ(load.operands[1]->name, "23");
  EXPECT_EQ(type_text(load.operands[0]->type), "tensor<16x64x!tt.ptr<f16>>");
  EXPECT_EQ(type_text(load.result()->type), "tensor<16x64xf16>");
  const Op& dot = defining(*attention, "56");
  EXPECT_EQ(dot.word_attr("inputPrecision", ""), "tf32");
  EXPECT_EQ(dot.operands.size(), 3u);
  const Op& loop = defining(*attention, "28:2");
  EXPECT_EQ(loop.kind, OpKind::scf_for);
  ASSERT_EQ(loop.results.size(), 3u);
  EXPECT_EQ(loop.operands.size(), 6u);
  EXPECT_EQ(loop.int_attr("tt.num_stages", 0), 2);
  const Block& body = *loop.regions.at(0)->block;
  ASSERT_EQ(body.args.size(), 4u);
  EXPECT_EQ(body.parent, &loop);
  EXPECT_EQ(body.args[3]->type, loop.result(2)->type);
  EXPECT_EQ(body.ops.back()->kind, OpKind::scf_yield);
  const Op& divide = defining(*attention, "36");
  EXPECT_EQ(divide.operands[0], loop.result(2));
  EXPECT_EQ(divide.operands[0]->def, &loop);
  EXPECT_EQ(divide.operands[0]->index, 2);
  EXPECT_THAT(divide.operands[0]->users, ElementsAre(&divide));
  const Op& reduce = defining(*attention, "65");
  EXPECT_EQ(reduce.int_attr("axis", -1), 1);
  EXPECT_EQ(reduce.regions.at(0)->block->args.size(), 2u);

  const auto casts = parse_module(sample(samples, "casts").text, "casts");
  std::set<std::string> roundings;
  for (const auto& op : casts->functions[0]->body->ops) {
    if (op->kind == OpKind::fp_to_fp) roundings.emplace(op->word_attr("rounding", "none"));
  }
  EXPECT_THAT(roundings, ElementsAre("none", "rtne", "rtz"));

  const auto mathy = parse_module(sample(samples, "mathy").text, "mathy");
  const Op& volatile_load = defining(*mathy, "3");
  EXPECT_EQ(volatile_load.word_attr("cache", ""), "cg");
  EXPECT_EQ(volatile_load.word_attr("evict", ""), "evict_first");
  EXPECT_EQ(volatile_load.int_attr("volatile", 0), 1);
  EXPECT_EQ(defining(*mathy, "32").word_attr("propagateNan", ""), "none");

  const auto shapes = parse_module(sample(samples, "dot3").text, "dot3");
  const auto& order = std::get<std::vector<std::int64_t>>(*defining(*shapes, "20").attr("order"));
  EXPECT_THAT(order, ElementsAre(0, 2, 1));

  const auto libdev = parse_module(sample(samples, "libdev").text, "libdev");
  EXPECT_EQ(defining(*libdev, "6").word_attr("symbol", ""), "__nv_tanhf");

  const auto scans = parse_module(sample(samples, "scans").text, "scans");
  EXPECT_EQ(defining(*scans, "12").int_attr("reverse", -1), 0);
  EXPECT_EQ(defining(*scans, "13").int_attr("reverse", -1), 1);

  const auto atomics = parse_module(sample(samples, "atomics").text, "atomics");
  const Op& add = defining(*atomics, "21");
  EXPECT_EQ(add.word_attr("rmw_op", ""), "fadd");
  EXPECT_EQ(add.word_attr("sem", ""), "acq_rel");
  EXPECT_EQ(add.word_attr("scope", ""), "gpu");
  EXPECT_EQ(add.operands.size(), 3u);

  const auto control = parse_module(sample(samples, "control").text, "control");
  const Op& loop_while = defining(*control, "5:0");
  ASSERT_EQ(loop_while.regions.size(), 2u);
  EXPECT_EQ(loop_while.regions[0]->block->ops.back()->kind, OpKind::scf_condition);
  EXPECT_EQ(loop_while.regions[1]->block->ops.back()->kind, OpKind::scf_yield);
  EXPECT_EQ(loop_while.regions[1]->block->args.size(), 2u);
  // A branch without results gets the yield that its text leaves out.
  for (const auto& op : loop_while.regions[1]->block->ops) {
    if (op->kind != OpKind::scf_if) continue;
    ASSERT_EQ(op->regions.size(), 1u);
    EXPECT_EQ(op->regions[0]->block->ops.back()->kind, OpKind::scf_yield);
  }
}

double float_constant(const std::string& text) {
  const auto module = parse_module(kernel("%c = arith.constant " + text), "a.ttir");
  return std::get<double>(*defining(*module, "c").attr("value"));
}

std::int64_t integer_constant(const std::string& text) {
  const auto module = parse_module(kernel("%c = arith.constant " + text), "a.ttir");
  return std::get<std::int64_t>(*defining(*module, "c").attr("value"));
}

TEST(TtirParse, FloatConstantsAreTheValueThatTheTypeHolds) {
  EXPECT_EQ(float_constant("1.44269502 : f32"), static_cast<double>(1.44269502f));
  EXPECT_EQ(float_constant("dense<1.442695e+00> : tensor<4xf32>"), static_cast<double>(1.442695f));
  EXPECT_EQ(float_constant("0.1 : f64"), 0.1);
  EXPECT_EQ(float_constant("-2.5e-1 : f16"), -0.25);
  EXPECT_EQ(float_constant("1.0009765625 : f16"), 1.0009765625);
  EXPECT_EQ(float_constant("1.00048828125 : f16"), 1.0);                  // halfway, to even
  EXPECT_EQ(float_constant("5.960464e-08 : f16"), std::ldexp(1.0, -24));  // smallest subnormal
  EXPECT_EQ(float_constant("3.389531e+38 : bf16"), std::ldexp(255.0, 120));
  EXPECT_EQ(float_constant("1.06 : f8E4M3FN"), 1.0);
  EXPECT_EQ(float_constant("4.480000e+02 : f8E4M3FN"), 448.0);
  EXPECT_EQ(float_constant("0xFF800000 : f32"), -INFINITY);
  EXPECT_EQ(float_constant("dense<0x7F800000> : tensor<2xf32>"), INFINITY);
  EXPECT_TRUE(std::isnan(float_constant("0x7FC00000 : f32")));
  EXPECT_TRUE(std::isnan(float_constant("0x7F : f8E4M3FN")));
  EXPECT_EQ(float_constant("0x7C00 : f16"), INFINITY);
  EXPECT_EQ(float_constant("0xFF80 : bf16"), -INFINITY);
  EXPECT_EQ(float_constant("0x7FF0000000000000 : f64"), INFINITY);
  EXPECT_EQ(float_constant("0x3F800000 : f32"), 1.0);
  EXPECT_EQ(float_constant("0x00000001 : f32"), std::ldexp(1.0, -149));
  EXPECT_EQ(float_constant("0x7E : f8E4M3FN"), 448.0);
  EXPECT_TRUE(std::signbit(float_constant("-0.000000e+00 : f32")));
}

TEST(TtirParse, IntegerConstantsKeepTheirBits) {
  EXPECT_EQ(integer_constant("-5 : i32"), -5);
  EXPECT_EQ(integer_constant("4294967295 : i32"), -1);
  EXPECT_EQ(integer_constant("dense<0xFF> : tensor<2xi8>"), -1);
  EXPECT_EQ(integer_constant("-9223372036854775808 : i64"), INT64_MIN);
  EXPECT_EQ(integer_constant("18446744073709551615 : i64"), -1);
  EXPECT_EQ(integer_constant("true"), 1);
  EXPECT_EQ(integer_constant("dense<false> : tensor<8xi1>"), 0);
  EXPECT_EQ(integer_constant("-1 : i1"), 1);
  EXPECT_EQ(integer_constant("7 : index"), 7);
}

struct Refusal {
  const char* body;
  const char* message;  // behind "a.ttir:", the line first
};

TEST(TtirParse, RefusesWithLineOperationAndReason) {
  const Refusal refusals[] = {
      // Lexing.
      {"    $", "3: unexpected character 0x24; expected Triton IR text"},
      {"    %", "3: expected a name after '%'"},
      {"    \"tt.x", "3: a string has no closing quote"},
      // Types.
      {"%x = ub.poison : f33", "3: unknown type 'f33'; expected i1 to i64"},
      {"%x = ub.poison : !tt.tensordesc<16xf32>",
       "3: type !tt.tensordesc: a tensor descriptor; expected Triton to have made it pointers"},
      {"%x = ub.poison : !foo.bar", "3: unknown type !foo.bar"},
      {"%x = ub.poison : !tt.ptr<tensor<4xf32>>", "3: unknown type 'tensor'"},
      {"%x = ub.poison : !tt.ptr<!tt.ptr<f32>>", "3: expected the type a pointer points at, got"},
      {"%x = ub.poison : tensor<f32>", "3: a tensor without dimensions or of unknown size"},
      {"%x = ub.poison : tensor<?xf32>", "3: a tensor without dimensions or of unknown size"},
      {"%x = ub.poison : tensor<4x0xf32>", "3: a tensor dimension of 0"},
      {"%x = ub.poison : tensor<99999999999xf32>", "3: a tensor dimension over 16777216"},
      {"%x = ub.poison : tensor<4096x8192xf32>", "3: a tensor of more than 16777216 elements"},
      {"%x = ub.poison : tensor<1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1xf32>",
       "3: a tensor of more than 24 dimensions"},
      {"%x = ub.poison : tensor<4xf32, #blocked>", "3: a tensor with a layout: this is Triton GPU"},
      {"%x = ub.poison : tensor<4 x f32>", "3: expected 'x' after a tensor dimension"},
      // Constants.
      {"%x = arith.constant dense<[1, 2]> : tensor<2xi32>", "3: arith.constant: a list of values"},
      {"%x = arith.constant 256 : i8", "3: arith.constant: '256' does not fit i8"},
      {"%x = arith.constant -129 : i8", "3: arith.constant: '-129' does not fit i8"},
      {"%x = arith.constant 1 : f32", "3: arith.constant: '1' does not fit f32"},
      {"%x = arith.constant 1.5 : i32", "3: arith.constant: '1.5' does not fit i32"},
      {"%x = arith.constant 7.0e4 : f16", "3: arith.constant: '7.0e4' does not fit f16"},
      {"%x = arith.constant 0x7F8000000 : f32", "3: arith.constant: '0x7F8000000' does not fit"},
      {"%x = arith.constant 1.0e999 : f64", "3: '1.0e999' is no float of 64 bits"},
      {"%x = arith.constant 18446744073709551616 : i64", "3: '18446744073709551616' does not fit"},
      {"%x = arith.constant 5 : tensor<2xi32>",
       "3: arith.constant: '5' is no value of type tensor<2xi32>"},
      {"%x = arith.constant 5", "4: arith.constant: expected ':' and a type, got 'tt.return'"},
      // Operations that are known and refused, or unknown.
      {"scf.if %b {\ncf.br ^bb1\n}", "4: cf.br: operation not supported: a branch"},
      {"cf.switch %n : i32", "3: cf.switch: operation not supported: a branch"},
      {"tt.call @f(%n) : (i32) -> ()", "3: tt.call: there is no function @f"},
      {"tt.call @f(%n) : (f32) -> ()", "3: tt.call: values for @f are not of its types"},
      {"%x = tt.elementwise_inline_asm \"mov.b32 $0, $1;\" {packed_element = 3 : i32} %n : i32 -> "
       "i32",
       "3: tt.elementwise_inline_asm: packed_element = 3 for i32; expected 1 to 64, a divisor"},
      {"%x = tt.dot_scaled %n, %n, %f lhs = e4m3 rhs = e4m3 : i32 * i32 -> f32",
       "3: tt.dot_scaled: i32 * i32 -> f32; expected matrices of floats"},
      {"%x = tt.splat %f : f32 -> tensor<16x16xf32>\n"
       "%y = tt.dot_scaled %x, %x, %x lhs = e3m4 rhs = e4m3 : tensor<16x16xf32> * "
       "tensor<16x16xf32> -> tensor<16x16xf32>",
       "4: tt.dot_scaled: lhs = 'e3m4'; expected e2m1, e4m3, e5m2, bf16 or fp16"},
      {"tt.print \"x\" {hex = false} : %n : i32", "3: tt.print: isSigned for 1 operands"},
      {"tt.assert %n, \"x\" : i32", "3: tt.assert: a condition of type i32"},
      {"%x = foo.bar %n : i32", "3: foo.bar: operation not supported (in kernel k)"},
      {"\n\n%x = foo.bar %n : i32", "5: foo.bar: operation not supported (in kernel k)"},
      {"= 5", "3: expected an operation, got '='"},
      {"tt.reduce %n", "3: tt.reduce: expected the form \"name\"(operands)"},
      {"tt.func @g() {", "3: tt.func inside a function"},
      {"^bb1:", "3: tt.func: a label before the first operation"},
      // Branches between blocks.
      {"%x = arith.negf %f : f32\n^bb1:", "4: nothing branches to ^bb1"},
      {"cf.br ^bb1", "4: expected '}' or a block after a branch, got 'tt.return'"},
      {"cf.br ^bb1\n^bb2:", "3: a branch to ^bb1, which does not exist"},
      {"cf.br ^bb1\n^bb1:\ncf.br ^bb1\n^bb2:", "5: a loop made of branches, back to ^bb1"},
      {"cf.br ^bb1\n^bb1:\ncf.br ^bb2\n^bb1:\ntt.return\n^bb2:", "6: a second block ^bb1"},
      {"cf.br ^bb1(%n : i32)\n^bb1(%x: f32):", "3: values for ^bb1 are not of its types"},
      {"cf.br ^bb1(%n : f32)\n^bb1(%x: f32):", "3: cf.br: %n has type i32, written here as f32"},
      {"cf.cond_br %n, ^bb1, ^bb1\n^bb1:", "3: cf.cond_br: a condition of type i32"},
      {"cf.cond_br %b, ^bb1, ^bb2\n^bb1:\ncf.cond_br %b, ^bb3, ^bb4\n^bb2:\n"
       "cf.cond_br %b, ^bb3, ^bb4\n^bb3:\ntt.return\n^bb4:",
       "3: branches that cross; expected nested ones"},
      // Names.
      {"%x = arith.addi %y, %n : i32", "3: arith.addi: %y is not defined before its use"},
      {"%n = arith.addi %n, %n : i32", "4: %n is defined twice"},
      {"%x:2 = arith.addi %n, %n : i32", "3: arith.addi: 1 results, named 2"},
      {"arith.addi %n, %n : i32", "3: arith.addi: 1 results, named 0"},
      {"%x = arith.addi %n, %f : i32", "3: arith.addi: operand %f has type f32, written here as"},
      {"%x = tt.addptr %p, %n : !tt.ptr<f32>", "3: tt.addptr: 2 operands and 1 types"},
      {"scf.if %b {\n%x = ub.poison : i32\n}\n%y = arith.negf %x : i32",
       "6: arith.negf: %x is not defined before its use"},
      {"%x:2 = scf.if %b -> (i32, i32) {\nscf.yield %n, %n : i32, i32\n} else {\n"
       "scf.yield %n, %n : i32, i32\n}\n%y = arith.addi %x, %n : i32",
       "8: arith.addi: %x has several results; expected %name#number"},
      // Attributes.
      {"%x = ub.poison {a = 1, a = 2} : i32", "3: ub.poison: attribute a is given twice"},
      {"%x = ub.poison {a = } : i32", "3: expected an attribute value, got '}'"},
      {"%x = arith.addi %n, %n {wrong = 1} : i32", "3: arith.addi: attribute wrong is not"},
      {"%x = tt.get_program_id w : i32", "3: tt.get_program_id: expected x, y or z, got 'w'"},
      // Counts and types.
      {"%x = arith.addi %n : i32", "3: arith.addi: 1 operands; expected 2"},
      {"%x = tt.load %p, %b, %f, %f : !tt.ptr<f32>", "3: tt.load: 4 operands; expected 1 to 3"},
      {"%x = arith.addf %n, %n : i32", "3: arith.addf: a result of type i32"},
      {"%x = arith.addi %f, %f : f32", "3: arith.addi: a result of type f32"},
      {"%x = arith.cmpi foo, %n, %n : i32", "3: arith.cmpi: unknown predicate 'foo'"},
      {"%x = arith.cmpi oeq, %n, %n : i32", "3: arith.cmpi: unknown predicate 'oeq'"},
      {"%x = arith.cmpf oeq, %n, %n : i32", "3: arith.cmpf: cannot compare i32"},
      {"%x = arith.extsi %n : i32 to i16", "3: arith.extsi: cannot make i16 of i32"},
      {"%x = arith.extf %f : f32 to f16", "3: arith.extf: cannot make f16 of f32"},
      {"%x = tt.bitcast %n : i32 -> i64", "3: tt.bitcast: cannot make i64 of i32"},
      {"%x = tt.int_to_ptr %n : i32 -> !tt.ptr<f32>", "3: tt.int_to_ptr: cannot make !tt.ptr<f32>"},
      {"%x = tt.fp_to_fp %f, rounding = rtx : f32 -> f16", "3: tt.fp_to_fp: rounding 'rtx'"},
      {"%x = tt.clampf %f, %f, %f, propagateNan = any : f32", "3: tt.clampf: propagateNan = 'any'"},
      {"%x = tt.addptr %n, %n : i32, i32", "3: tt.addptr: operand %n is no pointer"},
      {"%x = tt.addptr %p, %f : !tt.ptr<f32>, f32", "3: tt.addptr: offset %f has type f32"},
      {"%x = tt.load %n : i32", "3: tt.load: operand %n has type i32; expected a pointer"},
      {"%x = tt.load %p, %n : !tt.ptr<f32>", "3: tt.load: the mask has type i32; expected i1"},
      {"%x = tt.load %p, %b, %n : !tt.ptr<f32>", "3: tt.load: the other value has type i32"},
      {"tt.store %p, %n : !tt.ptr<f32>", "3: tt.store: the value has type i32; expected f32"},
      {"%x = tt.atomic_rmw add, relaxed, gpu, %p, %f : (!tt.ptr<f32>, f32) -> f32",
       "3: tt.atomic_rmw: add on f32"},
      {"%x = tt.atomic_rmw nand, relaxed, gpu, %p, %f : (!tt.ptr<f32>, f32) -> f32",
       "3: tt.atomic_rmw: unknown operation 'nand'"},
      // Shapes.
      {"%x = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<4xi32>",
       "3: tt.make_range: start 0, end 8 for tensor<4xi32>"},
      {"%x = tt.make_range {end = 4 : i32} : tensor<4xi32>", "3: tt.make_range: start -1, end 4"},
      {"%x = tt.splat %n : i32 -> tensor<4xi64>", "3: tt.splat: cannot make tensor<4xi64> of i32"},
      {"%x = tt.splat %n : i32 -> tensor<4xi32>\n"
       "%y = tt.expand_dims %x {axis = 2 : i32} : tensor<4xi32> -> tensor<4x1xi32>",
       "4: tt.expand_dims: cannot make tensor<4x1xi32> of tensor<4xi32> with axis 2"},
      {"%x = tt.splat %n : i32 -> tensor<4xi32>\n"
       "%y = tt.broadcast %x : tensor<4xi32> -> tensor<8xi32>",
       "4: tt.broadcast: cannot make tensor<8xi32> of tensor<4xi32>"},
      {"%x = tt.splat %n : i32 -> tensor<4xi32>\n"
       "%y = tt.reshape %x : tensor<4xi32> -> tensor<2x3xi32>",
       "4: tt.reshape: cannot make tensor<2x3xi32> of tensor<4xi32>"},
      {"%x = tt.splat %n : i32 -> tensor<4x2xi32>\n"
       "%y = tt.trans %x {order = array<i32: 0, 0>} : tensor<4x2xi32> -> tensor<4x4xi32>",
       "4: tt.trans: cannot make tensor<4x4xi32> of tensor<4x2xi32>"},
      {"%x = tt.splat %n : i32 -> tensor<4x2xi32>\n%y = tt.unsplat %x : tensor<4x2xi32>",
       "4: tt.unsplat: cannot make i32 of tensor<4x2xi32>"},
      {"%x = tt.splat %f : f32 -> tensor<4x8xf32>\n"
       "%y = tt.dot %x, %x, %x : tensor<4x8xf32> * tensor<4x8xf32> -> tensor<4x8xf32>",
       "4: tt.dot: shapes tensor<4x8xf32> * tensor<4x8xf32> -> tensor<4x8xf32>"},
      {"%y = tt.dot %f, %f, %f : f32 * f32 -> f32", "3: tt.dot: operands of rank 0, 0 and 0"},
      // Regions.
      {"%x = tt.splat %f : f32 -> tensor<4xf32>\n"
       "%y = \"tt.reduce\"(%x) <{axis = 1 : i32}> ({\n^bb0(%l: f32, %r: f32):\n"
       "tt.reduce.return %l : f32\n}) : (tensor<4xf32>) -> f32",
       "4: tt.reduce: axis 1 of tensor<4xf32>"},
      {"%x = tt.splat %f : f32 -> tensor<4xf32>\n"
       "%y = \"tt.reduce\"(%x) <{axis = 0 : i32}> ({\n^bb0(%l: f32):\n"
       "tt.reduce.return %l : f32\n}) : (tensor<4xf32>) -> f32",
       "4: tt.reduce: region argument: 1 values; expected 2"},
      {"%x = tt.splat %f : f32 -> tensor<4xf32>\n"
       "%y = \"tt.reduce\"(%x) <{axis = 0 : i32}> ({\n^bb0(%l: f32, %r: f32):\n"
       "%v = tt.load %p : !tt.ptr<f32>\ntt.reduce.return %v : f32\n}) : (tensor<4xf32>) -> f32",
       "6: tt.load: cannot stand in the region of tt.reduce"},
      {"%x = tt.splat %f : f32 -> tensor<4xf32>\n"
       "%y = \"tt.reduce\"(%x) <{axis = 0 : i32}> ({\n^bb0(%l: f32, %r: f32):\n"
       "scf.yield %l : f32\n}) : (tensor<4xf32>) -> f32",
       "6: scf.yield: ends a region of tt.reduce; expected tt.reduce.return"},
      {"%y = \"tt.reduce\"(%f) <{axis = 0 : i32}> : (f32) -> f32",
       "3: tt.reduce: 0 regions; expected 1"},
      {"%x = scf.if %b -> (i32) {\nscf.yield %n : i32\n}", "3: scf.if: results without an else"},
      {"scf.if %n {\n}", "3: scf.if: the condition has type i32; expected i1"},
      {"%x = scf.if %b -> (i32) {\nscf.yield %f : f32\n} else {\nscf.yield %n : i32\n}",
       "4: scf.yield: value 0 has type f32; expected i32"},
      {"scf.for %i = %n to %n step %n : i32 {\ntt.return\n}", "4: tt.return: inside a loop"},
      {"scf.for %i = %n to %n step %n {\n}",
       "3: scf.for: operand %n has type i32, written here as"},
      {"scf.for %i = %f to %f step %f : f32 {\n}", "3: scf.for: a loop variable of type f32"},
      {"%x = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (f32) : i32 {\n}",
       "3: scf.for: operand %n has type i32, written here as f32"},
      {"%x = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32) : i32 {\n}",
       "4: scf.yield: value: 0 values; expected 1"},
      {"%x = scf.for %i = %n to %n step %n iter_args(%a = %n) -> (i32, i32) : i32 {\n}",
       "3: scf.for: 1 carried values and 2 types"},
      {"scf.while : () -> () {\nscf.condition(%n)\n} do {\nscf.yield\n}",
       "4: scf.condition: the condition has type i32; expected i1"},
      {"scf.while : () -> () {\n} do {\nscf.yield\n}",
       "3: scf.while: a region that does not end in a return, a yield or a condition"},
      {"scf.yield", "3: scf.yield: outside of the region that it ends"},
      {"tt.return %n : i32", "3: tt.return: stands in the middle of a region"},
  };
  for (const Refusal& refusal : refusals) {
    EXPECT_THAT(error_of(kernel(refusal.body)),
                testing::StartsWith(std::string("a.ttir:") + refusal.message))
        << refusal.body;
  }
}

TEST(TtirParse, RefusesWhatIsNotOneKernel) {
  const Refusal refusals[] = {
      {"", "1: no function; expected one tt.func"},
      {"module {\n}\n", "3: no function; expected one tt.func"},
      {"hello", "1: expected tt.func, got 'hello'"},
      {"module {\n", "2: expected tt.func, got the end of the text"},
      {"tt.func public @a() {\ntt.return\n}\ntt.func public @b() {\ntt.return\n}",
       "4: tt.func: a second function; expected one kernel"},
      {"tt.func private @a() {\ntt.return\n}", "3: no function; expected one tt.func"},
      {"tt.func public @a() {\ntt.call @b() : () -> i32\ntt.return\n}\n"
       "tt.func private @b() {\ntt.return\n}",
       "5: tt.func: @b does not take or return what the call says"},
      {"tt.func public @a() {\ntt.call @b() : () -> ()\ntt.return\n}\n"
       "tt.func private @b() {\ntt.return\n}\ntt.func private @b() {\ntt.return\n}",
       "8: tt.func: a second function @b"},
      {"tt.func public @a() -> i32 {\ntt.return\n}", "1: tt.func: a kernel that returns a value"},
      {"tt.func public @a() {\n}", "1: tt.func: a region that does not end in a return"},
      {"tt.func public @a(%x: tensor<4xf32>) {\ntt.return\n}", "1: tt.func: argument %x is a"},
      {"tt.func public @a(%x: i32, %x: i32) {", "1: %x is defined twice"},
      {"tt.func public @a(%x: i32 {tt.divisibility = 0 : i32}) {",
       "1: tt.func: tt.divisibility = 0"},
      {"tt.func public @a() {\ntt.return\n", "3: expected an operation, got the end of the text"},
      {"module {\ntt.func public @a() {\ntt.return\n}\n}\nmodule {\n}",
       "6: expected the end of the text, got 'module'"},
  };
  for (const Refusal& refusal : refusals) {
    EXPECT_THAT(error_of(refusal.body),
                testing::StartsWith(std::string("a.ttir:") + refusal.message))
        << refusal.body;
  }
}

// Programs that Triton compiles and this compiler does not: the message names the operation and its
// line.
TEST(TtirParse, RefusedSamplesNameTheOperation) {
  const std::vector<Sample> samples = read_samples("refused");
  const std::pair<const char*, const char*> wanted[] = {
      {"desc", "a.ttir:7: tt.make_tensor_descriptor: operation not supported: a tensor descriptor"},
      {"recursion", "a.ttir:10: tt.call: @m.half calls itself: recursion is not supported"},
  };
  EXPECT_EQ(samples.size(), std::size(wanted));
  for (const auto& [name, message] : wanted) {
    EXPECT_THAT(error_of(sample(samples, name).text), testing::StartsWith(message));
  }
}

// verify() does not rely on the parser: an IR changed in memory is refused too.
TEST(TtirVerify, FindsWhatNoTextCanSay) {
  const auto fresh = [] {
    return parse_module(kernel("%x = arith.addi %n, %n : i32\n%y = arith.addi %x, %n : i32\n"
                               "scf.if %b {\n%z = arith.addi %y, %n : i32\n}"),
                        "a.ttir");
  };
  const auto error_in = [](const Module& module) -> std::string {
    try {
      verify(module, "b");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_in(*fresh()), "no error");

  auto swapped = fresh();
  auto& ops = swapped->functions[0]->body->ops;
  std::swap(ops[0], ops[1]);
  EXPECT_THAT(error_in(*swapped), testing::StartsWith("b:4: arith.addi: %x is not defined before"));

  auto retyped = fresh();
  retyped->functions[0]->body->ops[0]->result()->type.scalar = Scalar::i64;
  EXPECT_THAT(error_in(*retyped), testing::StartsWith("b:3: arith.addi: operand 0 has type i32"));

  auto endless = fresh();
  endless->functions[0]->body->ops.pop_back();
  EXPECT_THAT(error_in(*endless), testing::StartsWith("b:2: tt.func: a region that does not end"));

  // A value of an inner region is not visible behind it.
  auto leaked = fresh();
  Block& body = *leaked->functions[0]->body;
  Value* inner = body.ops[2]->regions[0]->block->ops[0]->result();
  auto use = std::make_unique<Op>();
  use->kind = OpKind::store;
  use->operands = {body.args[0].get(), inner};
  use->parent = &body;
  use->line = 9;
  body.ops.insert(body.ops.begin() + 3, std::move(use));
  EXPECT_THAT(error_in(*leaked), testing::StartsWith("b:9: tt.store: %z is not defined before"));

  EXPECT_THAT(error_in(Module{}), testing::StartsWith("b:1: 0 functions; expected one kernel"));
}

TEST(TtirTypes, CountElementsAndPrint) {
  Type type;
  EXPECT_EQ(type.n_elements(), 1);
  type.shape = {16, 1, 4};
  type.is_pointer = true;
  type.scalar = Scalar::f8e4m3fn;
  EXPECT_EQ(type.n_elements(), 64);
  EXPECT_EQ(type_text(type), "tensor<16x1x4x!tt.ptr<f8E4M3FN>>");
}

}  // namespace
}  // namespace nereid::ttir
