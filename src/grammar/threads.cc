#include "grammar/threads.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace nereid::grammar {

namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  return (std::rotl(hash, 25) ^ value) * 0x9E3779B97F4A7C15ULL;
}

FramePtr sealed(Frame frame) {
  std::uint64_t hash = frame.parent ? frame.parent->hash : 1;
  hash = mix(hash, static_cast<std::uint64_t>(frame.kind) << 32 | frame.part);
  hash = mix(hash, frame.count);
  for (const std::uint64_t word : frame.seen) hash = mix(hash, word);
  frame.hash = hash;
  return std::make_shared<const Frame>(std::move(frame));
}

bool has_seen(const Frame& frame, std::size_t property) {
  return (frame.seen[property / 64] >> (property % 64) & 1) != 0;
}

bool same_keys(const Frame::OtherKey* a, const Frame::OtherKey* b) {
  for (; a != b; a = a->before.get(), b = b->before.get())
    if (a == nullptr || b == nullptr || a->text != b->text) return false;
  return true;
}

std::uint32_t depth_of(const FramePtr& frame) { return frame ? frame->depth : 0; }

}  // namespace

bool same_frames(const Frame* a, const Frame* b) {
  for (; a != b; a = a->parent.get(), b = b->parent.get()) {
    if (a == nullptr || b == nullptr || a->hash != b->hash || a->kind != b->kind ||
        a->part != b->part || a->count != b->count || a->seen != b->seen ||
        !same_keys(a->other_keys.get(), b->other_keys.get()))
      return false;
  }
  return true;
}

void Stepper::add(Thread thread, Threads& to) const {
  for (const Thread& other : to.list) {
    if (other.state == thread.state && other.terminal == thread.terminal &&
        other.role == thread.role && other.arg == thread.arg && other.begin == thread.begin &&
        same_frames(other.frame.get(), thread.frame.get()))
      return;
  }
  // Past the limit, further ways to read the text are dropped: what is left is still valid.
  if (to.list.size() < program_.most_threads) to.list.push_back(std::move(thread));
}

Threads Stepper::begin() const {
  Threads out;
  if (program_.text != kNone) {
    start(program_.text, Role::whole, 0, nullptr, "", out);
  } else if (program_.value != kNone) {
    start_blank(Role::lead, 0, nullptr, "", out);
    start_value(program_.value, nullptr, "", out);
  } else {
    start_literal(program_.before, Role::before, 0, sealed({.kind = Frame::Kind::call}), "", out);
  }
  return out;
}

void Stepper::step(const Threads& from, std::string_view text, Threads& to) const {
  to.list.clear();
  to.is_complete = false;
  for (const Thread& thread : from.list) {
    const Terminal& terminal = program_.terminals[thread.terminal];
    const Terminal::State state =
        terminal.step(thread.state, static_cast<std::uint8_t>(text.back()));
    if (state == Terminal::kDead) continue;
    if (terminal.goes_on(state)) {
      Thread next = thread;
      next.state = state;
      add(std::move(next), to);
    }
    if (terminal.label(state) != 0) finish(thread, state, text, to);
  }
}

void Stepper::start(TerminalId id, Role role, std::uint32_t arg, const FramePtr& frame,
                    std::string_view text, Threads& to) const {
  const Terminal& terminal = program_.terminals[id];
  Thread thread = {
      .terminal = id, .role = role, .arg = arg, .state = terminal.start(), .frame = frame};
  if (role == Role::other) thread.begin = static_cast<std::uint32_t>(text.size());
  if (terminal.label(thread.state) != 0) finish(thread, thread.state, text, to);
  if (terminal.goes_on(thread.state)) add(std::move(thread), to);
}

void Stepper::start_literal(TerminalId terminal, Role role, std::uint32_t arg,
                            const FramePtr& frame, std::string_view text, Threads& to) const {
  if (terminal == kNone)
    finish({.role = role, .arg = arg, .frame = frame}, Terminal::kDead, text, to);
  else
    start(terminal, role, arg, frame, text, to);
}

void Stepper::start_blank(Role role, std::uint32_t arg, const FramePtr& frame, std::string_view,
                          Threads& to) const {
  add({.terminal = program_.blank,
       .role = role,
       .arg = arg,
       .state = program_.blank_starts[depth_of(frame)],
       .frame = frame},
      to);
}

bool Stepper::fits(NodeId node, const FramePtr& frame) const {
  return node != kNone && program_.nodes[node].height + depth_of(frame) <= program_.most_depth;
}

void Stepper::start_value(NodeId id, const FramePtr& frame, std::string_view text,
                          Threads& to) const {
  const Program::Node& node = program_.nodes[id];
  for (const TerminalId scalar : node.scalars) start(scalar, Role::scalar, 0, frame, text, to);
  const std::uint32_t depth = depth_of(frame);
  for (const std::uint32_t object : node.objects) {
    const Program::Object& part = program_.objects[object];
    if (part.height + depth > program_.most_depth) continue;
    start(program_.open_object, Role::open, 0,
          sealed({.kind = Frame::Kind::object,
                  .part = object,
                  .depth = depth + 1,
                  .seen = std::vector<std::uint64_t>((part.properties.size() + 63) / 64),
                  .parent = frame}),
          text, to);
  }
  for (const std::uint32_t array : node.arrays) {
    if (program_.arrays[array].height + depth > program_.most_depth) continue;
    start(program_.open_array, Role::open, 0,
          sealed({.kind = Frame::Kind::array, .part = array, .depth = depth + 1, .parent = frame}),
          text, to);
  }
}

bool Stepper::may_close(const Frame& frame) const {
  if (frame.kind == Frame::Kind::array) return frame.count >= program_.arrays[frame.part].least;
  const Program::Object& object = program_.objects[frame.part];
  return frame.count >= object.least && frame.n_required == object.n_required;
}

// A key may come where the required ones that are missing still find room behind it.
bool Stepper::may_add_key(const Frame& frame, bool is_required) const {
  const Program::Object& object = program_.objects[frame.part];
  const std::uint64_t n_missing = object.n_required - frame.n_required - (is_required ? 1U : 0U);
  return frame.count < object.most && n_missing <= object.most - frame.count - 1;
}

// Only keys whose value still fits.
TerminalId Stepper::other_key(const FramePtr& frame) const {
  if (!may_add_key(*frame, false)) return kNone;
  TerminalId key = kNone;
  for (const Program::OtherKeys& keys : program_.objects[frame->part].other_keys) {
    if (keys.height + depth_of(frame) > program_.most_depth) break;
    key = keys.key;
  }
  return key;
}

bool Stepper::may_add(const Frame& frame) const {
  // Only the depth is read through the pointer, which owns nothing here.
  const FramePtr here(FramePtr(), &frame);
  if (frame.kind == Frame::Kind::array) {
    const Program::Array& array = program_.arrays[frame.part];
    return frame.count < array.most &&
           fits(frame.count < array.prefix.size() ? array.prefix[frame.count] : array.rest, here);
  }
  if (other_key(here) != kNone) return true;
  const Program::Object& object = program_.objects[frame.part];
  for (std::size_t i = 0; i < object.properties.size(); ++i) {
    const Program::Property& property = object.properties[i];
    if (!has_seen(frame, i) && may_add_key(frame, property.is_required) &&
        fits(property.value, here))
      return true;
  }
  return false;
}

void Stepper::start_close(const FramePtr& frame, std::string_view text, Threads& to) const {
  start(frame->kind == Frame::Kind::array ? program_.close_array : program_.close_object,
        Role::close, 0, frame->parent, text, to);
}

void Stepper::start_keys(const FramePtr& frame, std::string_view text, Threads& to) const {
  const Program::Object& object = program_.objects[frame->part];
  for (std::size_t i = 0; i < object.properties.size(); ++i) {
    const Program::Property& property = object.properties[i];
    if (!has_seen(*frame, i) && may_add_key(*frame, property.is_required) &&
        fits(property.value, frame))
      start(property.key, Role::key, static_cast<std::uint32_t>(i), frame, text, to);
  }
  if (const TerminalId key = other_key(frame); key != kNone)
    start(key, Role::other, 0, frame, text, to);
}

// The next key or item, or where `may_close` the end.
void Stepper::start_entries(const FramePtr& frame, bool close_too, std::string_view text,
                            Threads& to) const {
  if (close_too && may_close(*frame)) start_close(frame, text, to);
  if (frame->kind == Frame::Kind::object) {
    start_keys(frame, text, to);
  } else if (may_add(*frame)) {
    const Program::Array& array = program_.arrays[frame->part];
    Frame inside = *frame;
    const std::uint32_t at = inside.count++;
    start_value(at < array.prefix.size() ? array.prefix[at] : array.rest, sealed(std::move(inside)),
                text, to);
  }
}

void Stepper::after_value(const FramePtr& frame, std::string_view text, Threads& to) const {
  if (!frame) {
    to.is_complete = true;
    return;
  }
  if (frame->kind == Frame::Kind::call) {
    start_literal(program_.calls[frame->part].suffix, Role::suffix, 0, frame, text, to);
    return;
  }
  if (may_add(*frame)) start(program_.comma, Role::comma, 0, frame, text, to);
  if (may_close(*frame)) {
    start_close(frame, text, to);
    start_blank(Role::tail, 0, frame, text, to);
  }
}

void Stepper::after_key(const Thread& thread, Terminal::State state, std::string_view text,
                        Threads& to) const {
  const Program::Object& object = program_.objects[thread.frame->part];
  Frame inside = *thread.frame;
  ++inside.count;
  NodeId value = kNone;
  if (thread.role == Role::key) {
    inside.seen[thread.arg / 64] |= std::uint64_t{1} << (thread.arg % 64);
    const Program::Property& property = object.properties[thread.arg];
    inside.n_required += property.is_required ? 1 : 0;
    value = property.value;
  } else {
    const Terminal& terminal = program_.terminals[thread.terminal];
    auto key = std::make_shared<Frame::OtherKey>();
    key->text = Json::parse(text.substr(thread.begin)).get<std::string>();
    // A name that could not have been longer is taken a second time, as there was no way on, but
    // counts once.
    for (const auto* other = inside.other_keys.get(); other != nullptr; other = other->before.get())
      if (other->text == key->text) {
        if (terminal.content_goes_on(state)) return;
        --inside.count;
        break;
      }
    key->before = std::move(inside.other_keys);
    inside.other_keys = std::move(key);
    value = object.other_values[terminal.label(state) - 1];
  }
  start(program_.colon, Role::colon, value, sealed(std::move(inside)), text, to);
}

void Stepper::finish(const Thread& thread, Terminal::State state, std::string_view text,
                     Threads& to) const {
  const FramePtr& frame = thread.frame;
  switch (thread.role) {
    case Role::whole:
    case Role::after:
      to.is_complete = true;
      return;
    case Role::lead:
      start_value(program_.value, frame, text, to);
      return;
    case Role::scalar:
    case Role::close:
      after_value(frame, text, to);
      return;
    case Role::open: {
      const bool is_blank_of_use = may_close(*frame) || may_add(*frame);
      if (is_blank_of_use) start_blank(Role::inside, 0, frame, text, to);
      start_entries(frame, true, text, to);
      return;
    }
    case Role::inside:
      start_entries(frame, true, text, to);
      return;
    case Role::key:
    case Role::other:
      after_key(thread, state, text, to);
      return;
    case Role::colon:
      start_blank(Role::gap, thread.arg, frame, text, to);
      start_value(thread.arg, frame, text, to);
      return;
    case Role::gap:
      start_value(thread.arg, frame, text, to);
      return;
    case Role::comma:
      start_blank(Role::next, 0, frame, text, to);
      start_entries(frame, false, text, to);
      return;
    case Role::next:
      start_entries(frame, false, text, to);
      return;
    case Role::tail:
      start_close(frame, text, to);
      return;
    case Role::before:
    case Role::between:
      for (std::uint32_t i = 0; i < program_.calls.size(); ++i)
        start_literal(program_.calls[i].prefix, Role::prefix, i, frame, text, to);
      return;
    case Role::prefix: {
      Frame call = *frame;
      call.part = thread.arg;
      ++call.count;
      start_value(program_.calls[thread.arg].arguments, sealed(std::move(call)), text, to);
      return;
    }
    case Role::suffix:
      if (frame->count < program_.most_calls)
        start_literal(program_.between, Role::between, 0, frame, text, to);
      start_literal(program_.after, Role::after, 0, frame, text, to);
      return;
  }
  NEREID_UNREACHABLE("a role");
}

}  // namespace nereid::grammar
