// Goal: walks a kernel in program order and writes its C++: scalars as statements, loops as loops,
// and a nest at each operation that consumes tensors.
// Non-goal: expressions (nest.h), choosing what is stored (plan.h).
// Rejected: a lower IR between Triton's and C++: each of the two is one step from the other.
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "emit.h"
#include "nest.h"

namespace nereid::ttir {

// How the function of a reduction, a scan or a map is applied.
struct Combining {
  bool is_vector = true;
  bool rounds = false;  // narrow floats after each operation; else they are carried in fp32
  std::string lanes{};  // a Mask of the elements that count, for assertions; empty: all do
};

class Emitter {
 public:
  Emitter(const Function& function, const std::string& where);
  Emitted run();

 private:
  void block(const Block& b);
  void op(const Op& o);
  void scalar(const Op& o);
  // control.cc
  void for_loop(const Op& o);
  void row_loop(const Op& o, std::int64_t n_rows);
  void loop(const Op& o);
  void if_else(const Op& o);
  void while_loop(const Op& o);
  void call(const Op& o);
  // tt.return: of the program, or of the call around it.
  void end_function(const Op& o);
  void declare_results(const Op& o);
  void carry(const std::vector<const Value*>& to, const std::vector<const Value*>& from);
  void assign_scalars(const std::vector<const Value*>& to, const std::vector<const Value*>& from);
  // tensors.cc
  void materialise(const Value* v);
  void fill(const std::vector<const Value*>& storages, const std::vector<const Value*>& values);
  void fill_transposed(const Value* storage, const Value* value);
  // Whether only products of int8 read it, and only as their right operand, of which they take
  // quads (runtime/dot_int8.h).
  static bool may_be_quads(const Value* v);
  // How many indices along `dim` may be other than zero, as an expression that is at most the size.
  std::string extent(const Value* v, int dim);
  void store(const Op& o);
  void atomic(const Op& o);
  void dot(const Op& o);
  void dot_scaled(const Op& o);
  // An operand of it as a panel of fp32 in the arena, scaled; its name.
  std::string scaled_panel(const Op& o, bool is_rhs);
  void round_sum(const Value* d);
  void join(const Op& o);
  // elements.cc
  void concatenate(const Op& o);
  void gather(const Op& o);
  void histogram(const Op& o);
  void map_elementwise(const Op& o);
  // Loops over a tensor's elements, `pack` of its last dimension at a time: the coords of each.
  std::vector<Coords> packs(Nest& nest, const std::vector<std::int64_t>& shape, std::int64_t pack);
  void inline_asm(const Op& o);
  void print(const Op& o);
  void assertion(const Op& o);
  // reduce.cc
  void reduce(const Op& o);
  void reduce_lanes(const Op& o, int axis);
  // A name for the rows of a matrix that are kept until sixteen can be reduced together; empty
  // where one at a time is. In a loop that is run row by row they are kept to its end.
  std::string rows_of_sixteen(const Op& o);
  void keep_rows(const Op& o);
  void reduce_kept_rows(const Op& o);
  void reduce_rows(const Op& o, int axis, int lane_dim);
  // combine.cc
  std::vector<std::string> combine(const Op& o, const std::vector<std::string>& args,
                                   const Combining& how, std::vector<std::string>& lines);
  // tree.cc
  void combine_stored(const Op& o, const std::vector<std::string>& left,
                      const std::vector<std::string>& right, const std::vector<std::string>& to,
                      const std::string& lanes);
  void reduce_tree(const Op& o, int axis);
  void scan(const Op& o);

  std::string scalar_text(const Value* v) { return scope_.scalar_text(v); }
  const std::string& declare_buffer(const Value* v);
  std::size_t allocate(std::size_t bytes);
  // A further copy of v in the arena, and the name of its storage.
  std::string copied(const Value* v, const std::string& stem);
  // Where v is stored: its own place in the arena, or such a copy.
  std::string stored(const Value* v);
  void copy_to(const std::string& storage, const Value* v);
  std::string temporary(const std::string& stem, const std::string& type, std::size_t bytes);
  // The dimension to walk by vectors when values (of one shape) are evaluated in full; -1: it has
  // one element. A dimension along which memory is contiguous wins. `has_tile`: one of them reads a
  // carried tile.
  struct Lanes {
    int dim = -1;
    bool has_tile = false;
  };
  Lanes lanes_of(const std::vector<const Value*>& values,
                 const std::vector<const Value*>& pointers) const;
  // The index along dimension d of a shape: a new loop's, or that of the row that is computed.
  Coord index(Nest& nest, const std::vector<std::int64_t>& shape, std::size_t d) const;
  // Loops over all of a shape; coords of the elements. The lanes' loop is innermost.
  Coords loops(Nest& nest, const std::vector<std::int64_t>& shape, int lane, Walk walk);

  const Function& function_;
  Scope scope_;
  Plan plan_;
  Writer out_;
  // Around what is written for a row, in a loop that is run row by row; else a plain block.
  void open_rows();
  void close_rows();
  std::string row_;           // in such a loop: the row
  std::string rows_at_once_;  // and how many it takes together
  std::unordered_map<const Op*, std::string> kept_rows_;
  std::unordered_map<const Op*, std::string> ends_;  // of calls that return early: their labels
  std::unordered_set<const Value*> quads_;           // stored as such
  std::unordered_set<const Op*> done_;               // written before their place in the program
  std::size_t arena_ = 0;                            // in use
  std::size_t arena_most_ = 0;
};

// The statement that ends the process with the assertion's message.
std::string assertion_failed_text(const Op& assertion);

}  // namespace nereid::ttir
