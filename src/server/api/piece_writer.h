// Goal: an answer as a row of pieces, each of one kind, opened and closed in turn: the form of APIs
// whose answers are lists of items or blocks.
// Non-goal: their words.
// Rejected: the rows in each API's writer. Which delta ends a piece and begins another is the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/chat_writer.h"
#include "server/usage.h"

namespace nereid::server {

struct Piece {
  enum class Kind : std::uint8_t { reasoning, content, call };
  Kind kind = Kind::content;
  std::string text = {};     // of a call its arguments
  std::string id = {};       // of a call
  std::string name = {};     // of a call
  bool is_complete = false;  // not before it is closed; never where the answer's end cut it
};

// Of the one answer to one request.
class PieceWriter : public ChatWriter {
 public:
  PieceWriter(const chat::OutputOptions& output, bool streams);

  void finish(const std::vector<Completion>& completions, std::string& events) final;
  std::string body(const std::vector<Completion>& completions) final;

 protected:
  // A stream's only: its first events; those of the piece that is the last of pieces(); its last.
  virtual void tell_begin(std::string& events) = 0;
  virtual void tell_open(const Piece& piece, std::string& events) = 0;
  virtual void tell_more(const Piece& piece, std::string_view text, std::string& events) = 0;
  virtual void tell_close(const Piece& piece, std::string& events) = 0;
  virtual void tell_end(const Answer& answer, const Usage& usage, std::string& events) = 0;
  // The answer as one.
  virtual std::string whole(const Answer& answer, const Usage& usage) = 0;

  const std::vector<Piece>& pieces() const { return pieces_; }
  std::size_t index() const { return pieces_.size() - 1; }  // of the last piece
  bool has_calls() const;
  bool has_begun() const { return has_begun_; }
  // Tokens whose text was reasoning; a mark's count with what is told next.
  std::int64_t n_reasoning_tokens() const { return n_reasoning_tokens_; }

 private:
  void on_part(std::size_t answer, const Progress& progress, std::string& events) final;
  void on_delta(std::size_t answer, const chat::OutputDelta& delta, std::string& events) final;
  void on_end(std::size_t answer, std::string& events) final;
  void open(Piece piece, std::string& events);
  void close(bool is_complete, std::string& events);

  bool streams_;
  bool has_begun_ = false;
  bool is_open_ = false;  // the last of pieces_
  std::vector<Piece> pieces_;
  std::int64_t n_untold_tokens_ = 0;  // whose text no delta has told yet
  std::int64_t n_reasoning_tokens_ = 0;
};

}  // namespace nereid::server
