#include "emitter.h"

#include <algorithm>

#include "elementwise.h"

namespace nereid::ttir {

namespace {

const char* kHead =
    "#include \"runtime/runtime.h\"\n"
    "\n"
    "namespace rt = nereid::rt;\n";
const char* kLinkage = "extern \"C\" __attribute__((visibility(\"default\"))) ";
const char* kParameters =
    "(const void* const* args, void* arena, std::uint32_t x,\n"
    "    std::uint32_t y, std::uint32_t z, std::uint32_t nx, std::uint32_t ny, std::uint32_t nz) ";

}  // namespace

Emitter::Emitter(const Function& function, const std::string& where)
    : function_(function), scope_(where), plan_(function, scope_.analysis, where) {
  scope_.plan = &plan_;
}

Emitted Emitter::run() {
  const std::string& symbol = function_.name;
  for (const char* p : {"args", "arena", "x", "y", "z", "nx", "ny", "nz", "c", "j", "u", "active",
                        "rt", "std", "Quads"})
    scope_.names.fresh(p);
  out_.open("{");
  if (!function_.body->args.empty())
    out_.line(cat("if (rt::lacks_arguments(args, \"", symbol, "\")) return;"));
  std::size_t i = 0;
  for (const auto& arg : function_.body->args) {
    const std::string type = cat(memory_type(arg->type.scalar), "* const");
    const std::string slot = cat("args[", std::to_string(i++), "]");
    if (arg->type.is_pointer) {
      out_.line(cat(type, " ", scope_.names.of(arg.get()), " = *static_cast<",
                    memory_type(arg->type.scalar), "* const*>(", slot, ");"));
    } else if (arg->type.scalar == Scalar::i1) {
      out_.line(cat("const bool ", scope_.names.of(arg.get()),
                    " = *static_cast<const std::int8_t*>(", slot, ") != 0;"));
    } else {
      out_.line(cat("const ", value_type(arg->type.scalar), " ", scope_.names.of(arg.get()),
                    " = rt::load_scalar(static_cast<const ", memory_type(arg->type.scalar), "*>(",
                    slot, "));"));
    }
  }
  block(*function_.body);
  out_.close();
  const std::string kernel = cat(kLinkage, "void ", symbol, kParameters), body = out_.take();
  Emitted e;
  e.source = cat("// Kernel ", symbol, ", from Triton IR. Generated: do not edit.\n", kHead, "\n");
  if (scope_.has_quads)
    // Each way is a kernel of its own: the processor is asked once a program.
    e.source += cat("template <class Quads>\nstatic void ", symbol, "_by_quads", kParameters, body,
                    "\n", kernel, "{\n  rt::by_quads([&]<class Quads>(Quads) {\n    ", symbol,
                    "_by_quads<Quads>(args, arena, x, y, z, nx, ny, nz);\n  });\n}\n");
  else
    e.source += kernel + body;
  e.symbol = symbol;
  // Vectors may be read past the last element.
  e.arena_bytes = arena_most_ == 0 ? 0 : arena_most_ + 128;
  return e;
}

std::size_t Emitter::allocate(std::size_t bytes) {
  const std::size_t offset = arena_;
  arena_ += (bytes + 63) / 64 * 64;
  arena_most_ = std::max(arena_most_, arena_);
  return offset;
}

std::string Emitter::temporary(const std::string& stem, const std::string& type,
                               std::size_t bytes) {
  const std::string name = scope_.names.fresh(stem);
  out_.line(cat(type, "* const ", name, " = rt::at<", type, ">(arena, ",
                std::to_string(allocate(bytes)), ");"));
  return name;
}

const std::string& Emitter::declare_buffer(const Value* v) {
  v = plan_.home(v);
  const auto it = scope_.storage.find(v);
  if (it != scope_.storage.end()) return it->second;
  const std::string name =
      temporary(scope_.names.of(v) + "_data", storage_type(v->type),
                static_cast<std::size_t>(v->type.n_elements()) * storage_bytes(v->type));
  return scope_.storage[v] = name;
}

// What is allocated in a block is free after it.
void Emitter::block(const Block& b) {
  const std::size_t before = arena_;
  for (const auto& o : b.ops) op(*o);
  arena_ = before;
}

void Emitter::op(const Op& o) {
  if (done_.count(&o) != 0) return;
  switch (o.kind) {
    case OpKind::return_:
      return end_function(o);
    case OpKind::call:
      return call(o);
    case OpKind::assume:
    case OpKind::barrier:
    case OpKind::dependency_wait:
    case OpKind::dependency_launch:
    case OpKind::scf_yield:
    case OpKind::scf_condition:
      return;
    case OpKind::scf_for:
      return for_loop(o);
    case OpKind::scf_if:
      return if_else(o);
    case OpKind::scf_while:
      return while_loop(o);
    case OpKind::store:
      return store(o);
    case OpKind::atomic_rmw:
    case OpKind::atomic_cas:
      return atomic(o);
    case OpKind::reduce:
      return reduce(o);
    case OpKind::scan:
      return scan(o);
    case OpKind::dot:
      return dot(o);
    case OpKind::dot_scaled:
      return dot_scaled(o);
    case OpKind::join:
      return join(o);
    case OpKind::cat:
      return concatenate(o);
    case OpKind::gather:
      return gather(o);
    case OpKind::histogram:
      return histogram(o);
    case OpKind::map_elementwise:
      return map_elementwise(o);
    case OpKind::inline_asm:
      return inline_asm(o);
    case OpKind::print:
      return print(o);
    case OpKind::assert_:
      return assertion(o);
    default:
      break;
  }
  if (o.results.empty()) refuse(scope_.where, o, "the CPU target does not support this operation");
  if (!o.result()->type.is_tensor()) return scalar(o);
  // A reshape that is no plain renaming of dimensions is another view of its operand's storage.
  if (o.kind == OpKind::reshape && plan_.home(o.result()) == plan_.home(o.operands[0])) return;
  for (const auto& r : o.results)
    if (plan_.place(r.get()) == Place::buffer) materialise(r.get());
}

void Emitter::scalar(const Op& o) {
  const Value* v = o.result();
  const std::string& name = scope_.names.of(v);
  const auto is = [&](const std::string& text) {
    const std::string type =
        v->type.is_pointer ? memory_type(v->type.scalar) + "*" : value_type(v->type.scalar);
    out_.line(cat(v->type.is_pointer ? "" : "const ", type, v->type.is_pointer ? " const " : " ",
                  name, " = ", text, ";"));
  };
  const auto axis = [&](const char* const(&names)[3]) {
    return cat("static_cast<std::int32_t>(", names[o.int_attr("axis", 0)], ")");
  };
  switch (o.kind) {
    case OpKind::constant:
      return;
    case OpKind::get_program_id:
      return is(axis({"x", "y", "z"}));
    case OpKind::get_num_programs:
      return is(axis({"nx", "ny", "nz"}));
    case OpKind::poison:
      return is("{}");
    case OpKind::addptr:
      return is(cat(scalar_text(o.operands[0]), " + ", scalar_text(o.operands[1])));
    case OpKind::load: {
      const bool is_bool = v->type.scalar == Scalar::i1;
      std::string text = cat("rt::load_scalar(", scalar_text(o.operands[0]), ")");
      if (is_bool) text += " != 0";
      if (v->type.is_pointer) refuse(scope_.where, o, "loading pointers is not supported");
      if (o.operands.size() > 1)
        text = cat(scalar_text(o.operands[1]), " ? ", text, " : ",
                   o.operands.size() > 2 ? scalar_text(o.operands[2])
                                         : cat(value_type(v->type.scalar), "{}"));
      return is(text);
    }
    case OpKind::unsplat: {
      Nest nest(scope_);
      const Expr e = nest.eval(o.operands[0], Coords(o.operands[0]->type.shape.size()));
      out_.line(cat(value_type(v->type.scalar), " ", name, ";"));
      out_.open("{");
      nest.line(0, cat(name, " = ", e.text, ";"));
      nest.write(out_);
      return out_.close();
    }
    case OpKind::bitcast_tt:
      if (v->type.is_pointer)
        return is(cat("reinterpret_cast<", memory_type(v->type.scalar), "*>(",
                      scalar_text(o.operands[0]), ")"));
      break;
    case OpKind::int_to_ptr:
      return is(cat("reinterpret_cast<", memory_type(v->type.scalar), "*>(",
                    scalar_text(o.operands[0]), ")"));
    case OpKind::ptr_to_int:
      return is(cat("rt::address(", scalar_text(o.operands[0]), ")"));
    case OpKind::select:
      return is(cat(scalar_text(o.operands[0]), " ? ", scalar_text(o.operands[1]), " : ",
                    scalar_text(o.operands[2])));
    default:
      break;
  }
  if (op_class(o.kind) != OpClass::elementwise)
    refuse(scope_.where, o, "the CPU target does not support this operation");
  std::vector<std::string> args;
  for (const Value* operand : o.operands) args.push_back(scalar_text(operand));
  is(elementwise_text(o, args, false, scope_.where));
}

Emitted emit_cpp(const Module& module, const std::string& where) {
  const Function* kernel = nullptr;
  for (const auto& f : module.functions) {
    if (kernel != nullptr)
      throw Error("{}:{}: tt.func: expected one kernel, got a second function {}", where, f->line,
                  f->name);
    kernel = f.get();
  }
  if (kernel == nullptr) throw Error("{}: expected a kernel, got an empty module", where);
  return Emitter(*kernel, cat(where, ": kernel ", kernel->name)).run();
}

}  // namespace nereid::ttir
