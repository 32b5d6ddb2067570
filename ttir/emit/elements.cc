// Operations on single elements: tt.cat, tt.gather, tt.histogram, tt.map_elementwise; what a kernel
// tells its user: tt.print, tt.assert.
#include <algorithm>

#include "elementwise.h"
#include "emitter.h"
#include "forms.h"

namespace nereid::ttir {

namespace {

// As a C++ literal; `in_format`: for printf.
std::string quoted(std::string_view text, bool in_format) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '%' && in_format) {
      out += "%%";
    } else if (byte < ' ' || byte > '~') {
      out += fmt::format("\\{:03o}", byte);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

struct Printed {
  std::string format;
  std::string argument;
};

// One element, as Triton prints it on GPUs.
Printed printed(const Type& type, const std::string& text, bool is_signed, bool in_hex) {
  if (type.is_pointer) return {"0x%016llx", cat("static_cast<unsigned long long>(", text, ")")};
  if (is_float_type(type.scalar)) return {"%f", cat("static_cast<double>(", text, ")")};
  const int width = std::max(bit_width(type.scalar), 4);
  if (in_hex)
    return {fmt::format("0x%0{}llx", width / 4),
            cat("static_cast<unsigned long long>(", text, ")",
                width < 64 ? fmt::format(" & 0x{:x}", (std::uint64_t{1} << width) - 1) : "")};
  if (is_signed || type.scalar == Scalar::i1)
    return {"%lli", cat("static_cast<long long>(", text, ")")};
  return {"%llu", cat("static_cast<unsigned long long>(static_cast<std::make_unsigned_t<",
                      value_type(type.scalar), ">>(", text, "))")};
}

Coords index_loops(Nest& nest, const std::vector<std::int64_t>& shape) {
  Coords coords;
  for (const std::int64_t size : shape) coords.push_back(nest.add_index(size));
  return coords;
}

}  // namespace

// The second operand's rows behind the first's.
void Emitter::concatenate(const Op& o) {
  declare_buffer(o.result());
  for (std::size_t side = 0; side < 2; ++side) {
    const Value* v = o.operands[side];
    const Lanes lanes = lanes_of({v}, {});
    out_.open("{");
    Nest nest(scope_);
    const Coords coords =
        loops(nest, v->type.shape, lanes.dim, lanes.has_tile ? Walk::tile : Walk::row);
    const Expr e = nest.eval(v, coords);
    Coords to = coords;
    if (side == 1) {
      const std::string offset = std::to_string(v->type.shape[0]);
      if (to[0].kind == Coord::Kind::zero)
        to[0] = {Coord::Kind::index, 0, offset};
      else
        to[0].text = cat("(", offset, " + ", to[0].text, ")");
    }
    nest.store_buffer(o.result(), to, e);
    nest.write(out_);
    out_.close();
  }
}

void Emitter::gather(const Op& o) {
  const Value* source = o.operands[0];
  const Value* indices = o.operands[1];
  const auto axis = static_cast<std::size_t>(o.int_attr("axis", 0));
  declare_buffer(o.result());
  out_.open("{");
  Nest nest(scope_);
  const Coords coords = index_loops(nest, o.result()->type.shape);
  const Expr at = nest.eval(indices, coords);
  Coords from = coords;
  from[axis] = {Coord::Kind::index, at.level, cat("rt::i64(", at.text, ")")};
  int level = 0;
  const std::string to = nest.buffer_at(o.result(), coords, level);
  nest.line(nest.innermost(), cat("*(", to, ") = *(", nest.buffer_at(source, from, level), ");"));
  nest.write(out_);
  out_.close();
}

// Counts of the values 0 .. bins - 1; others count nowhere.
void Emitter::histogram(const Op& o) {
  const Value* bins = o.result();
  const std::string data = declare_buffer(bins);
  out_.line(cat("std::memset(", data, ", 0, ",
                std::to_string(bins->type.n_elements() * storage_bytes(bins->type)), ");"));
  out_.open("{");
  Nest nest(scope_);
  const Coords coords = index_loops(nest, o.operands[0]->type.shape);
  const std::string x = nest.eval(o.operands[0], coords).text;
  std::string condition =
      cat("static_cast<std::uint64_t>(rt::i64(", x, ")) < ", std::to_string(bins->type.shape[0]));
  if (o.operands.size() > 1)
    condition = cat(nest.eval(o.operands[1], coords).text, " && ", condition);
  nest.line(nest.innermost(), cat("if (", condition, ") ++", data, "[", x, "];"));
  nest.write(out_);
  out_.close();
}

// A function of elements whose branches became choices.
void Emitter::map_elementwise(const Op& o) {
  const std::vector<const Value*> values(o.operands.begin(), o.operands.end());
  const std::int64_t pack = o.int_attr("pack", 1);
  for (const auto& r : o.results) declare_buffer(r.get());
  const auto& shape = values[0]->type.shape;
  const Lanes lanes = lanes_of(values, {});
  const bool is_vector = lanes.dim >= 0 && pack == 1;
  out_.open("{");
  Nest nest(scope_);
  std::vector<Coords> coords;
  if (is_vector)
    coords = {loops(nest, shape, lanes.dim, lanes.has_tile ? Walk::tile : Walk::row)};
  else
    coords = packs(nest, shape, pack);
  std::vector<std::string> args, lines;
  for (const Value* v : values)
    for (const Coords& at : coords)
      args.push_back(is_vector ? nest.vector_text(v, at) : nest.eval(v, at).text);
  Combining how{.is_vector = is_vector, .rounds = true};
  if (is_vector && shape[lanes.dim] < 16)
    how.lanes = cat("rt::first_n(", std::to_string(shape[lanes.dim]), ")");
  const auto results = combine(o, args, how, lines);
  for (const std::string& l : lines) nest.line(nest.innermost(), l);
  for (std::size_t i = 0; i < results.size(); ++i)
    nest.store_buffer(o.results[i / coords.size()].get(), coords[i % coords.size()],
                      {results[i], is_vector, nest.innermost()});
  nest.write(out_);
  out_.close();
}

std::vector<Coords> Emitter::packs(Nest& nest, const std::vector<std::int64_t>& shape,
                                   std::int64_t pack) {
  if (shape.empty()) return {{}};
  std::vector<std::int64_t> groups = shape;
  groups.back() /= pack;
  const Coords first = index_loops(nest, groups);
  if (pack == 1) return {first};
  std::vector<Coords> out;
  for (std::int64_t i = 0; i < pack; ++i) {
    out.push_back(first);
    Coord& last = out.back().back();
    const std::string offset = std::to_string(i);
    if (last.kind == Coord::Kind::index)
      last.text = cat("(", last.text, " * ", std::to_string(pack), " + ", offset, ")");
    else if (i > 0)
      last = {Coord::Kind::index, 0, offset};
  }
  return out;
}

// pid (x, y, z) idx (i, j)PREFIX(operand k) VALUE, a line an element.
void Emitter::print(const Op& o) {
  const std::string prefix(o.word_attr("prefix", ""));
  const std::string ids = "\"pid (%u, %u, %u)";
  if (o.operands.empty()) {
    out_.line(cat("std::printf(", ids, "\" ", quoted(prefix + "\n", true), ", x, y, z);"));
    return;
  }
  const auto& is_signed = std::get<std::vector<std::int64_t>>(*o.attr("isSigned"));
  for (std::size_t k = 0; k < o.operands.size(); ++k) {
    const Value* v = o.operands[k];
    out_.open("{");
    Nest nest(scope_);
    const Coords coords = index_loops(nest, v->type.shape);
    std::string text = v->type.is_tensor() ? nest.eval(v, coords).text : scalar_text(v);
    if (v->type.is_pointer && !v->type.is_tensor()) text = cat("rt::address(", text, ")");
    const Printed element = printed(v->type, text, is_signed[k] != 0, o.int_attr("hex", 0) != 0);
    std::string format = cat(ids, " idx (");
    std::string arguments = "x, y, z";
    for (std::size_t d = 0; d < coords.size(); ++d) {
      const std::size_t width = std::to_string(v->type.shape[d] - 1).size();
      format += cat(d == 0 ? "" : ", ", "%", std::to_string(width), "i");
      arguments += cat(", static_cast<int>(", coords[d].text, ")");
    }
    format += cat(")\" ", quoted(prefix, true), " \"",
                  o.operands.size() > 1 ? cat("(operand ", std::to_string(k), ") ") : "",
                  element.format, "\\n\"");
    nest.line(nest.innermost(),
              cat("std::printf(", format, ", ", arguments, ", ", element.argument, ");"));
    nest.write(out_);
    out_.close();
  }
}

std::string assertion_failed_text(const Op& assertion) {
  return cat("rt::assertion_failed(", quoted(assertion.word_attr("message", ""), false),
             ", x, y, z);");
}

void Emitter::assertion(const Op& o) {
  const Value* v = o.operands[0];
  out_.open("{");
  Nest nest(scope_);
  const Coords coords = index_loops(nest, v->type.shape);
  const std::string text = v->type.is_tensor() ? nest.eval(v, coords).text : scalar_text(v);
  nest.line(nest.innermost(), cat("if (!(", text, ")) ", assertion_failed_text(o)));
  nest.write(out_);
  out_.close();
}

}  // namespace nereid::ttir
