#include "tokenizer/post_processor.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/json.h"

namespace nereid::tokenizer {

namespace {

using Ids = std::vector<std::int32_t>;

Ids special_ids(const Json& special_tokens, const std::string& name, const HasId& has_id,
                const std::string& where) {
  const Json& entry = json_member(special_tokens, name, where + " special_tokens");
  const Json& listed = json_member(entry, "ids", where + " special_tokens");
  if (!listed.is_array())
    throw Error("{}: the ids of \"{}\" are {}; expected an array", where, name, listed.type_name());
  Ids ids;
  for (const Json& id : listed) {
    // Above the signed range is as unknown as the largest value.
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > 0x7FFFFFFF ||
        !has_id(id.get<std::int64_t>()))
      throw Error("{}: \"{}\" has the id {}, which no token has", where, name, id.dump());
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

// [{"SpecialToken": {"id": ...}} | {"Sequence": {"id": "A"}}, ...] with the sequence exactly once.
void read_template(const Json& config, const HasId& has_id, SpecialFrame& frame,
                   const std::string& where) {
  SpecialFrame added;
  int n_sequences = 0;
  for (const Json& part : json_field<Json::array_t>(config, "single", where)) {
    if (part.is_object() && part.contains("SpecialToken")) {
      const auto name =
          json_field<std::string>(part["SpecialToken"], "id", where + " SpecialToken");
      const Ids ids =
          special_ids(json_member(config, "special_tokens", where), name, has_id, where);
      Ids& side = n_sequences == 0 ? added.before : added.after;
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      const Json& sequence = json_member(part, "Sequence", where + " single");
      if (json_field<std::string>(sequence, "id", where + " Sequence") != "A")
        throw Error("{}: \"single\" names a sequence other than A", where);
      ++n_sequences;
    }
  }
  if (n_sequences != 1)
    throw Error("{}: \"single\" has the sequence A {} times; expected once", where, n_sequences);
  frame.before.insert(frame.before.begin(), added.before.begin(), added.before.end());
  frame.after.insert(frame.after.end(), added.after.begin(), added.after.end());
}

void read_into(const Json& config, const HasId& has_id, SpecialFrame& frame,
               const std::string& where) {
  if (config.is_null()) return;
  const auto type = json_field<std::string>(config, "type", where);
  const std::string here = where + " " + type;
  if (type == "Sequence") {
    for (const Json& part : json_field<Json::array_t>(config, "processors", here))
      read_into(part, has_id, frame, here);
  } else if (type == "TemplateProcessing") {
    read_template(config, has_id, frame, here);
  } else if (type != "ByteLevel") {  // ByteLevel only moves offsets, which are not kept
    throw Error(
        "{}: type \"{}\" is not supported; expected Sequence, TemplateProcessing or ByteLevel",
        where, type);
  }
}

// The tokenizer classes of transformers that read add_bos_token and add_eos_token, and the tokens
// they take where none is named. Others take the template of tokenizer.json as it is, though files
// of theirs carry these fields too.
struct ReadingClass {
  std::string_view name;  // without "Fast"
  std::string_view bos;
  std::string_view eos;
};
constexpr std::array kReadingClasses = {
    ReadingClass{"LlamaTokenizer", "<s>", "</s>"},
    ReadingClass{"CodeLlamaTokenizer", "<s>", "</s>"},
    ReadingClass{"GemmaTokenizer", "<bos>", "<eos>"},
    ReadingClass{"CohereTokenizer", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"},
    ReadingClass{"GPTNeoXTokenizer", "<|endoftext|>", "<|endoftext|>"},
};

const ReadingClass* reading_class(std::string_view name) {
  constexpr std::string_view kFast = "Fast";
  if (name.ends_with(kFast)) name.remove_suffix(kFast.size());
  for (const auto& row : kReadingClasses)
    if (row.name == name) return &row;
  return nullptr;
}

// The content of a token of tokenizer_config.json: a string, or an object with that field; empty
// where null.
std::string config_token(const Json& config, const std::string& name, std::string_view absent,
                         const std::string& where) {
  const auto found = config.find(name);
  if (found == config.end()) return std::string(absent);
  if (found->is_null()) return "";
  if (found->is_object()) return json_field<std::string>(*found, "content", where + " " + name);
  return json_field<std::string>(config, name, where);
}

void set_token(const Json& config, const std::string& kind, std::string_view absent,
               const FindToken& find, Ids& side, const std::string& where) {
  const std::string flag = "add_" + kind + "_token";
  const auto given = config.find(flag);
  if (given == config.end() || given->is_null()) return;
  const bool wanted = json_field<bool>(config, flag, where);
  const std::string content = config_token(config, kind + "_token", absent, where);
  if (content.empty()) {
    if (wanted) throw Error("{}: {} is true, but there is no {}_token", where, flag, kind);
    return;
  }
  const auto id = find(content);
  if (!id) {
    if (wanted)
      throw Error("{}: the {}_token \"{}\" is not in the vocabulary", where, kind, content);
    return;
  }
  const bool there = std::find(side.begin(), side.end(), *id) != side.end();
  if (wanted && !there) side.insert(kind == "bos" ? side.begin() : side.end(), *id);
  if (!wanted) std::erase(side, *id);
}

}  // namespace

SpecialFrame read_post_processor(const Json& config, const HasId& has_id,
                                 const std::string& where) {
  SpecialFrame frame;
  read_into(config, has_id, frame, where);
  return frame;
}

void apply_tokenizer_config(const Json& config, const FindToken& find, SpecialFrame& frame,
                            const std::string& where) {
  if (config.is_null()) return;
  if (!config.is_object())
    throw Error("{}: expected a JSON object, got {}", where, config.type_name());
  const auto named = config.find("tokenizer_class");
  if (named == config.end() || !named->is_string()) return;
  const ReadingClass* reader = reading_class(named->get_ref<const std::string&>());
  if (reader == nullptr) return;
  set_token(config, "bos", reader->bos, find, frame.before, where);
  set_token(config, "eos", reader->eos, find, frame.after, where);
}

}  // namespace nereid::tokenizer
