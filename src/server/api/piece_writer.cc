#include "server/api/piece_writer.h"

#include <algorithm>
#include <utility>

namespace nereid::server {

PieceWriter::PieceWriter(const chat::OutputOptions& output, bool streams)
    : ChatWriter(output, 1), streams_(streams) {}

void PieceWriter::finish(const std::vector<Completion>& completions, std::string& events) {
  tell_end(completions.front().answers.front(), usage_of(completions), events);
}

std::string PieceWriter::body(const std::vector<Completion>& completions) {
  return whole(completions.front().answers.front(), usage_of(completions));
}

bool PieceWriter::has_calls() const {
  return std::ranges::any_of(pieces_,
                             [](const Piece& piece) { return piece.kind == Piece::Kind::call; });
}

void PieceWriter::on_part(std::size_t /*answer*/, const Progress& progress, std::string& events) {
  if (!std::exchange(has_begun_, true) && streams_) tell_begin(events);
  n_untold_tokens_ += std::int64_t(progress.ids.size());
}

void PieceWriter::on_delta(std::size_t /*answer*/, const chat::OutputDelta& delta,
                           std::string& events) {
  using Kind = chat::OutputDelta::Kind;
  const auto n_tokens = std::exchange(n_untold_tokens_, 0);
  if (delta.kind == Kind::reasoning) n_reasoning_tokens_ += n_tokens;
  switch (delta.kind) {
    case Kind::call_begin:
      open(
          {.kind = Piece::Kind::call, .id = std::string(delta.id), .name = std::string(delta.name)},
          events);
      return;
    case Kind::call_end:
      close(delta.has_arguments, events);
      return;
    case Kind::content:
    case Kind::reasoning: {
      const auto kind = delta.kind == Kind::content ? Piece::Kind::content : Piece::Kind::reasoning;
      if (!is_open_ || pieces_.back().kind != kind) open({.kind = kind}, events);
      break;
    }
    case Kind::call_arguments:
      break;
  }
  pieces_.back().text += delta.text;
  if (streams_) tell_more(pieces_.back(), delta.text, events);
}

void PieceWriter::on_end(std::size_t /*answer*/, std::string& events) {
  // Who looks for the text of an answer finds one.
  if (pieces_.empty()) open({}, events);
  close(messages().front().finish_reason == FinishReason::stop, events);
}

void PieceWriter::open(Piece piece, std::string& events) {
  close(/*is_complete=*/true, events);
  pieces_.push_back(std::move(piece));
  is_open_ = true;
  if (streams_) tell_open(pieces_.back(), events);
}

void PieceWriter::close(bool is_complete, std::string& events) {
  if (!std::exchange(is_open_, false)) return;
  pieces_.back().is_complete = is_complete;
  if (streams_) tell_close(pieces_.back(), events);
}

}  // namespace nereid::server
