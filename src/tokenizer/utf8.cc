#include "tokenizer/utf8.h"

#include <cstdint>

namespace nereid::tokenizer {

namespace {

enum class Form { kWhole, kIncomplete, kInvalid };

struct Sequence {
  Form form;
  std::size_t size_bytes;  // of the character, or of the part of it that is there
};

// Table 3-7 of the Unicode standard: only the second byte's range depends on the first.
Sequence sequence_at(std::string_view bytes, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[at + i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {Form::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Form::kInvalid, 1};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i == bytes.size()) return {Form::kIncomplete, i};
    if (byte(i) < low || byte(i) > high) return {Form::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Form::kWhole, size};
}

// Appends the valid form of `bytes`; returns where an incomplete character at the end begins.
std::size_t append_valid(std::string_view bytes, std::string& out) {
  std::size_t copied = 0;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Sequence sequence = sequence_at(bytes, at);
    if (sequence.form == Form::kIncomplete) break;
    if (sequence.form == Form::kInvalid) {
      out.append(bytes.substr(copied, at - copied));
      out.append(kReplacement);
      copied = at + sequence.size_bytes;
    }
    at += sequence.size_bytes;
  }
  out.append(bytes.substr(copied, at - copied));
  return at;
}

}  // namespace

Utf8Char utf8_at(std::string_view valid, std::size_t at) {
  const auto byte = [&](std::size_t i) -> char32_t {
    return static_cast<std::uint8_t>(valid[at + i]);
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

void append_utf8(std::string& out, char32_t code) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const Sequence sequence = sequence_at(bytes, at);
    if (sequence.form != Form::kWhole) return false;
    at += sequence.size_bytes;
  }
  return true;
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (append_valid(bytes, out) < bytes.size()) out.append(kReplacement);
  return out;
}

void Utf8Assembler::push(std::string_view bytes, std::string& out) {
  if (held_.empty()) {
    held_.assign(bytes.substr(append_valid(bytes, out)));
  } else {
    held_.append(bytes);
    held_.erase(0, append_valid(held_, out));
  }
}

void Utf8Assembler::finish(std::string& out) {
  if (!held_.empty()) out.append(kReplacement);
  held_.clear();
}

}  // namespace nereid::tokenizer
