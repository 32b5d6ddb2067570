// Goal: the ways to read a text so far, side by side: each a terminal that is being read and the
// objects and arrays that are open around it.
// Non-goal: tokens (mask.h).
// Rejected: one way at a time with backtracking. Two alternatives may differ only at their last
// byte, and a mask must know of both at every byte before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/program.h"

namespace nereid::grammar {

// What a terminal is at its place, and so what follows it.
enum class Role : std::uint8_t {
  lead,    // white space before the answer's value
  whole,   // all of the answer
  scalar,  // a value
  open,    // { or [
  inside,  // white space behind it
  key,     // a property's name; arg: which
  other,   // a name that is no property's
  colon,   // arg: the value's node
  gap,     // white space behind the colon; likewise
  comma,   // between values
  next,    // white space behind it
  tail,    // white space before } or ]
  close,   // } or ]
  before,  // the literals of calls
  prefix,  // arg: which call
  suffix,
  between,
  after,
};

// An open object or array, or a call. Shared by all threads that are inside.
struct Frame {
  enum class Kind : std::uint8_t { object, array, call };
  struct OtherKey {
    std::string text;  // as it is decoded
    std::shared_ptr<const OtherKey> before;
  };

  Kind kind = Kind::object;
  std::uint32_t part = 0;                // of Program::objects, arrays, calls
  std::uint32_t depth = 0;               // this one included; calls count for nothing
  std::uint32_t count = 0;               // of values, or calls, begun
  std::uint32_t n_required = 0;          // of them
  std::vector<std::uint64_t> seen = {};  // properties
  std::shared_ptr<const OtherKey> other_keys = {};
  std::shared_ptr<const Frame> parent = {};
  std::uint64_t hash = 0;
};
using FramePtr = std::shared_ptr<const Frame>;

struct Thread {
  TerminalId terminal = 0;
  Role role = Role::whole;
  std::uint32_t arg = 0;
  std::uint32_t begin = 0;  // Role::other: where in the text the name's quote stands
  Terminal::State state = 0;
  FramePtr frame = {};
};

struct Threads {
  std::vector<Thread> list = {};
  bool is_complete = false;  // the text may end here
};

class Stepper {
 public:
  explicit Stepper(const Program& program) : program_(program) {}

  Threads begin() const;
  // After one more byte, the last of `text`; `text` is the whole answer.
  void step(const Threads& from, std::string_view text, Threads& to) const;
  // `thread` has read its terminal, which ends in `state` with `text`: what may follow.
  void finish(const Thread& thread, Terminal::State state, std::string_view text,
              Threads& to) const;

 private:
  void start(TerminalId terminal, Role role, std::uint32_t arg, const FramePtr& frame,
             std::string_view text, Threads& to) const;
  void start_blank(Role role, std::uint32_t arg, const FramePtr& frame, std::string_view text,
                   Threads& to) const;
  void start_literal(TerminalId terminal, Role role, std::uint32_t arg, const FramePtr& frame,
                     std::string_view text, Threads& to) const;
  void start_value(NodeId node, const FramePtr& frame, std::string_view text, Threads& to) const;
  void start_entries(const FramePtr& frame, bool may_close, std::string_view text,
                     Threads& to) const;
  void start_keys(const FramePtr& frame, std::string_view text, Threads& to) const;
  void start_close(const FramePtr& frame, std::string_view text, Threads& to) const;
  void after_value(const FramePtr& frame, std::string_view text, Threads& to) const;
  void after_key(const Thread& thread, Terminal::State state, std::string_view text,
                 Threads& to) const;
  void add(Thread thread, Threads& to) const;

  bool fits(NodeId node, const FramePtr& frame) const;
  bool may_close(const Frame& frame) const;
  bool may_add(const Frame& frame) const;
  bool may_add_key(const Frame& frame, bool is_required) const;
  TerminalId other_key(const FramePtr& frame) const;

  const Program& program_;
};

bool same_frames(const Frame* a, const Frame* b);

}  // namespace nereid::grammar
