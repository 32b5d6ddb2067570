// What passes make of a graph computes the same numbers: graphs drawn at random, evaluated in
// double before fusing, after it, taken apart again, and made legal for steps of every kind.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "graph/cluster.h"
#include "graph/passes/passes.h"
#include "program/lower.h"

namespace nereid::graph {
namespace {

constexpr std::size_t kTokens = 3;
constexpr int kGraphs = 150;

struct Matrix {
  std::size_t n_rows, n_cols;
  std::vector<double> data;
  double& at(std::size_t row, std::size_t col) { return data[row * n_cols + col]; }
  double at(std::size_t row, std::size_t col) const { return data[row * n_cols + col]; }
};

Matrix made(std::size_t n_rows, std::size_t n_cols,
            const std::function<double(std::size_t, std::size_t)>& element) {
  Matrix matrix{n_rows, n_cols, {}};
  for (std::size_t row = 0; row < n_rows; ++row)
    for (std::size_t col = 0; col < n_cols; ++col) matrix.data.push_back(element(row, col));
  return matrix;
}

// Inputs and weights are what their names say, so that every form of a graph reads the same.
Matrix drawn(const Value& value) {
  std::mt19937 random(static_cast<unsigned>(std::hash<std::string>{}(value.name)));
  const auto size = [](const Dim& dim) {
    return dim.is_constant() ? static_cast<std::size_t>(dim.offset) : kTokens;
  };
  const bool is_vector = value.shape.size() == 1;
  std::uniform_real_distribution<double> uniform(-1, 1);
  return made(is_vector ? 1 : size(value.shape[0]), size(value.shape.back()),
              [&](auto, auto) { return uniform(random); });
}

double silu(double x) { return x / (1 + std::exp(-x)); }

Matrix normed(const Matrix& x, const Matrix& weight, double eps) {
  return made(x.n_rows, x.n_cols, [&](auto row, auto col) {
    double squares = 0;
    for (std::size_t i = 0; i < x.n_cols; ++i) squares += x.at(row, i) * x.at(row, i);
    return x.at(row, col) / std::sqrt(squares / double(x.n_cols) + eps) * weight.at(0, col);
  });
}

using Values = std::map<ValueId, Matrix>;

// The expressions that are drawn.
constexpr const char* kGatedMap = "(x, y) -> x * sigmoid(y) + 0.5 * y, max(x, y)";
constexpr const char* kCentredMap = "(x, w) -> c = x - mean(x); return c * w";
constexpr const char* kCappedMap = "(x) -> t = tanh(x / 3.0); return 3.0 * t";
constexpr const char* kGeluMap = "(a, b) -> gelu(a) * b";
constexpr const char* kSiluMul = "(gate, up) -> silu(gate) * up";

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

// What a linear's epilogue makes of its product, of which one of two values takes halves.
Matrix finished(const std::string& text, const Matrix& p) {
  const std::size_t half = p.n_cols / 2;
  const auto gated = [&](double (*function)(double)) {
    return made(p.n_rows, half, [&](auto row, auto col) {
      return function(p.at(row, col)) * p.at(row, half + col);
    });
  };
  if (text == kSiluMul) return gated(silu);
  if (text == kGeluMap) return gated(gelu);
  if (text == kCappedMap)
    return made(p.n_rows, p.n_cols,
                [&](auto row, auto col) { return 3 * std::tanh(p.at(row, col) / 3); });
  double factor = 1;
  if (std::sscanf(text.c_str(), "(x) -> %lf * x", &factor) != 1 && !text.empty())
    ADD_FAILURE() << text << " is no epilogue that is drawn";
  return made(p.n_rows, p.n_cols, [&](auto row, auto col) { return factor * p.at(row, col); });
}

std::vector<Matrix> mapped(const Node& node, const Matrix& x, const Matrix& y) {
  if (node.text_attr(kBody) == kCappedMap) return {finished(kCappedMap, x)};
  const auto both = [&](const auto& function) {
    return made(x.n_rows, x.n_cols,
                [&](auto row, auto col) { return function(x.at(row, col), y.at(row, col)); });
  };
  if (node.text_attr(kBody) == kGatedMap)
    return {both([](double a, double b) { return a * sigmoid(b) + 0.5 * b; }),
            both([](double a, double b) { return std::max(a, b); })};
  if (node.text_attr(kBody) == kGeluMap)
    return {both([](double a, double b) { return gelu(a) * b; })};
  EXPECT_EQ(node.text_attr(kBody), kCentredMap);
  return {made(x.n_rows, x.n_cols, [&](auto row, auto col) {
    double sum = 0;
    for (std::size_t i = 0; i < x.n_cols; ++i) sum += x.at(row, i);
    return (x.at(row, col) - sum / double(x.n_cols)) * y.at(0, col);
  })};
}

Matrix linear_of(const Node& node, const Values& values) {
  const auto in = [&](const char* role) -> const Matrix& { return values.at(node.operand(role)); };
  const Matrix x = node.has("norm") ? normed(in("x"), in("norm"), node.float_attr("eps")) : in("x");
  const auto& weight = in("weight");
  const Matrix p = made(x.n_rows, weight.n_rows, [&](auto row, auto col) {
    double sum = 0;
    for (std::size_t i = 0; i < x.n_cols; ++i) sum += x.at(row, i) * weight.at(col, i);
    return sum + (node.has("bias") ? in("bias").at(0, col) : 0);
  });
  const Matrix q = finished(node.text_attr("epilogue"), p);
  if (!node.has("residual")) return q;
  return made(q.n_rows, q.n_cols, [&](auto row, auto col) {
    return node.float_attr("alpha") * q.at(row, col) + in("residual").at(row, col);
  });
}

Matrix evaluated(const Node& node, const Values& values) {
  const auto in = [&](std::size_t i) -> const Matrix& { return values.at(node.inputs[i]); };
  const auto each = [&](const std::function<double(std::size_t, std::size_t)>& element) {
    return made(in(0).n_rows, in(0).n_cols, element);
  };
  switch (node.op) {
    case Op::linear:
      return linear_of(node, values);
    case Op::rms_norm:
      return normed(in(0), in(1), node.float_attr("eps"));
    case Op::add:
      return each([&](auto row, auto col) {
        return in(0).at(row, col) + node.float_attr("alpha") * in(1).at(row, col);
      });
    case Op::scale:
      return each(
          [&](auto row, auto col) { return node.float_attr("alpha") * in(0).at(row, col); });
    case Op::silu_mul:
      return each(
          [&](auto row, auto col) { return silu(in(0).at(row, col)) * in(1).at(row, col); });
    case Op::slice: {
      const auto begin = static_cast<std::size_t>(node.int_attr("begin"));
      return made(in(0).n_rows, static_cast<std::size_t>(node.int_attr("size")),
                  [&](auto row, auto col) { return in(0).at(row, begin + col); });
    }
    case Op::pack: {
      Matrix all = in(0);
      for (std::size_t i = 1; i < node.inputs.size(); ++i) {
        // Vectors lie in one row.
        (all.n_rows == 1 ? all.n_cols : all.n_rows) +=
            all.n_rows == 1 ? in(i).n_cols : in(i).n_rows;
        all.data.insert(all.data.end(), in(i).data.begin(), in(i).data.end());
      }
      return all;
    }
    default:
      ADD_FAILURE() << node.row().name << " is not drawn";
      return in(0);
  }
}

void evaluate(const Graph& graph, Values& values) {
  for (const auto& node : graph.nodes) {
    if (node.op == Op::map) {
      const auto results = mapped(node, values.at(node.inputs[0]), values.at(node.inputs.back()));
      for (std::size_t i = 0; i < results.size(); ++i) values[node.outputs[i]] = results[i];
      continue;
    }
    if (node.op != Op::cluster) {
      values[node.outputs[0]] = evaluated(node, values);
      continue;
    }
    const Graph body = cluster_body(graph, node);
    Values inner;
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      inner[static_cast<ValueId>(i)] = values.at(node.inputs[i]);
    evaluate(body, inner);
    for (std::size_t i = 0; i < body.outputs.size(); ++i)
      values[node.outputs[i]] = inner.at(body.outputs[i]);
  }
}

std::vector<Matrix> results_of(const Graph& graph) {
  Values values;
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    if (graph.values[i].kind == ValueKind::input || graph.values[i].kind == ValueKind::weight)
      values[static_cast<ValueId>(i)] = drawn(graph.values[i]);
  evaluate(graph, values);
  std::vector<Matrix> results;
  for (const auto id : graph.outputs) results.push_back(values.at(id));
  return results;
}

// Draws what passes look for, whole or with a part that is missing, read twice or returned.
class Drawing {
 public:
  explicit Drawing(unsigned seed) : random_(seed) {
    graph_.name = "drawn";
    live_.push_back(
        graph_.add_value(ValueKind::input, "x", DType::fp32, {Symbol::n_tokens, width()}));
  }

  Graph draw() {
    const int n = 3 + below(10);
    for (int i = 0; i < n; ++i) step();
    graph_.outputs = {live_.back()};
    for (int i = below(3); i > 0; --i) graph_.outputs.push_back(any());
    return std::move(graph_);
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  bool chance() { return below(2) == 0; }
  std::int64_t width() { return 16 * (1 + below(3)); }
  double number() { return chance() ? 1.0 : 0.25 * (1 + below(8)); }
  // The last ones more often: chains.
  ValueId any() {
    return chance() ? live_.back() : live_[static_cast<std::size_t>(below(int(live_.size())))];
  }
  std::int64_t n_cols(ValueId id) const { return graph_.value(id).shape[1].offset; }
  // Of the width; the newest if there is one, else a new one.
  ValueId as_wide_as(std::int64_t n) {
    std::vector<ValueId> wide;
    for (const auto id : live_)
      if (n_cols(id) == n) wide.push_back(id);
    if (wide.empty()) return linear(any(), n);
    return wide[static_cast<std::size_t>(below(int(wide.size())))];
  }
  ValueId weight(std::vector<Dim> shape) {
    return graph_.add_value(ValueKind::weight, fmt::format("w{}", graph_.values.size()),
                            DType::fp16, std::move(shape));
  }
  ValueId keep(ValueId id) {
    live_.push_back(id);
    return id;
  }

  ValueId linear(ValueId x, std::int64_t n_out) {
    Node node(Op::linear, {x, weight({n_out, n_cols(x)})});
    if (chance()) node.set_operand("bias", weight({n_out}));
    if (below(8) == 0) node.set_operand("norm", weight({n_cols(x)}));
    if (node.has("norm") && below(8) == 0) node.set_attr("eps", 0.5);
    if (below(8) == 0) node.set_operand("residual", as_wide_as(n_out));
    if (node.has("residual")) node.set_attr("alpha", number());
    return keep(graph_.add_node(std::move(node))[0]);
  }

  void step() {
    const ValueId x = any();
    switch (below(12)) {
      case 0:
        keep(graph_.add(Op::rms_norm, {x, weight({n_cols(x)})}, {{"eps", chance() ? 1e-5 : 0.5}}));
        return;
      case 1:
        keep(graph_.add(Op::scale, {x}, {{"alpha", number()}}));
        return;
      case 2:
        keep(graph_.add(Op::add, {as_wide_as(n_cols(x)), x}, {{"alpha", number()}}));
        return;
      case 3:
        keep(graph_.add(Op::silu_mul, {x, as_wide_as(n_cols(x))}));
        return;
      case 4: {  // several of the same rows: to be packed
        for (int i = 1 + below(3); i >= 0; --i) linear(x, width());
        return;
      }
      case 5: {  // halves that are gated, and sometimes the mirror image of it
        const auto half = width();
        const ValueId both = linear(x, 2 * half);
        const ValueId gate = graph_.add(Op::slice, {both}, {{"size", half}});
        const ValueId up = graph_.add(Op::slice, {both}, {{"begin", half}, {"size", half}});
        if (below(3) == 0) keep(up);
        if (chance())
          keep(graph_.add(Op::map, {gate, up}, {{"body", std::string(kGeluMap)}}));
        else
          keep(below(4) == 0 ? graph_.add(Op::silu_mul, {up, gate})
                             : graph_.add(Op::silu_mul, {gate, up}));
        return;
      }
      case 6: {  // a residual
        const ValueId product = linear(x, width());
        keep(graph_.add(Op::add, {as_wide_as(n_cols(product)), product}, {{"alpha", number()}}));
        return;
      }
      case 7: {  // two results, of which one may be left unread
        const auto results = graph_.add_node(Op::map, {x, as_wide_as(n_cols(x))},
                                             {{"body", std::string(kGatedMap)}});
        for (const auto result : results)
          if (chance() || result == results[0]) keep(result);
        return;
      }
      case 8:
        keep(graph_.add(Op::map, {x, weight({n_cols(x)})}, {{"body", std::string(kCentredMap)}}));
        return;
      case 9: {  // a norm before a product
        const Attrs attrs{{"eps", chance() ? 1e-5 : 0.5}};
        const ValueId rows = graph_.add(Op::rms_norm, {x, weight({n_cols(x)})}, attrs);
        if (chance()) keep(rows);
        linear(rows, width());
        return;
      }
      case 10: {  // what is made of a product alone
        const ValueId product = linear(x, width());
        if (chance())
          keep(graph_.add(Op::scale, {product}, {{"alpha", number()}}));
        else
          keep(graph_.add(Op::map, {product}, {{"body", std::string(kCappedMap)}}));
        return;
      }
      default:
        linear(x, width());
    }
  }

  std::mt19937 random_;
  Graph graph_;
  std::vector<ValueId> live_;
};

std::map<std::string, int> counts_of(const Graph& graph) {
  std::map<std::string, int> counts;
  for (const auto& node : graph.nodes) {
    counts["cluster"] += node.op == Op::cluster;
    counts["mapped"] +=
        node.op == Op::cluster && node.text_attr(kBody).find(" = map ") != std::string::npos;
    counts["pack"] += node.op == Op::pack;
    if (node.op != Op::linear) continue;
    counts["norm"] += node.has("norm");
    counts["residual"] += node.has("residual");
    const auto epilogue = node.text_attr("epilogue");
    counts["silu"] += epilogue == kSiluMul;
    counts["gelu"] += epilogue == kGeluMap;
    counts["cap"] += epilogue == kCappedMap;
    counts["scale"] += epilogue.ends_with(" * x");
  }
  return counts;
}

void expect_same(const std::vector<Matrix>& wanted, const Graph& graph) {
  const auto got = results_of(graph);
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].data.size(), wanted[i].data.size());
    for (std::size_t j = 0; j < got[i].data.size(); ++j) {
      const double size = std::max(1.0, std::abs(wanted[i].data[j]));
      ASSERT_NEAR(got[i].data[j], wanted[i].data[j], 1e-9 * size) << print(graph);
    }
  }
}

TEST(GraphMeaning, PassesChangeNone) {
  const program::Bounds kDecode{{.n_tokens = 2, .n_sequences = 2, .n_logits = 2}, true, "cpu"};
  const program::Bounds kPrefill{
      {.n_tokens = 512, .n_sequences = 4, .n_logits = 4, .max_query_tokens = 512}, false, "cpu"};
  const auto tables = program::KernelTables::builtin();
  std::map<std::string, int> n_made;
  for (unsigned seed = 0; seed < kGraphs; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const Graph graph = Drawing(seed).draw();
    verify(graph);
    EXPECT_EQ(parse(print(graph), "printed"), graph);
    const auto wanted = results_of(graph);
    const auto& passes = pass_table();
    const auto& left_out = passes[seed % passes.size()].name;
    for (const std::set<std::string>& skip :
         {std::set<std::string>{}, std::set<std::string>{std::string(left_out)}}) {
      const Graph fused = run_passes(graph, {.skip = skip, .observe = {}});
      EXPECT_EQ(parse(print(fused), "printed"), fused);
      expect_same(wanted, fused);
      for (const auto& [what, n] : counts_of(fused)) n_made[what] += n;
      for (const auto& [what, n] : counts_of(passes::canonical(graph))) n_made[what] -= n;
      const Graph apart = decompose(fused);
      verify(apart);
      expect_same(wanted, apart);
      for (const auto& node : apart.nodes)
        EXPECT_TRUE(node.op != Op::cluster && !(node.op == Op::linear && node.has("norm")));
      for (const auto& steps : {kDecode, kPrefill}) {
        const Graph legal = program::legalise(fused, steps, tables.specs, skip);
        verify(legal);
        expect_same(wanted, legal);
        for (const auto& node : legal.nodes)
          EXPECT_TRUE(program::has_kernel(legal, node, steps, tables.specs)) << print(legal);
      }
    }
    if (HasFailure()) return;
  }
  for (const char* what :
       {"cluster", "mapped", "pack", "norm", "residual", "silu", "gelu", "cap", "scale"})
    EXPECT_GT(n_made[what], 20) << what << " is hardly made";
}

}  // namespace
}  // namespace nereid::graph
