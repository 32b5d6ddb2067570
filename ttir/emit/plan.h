// Goal: where each tensor lives: nowhere (an expression inside the loops that use it), in registers
// (a small carried tile), or in the arena; chosen so that nothing is stored that need not be, and
// no load moves past a write.
// Non-goal: offsets and names: the emitter's.
// Rejected: materialising every value used twice: reloading and converting costs less than a round
// trip through memory.
#pragma once

#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "affine.h"

namespace nereid::ttir {

enum class Place : std::uint8_t {
  lazy,     // recomputed in the loop nest of each consumer
  buffer,   // in the arena
  tile,     // carried by a loop in an array of vectors
  advance,  // carried by a loop as the scalar by which it has moved
};

class Plan {
 public:
  Plan(const Function& function, AffineAnalysis& analysis, std::string where);

  Place place(const Value* v) const;
  // The value whose storage holds v: itself, or what it is written over.
  const Value* home(const Value* v) const;
  // The operations at which a lazy value is evaluated.
  const std::set<const Op*>& roots(const Value* v) const { return roots_.at(v); }
  int position(const Op* op) const { return position_.at(op); }
  // How many rows a loop is run for one after the other, each with its tiles in registers; 0: the
  // loop is run once, for all rows.
  std::int64_t rows_of(const Op* loop) const;
  // Whether v's expression reads `storage`, and then only element by element at v's own index.
  enum class Reads : std::uint8_t { no, same_index, other_index };
  Reads reads(const Value* v, const Value* storage) const;

 private:
  void number(const Block& block);
  void place_loop(const Op& loop);
  bool place_row_loop(const Op& loop);
  bool stays_in_rows(const Value* v, const Op* loop) const;
  bool fits_tile(const Value* v, std::unordered_set<const Value*>& seen) const;
  void place_block(const Block& block);
  void place_result(const Op& op, const Value* v);
  bool crosses_write(const Op& load, const Value* v) const;
  bool is_gathered_again(const Op& load, const Value* v) const;
  void alias_loop(const Op& loop);
  int own_cost(const Op& op) const;
  int cost(const Value* v);
  int uses(const Value* v) const;  // evaluations, weighted by loops and broadcasts

  AffineAnalysis& analysis_;
  std::string where_;
  std::unordered_map<const Value*, Place> places_;
  std::unordered_map<const Value*, const Value*> homes_;
  std::unordered_map<const Value*, std::set<const Op*>> roots_;
  std::unordered_map<const Value*, int> costs_;
  std::unordered_set<const Value*> is_repeated_;  // broadcast on the way to a root
  std::unordered_map<const Op*, std::int64_t> row_loops_;
  std::unordered_map<const Op*, int> position_;
  std::unordered_map<const Op*, int> end_;  // of an operation with regions: after its last
  std::vector<int> writes_;                 // positions of stores and atomics
};

// Whether inner lies in a region of outer.
bool encloses(const Op* outer, const Op* inner);

}  // namespace nereid::ttir
