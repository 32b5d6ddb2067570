// Goal: one loop nest: the expressions of lazy values at an index, each written once, at the
// outermost loop where it is known; loads and stores with their masks as bounds.
// Non-goal: what the nest is for (emitter.h).
// Rejected: writing whole statements and leaving hoisting to the C++ compiler: it cannot move
// masked loads, and the text would be unreadable.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "affine.h"
#include "names.h"
#include "plan.h"

namespace nereid::ttir {

// Indented lines.
class Writer {
 public:
  void line(const std::string& text);
  void open(const std::string& text) { line(text), ++depth_; }
  void close(const std::string& text = "}") { --depth_, line(text); }
  void reopen(const std::string& text) { --depth_, line(text), ++depth_; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  int depth_ = 0;
};

// What all of the emission of one kernel shares.
struct Scope {
  explicit Scope(std::string place) : where(std::move(place)) {}

  std::string where;
  Names names;
  AffineAnalysis analysis{names, where};
  const Plan* plan = nullptr;
  std::unordered_map<const Value*, std::string>
      storage;             // of buffers (a pointer) and tiles (an array)
  bool has_quads = false;  // adds up products of four bytes, in a way that the processor decides

  const std::string& storage_of(const Value* v) const;
  std::string scalar_text(const Value* v);
};

// An index along one dimension: zero, a loop's variable, or the sixteen lanes that start at `text`.
struct Coord {
  enum class Kind : std::uint8_t { zero, index, lane } kind = Kind::zero;
  int level = 0;
  std::string text = "0";
};
using Coords = std::vector<Coord>;

struct Expr {
  std::string text;
  bool is_vector = false;
  int level = 0;
};

// Which lanes of an access are on.
struct Active {
  std::string count;  // name of the number of lanes from the row's start; empty: all of them
  int count_level = 0;
  std::string condition;  // uniform, where there is no lane; empty: true
  int level = 0;
  std::string mask;  // further lanes that are off: a Mask expression, or empty
};

enum class Walk : std::uint8_t {
  row,    // the vectors of a row, one after the other
  tile,   // all at once, unrolled: for arrays of vectors
  lanes,  // the first `limit` lanes only
};

class Nest {
 public:
  explicit Nest(Scope& scope) : scope_(scope), levels_(1) {}

  // Loops, outermost first. `open` and `close` are the loop's own lines.
  int add_loop(const std::string& open, const std::string& close = "}");
  // for (i = 0; i < count; ++i), or up to `limit`, an expression that is no more.
  Coord add_index(std::int64_t count, const std::string& limit = "");
  // The loop over a row's lanes; accumulators > 1: with an index `u` of accumulator.
  Coord add_lanes(std::int64_t lanes, Walk walk, int accumulators = 1);
  // All at once those of a row's `row_lanes` lanes that stand in a strip of `lanes`, from `first`.
  Coord add_strip(std::int64_t row_lanes, std::int64_t lanes, const std::string& first);
  void limit_lanes(const std::string& count) { walk_ = Walk::lanes, limit_ = count; }

  Expr eval(const Value* v, Coords coords);
  Expr eval_definition(const Value* v, Coords coords);  // as eval, though v may have storage
  std::string vector_text(const Value* v, const Coords& coords);  // in every lane
  // The write of `value` through a tensor of pointers at coords, within `mask` (null: everywhere).
  void store(const Op& op, const Coords& coords);
  void atomic(const Op& op, const Coords& coords, const std::string& result);
  void store_buffer(const Value* buffer, const Coords& coords, const Expr& value);
  std::string buffer_at(const Value* v, const Coords& coords, int& level);
  // Where the whole row of a mask is one bound at coords: its name.
  std::string mask_count(const Value* mask, const Coords& coords);

  void line(int level, const std::string& text) { levels_[level].before.push_back(text); }
  void after(int level, const std::string& text) { levels_[level].after.push_back(text); }
  int innermost() const { return static_cast<int>(levels_.size()) - 1; }
  int lane_level() const { return lane_level_; }
  void write(Writer& out);

 private:
  struct Level {
    std::string open, close;
    std::vector<std::string> before, after;
  };
  struct Address {
    enum class Kind : std::uint8_t { scalar, unit, strided, gather } kind = Kind::scalar;
    std::string pointer;  // of lane 0 of the vector; gather: a vector of addresses
    std::string stride;
    int level = 0;
  };

  Coords canonical(const Value* v, Coords coords);
  Expr compute(const Value* v, const Coords& coords);
  Expr compute_stored(const Value* v, Place place, const Coords& coords);
  Expr eval_load(const Op& op, const Coords& coords);
  Expr eval_buffer(const Value* v, const Coords& coords);
  Expr eval_elementwise(const Op& op, const Coords& coords);
  std::optional<Expr> eval_quads(const Op& op, const Coords& coords);
  Expr declare(const Value* v, const std::string& text, bool is_vector, int level);
  Linear linear_at(const Affine& a, const Coords& coords, int lane_dim, int& level);
  Address address(const Value* pointer, const Coords& coords);
  Expr address_vector(const Value* pointer, const Coords& coords);
  Active active(const Value* mask, const Coords& coords);
  void collect(const Value* mask, const Coords& coords, Active& out,
               std::vector<std::pair<std::string, int>>& conds,
               std::vector<std::pair<std::string, int>>& bounds);
  std::string active_text(const Active& a);
  std::string lane_count_text() const;
  Coords term_coords(const TensorTerm& t, const Coords& coords) const;
  std::string lane_text() const { return lane_text_; }

  Scope& scope_;
  std::vector<Level> levels_;
  int lane_level_ = -1;
  std::int64_t lanes_ = 0;      // of the loop
  std::int64_t row_lanes_ = 0;  // of the row: more than the loop's in a strip
  std::string lane_text_;       // index of the first of the sixteen lanes
  Walk walk_ = Walk::row;
  int accumulators_ = 1;
  std::string first_;
  std::string limit_;
  std::vector<std::string> bounds_;  // counts of lanes that loads may touch
  std::map<std::string, Expr> memo_;
  std::map<std::string, std::string> counts_;
};

}  // namespace nereid::ttir
