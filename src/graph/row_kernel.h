// Goal: the arithmetic of a cluster's kernel: where each operand of a row lies, each operation's
// lines, the stores; of a row at once, or in parts where it is too long for a program's registers.
// Non-goal: the kernel's parameters, its Spec and its file (triton_source.h).
// Rejected: loops for all. A row that fits is read once, whatever is reduced over it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/ir.h"

namespace nereid::graph {

// What an operand of a row op is. Vectors are read by every row, half vectors once for each half of
// it; a table's rows are chosen by ids. Heads are rows of their own: a token's have one position.
enum class RowKind : std::uint8_t { rows, vector, half_vector, table, ids, positions };

constexpr bool is_matrix(RowKind kind) { return kind == RowKind::rows || kind == RowKind::table; }

// By value of a cluster's body; operands have one use only. Nothing where a kernel of rows cannot
// read the body so.
std::optional<std::vector<RowKind>> row_kinds(const Graph& body);

// By value: whether RoPE reads it, or what it is computed from, at the other half's columns too.
std::vector<bool> turned_values(const Graph& body);

// Whether something is summed over the columns of a row, and whether a row is read in parts then.
bool reduces_rows(const Graph& body);
bool loops_over_rows(const Graph& body);
// How often the kernel goes over a row.
int row_reads(const Graph& body);

// Below `def`: what the kernel does, of a body with plain names.
std::string row_kernel_text(const Graph& body);
// Each result row as a formula; the same in numpy, for the kernel's reference.
std::string row_formulas(const Graph& body);
std::string row_reference(const Graph& body);

}  // namespace nereid::graph
