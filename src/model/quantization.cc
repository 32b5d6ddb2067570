#include "model/quantization.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/usage_error.h"
#include "model/config_fields.h"

namespace nereid::model {

namespace {

constexpr std::string_view kHeadModule = "lm_head";
constexpr std::int64_t kMaxGroup = 1 << 24;

using Fields = ConfigFields;

void ignore(Quantization& result, Fields& fields, const char* name, const std::string& where) {
  const Json* list = fields.find(name);
  if (list == nullptr) return;
  if (!list->is_array()) fields.fail(name, *list, "a list of names");
  for (const auto& entry : *list) {
    if (!entry.is_string()) fields.fail(name, entry, "a name");
    result.ignored.emplace_back(entry.get<std::string>(), where);
  }
}

// -1 and absence are a whole row.
std::int64_t group_of(Fields& fields, const char* name) {
  const auto group = fields.integer_if(name, -1, kMaxGroup).value_or(-1);
  if (group == 0) fields.fail(name, group, "a number of columns, or -1 for a row");
  return std::max<std::int64_t>(group, 0);
}

void only_4_bits(Fields& fields, const char* name) {
  if (const auto bits = fields.integer(name, 1, 16); bits != 4)
    fields.fail(name, bits, "4: its weights are read in no other width");
}

Quantization gptq(Fields& fields, DType weights) {
  only_4_bits(fields, "bits");
  Quantization result{.name = "gptq", .packing = WeightPacking::gptq, .dtype = DType::u8};
  result.scale = weights == DType::fp32 ? DType::fp16 : weights;
  result.group = group_of(fields, "group_size");
  result.has_zero = !fields.flag("sym", true);
  result.has_order = fields.flag("desc_act", false);
  const auto format = fields.text_if("checkpoint_format").value_or("gptq");
  if (format != "gptq" && format != "gptq_v2")
    fields.fail("checkpoint_format", format, "\"gptq\" or \"gptq_v2\"");
  result.zero_add = format == "gptq" ? 1 : 0;
  if (fields.says_something("dynamic"))
    fields.fail("dynamic", *fields.find("dynamic"), "absence: one format for all modules");
  return result;
}

Quantization awq(Fields& fields, DType weights) {
  only_4_bits(fields, fields.has("w_bit") ? "w_bit" : "bits");
  Quantization result{.name = "awq", .packing = WeightPacking::awq, .dtype = DType::u8};
  result.scale = weights == DType::fp32 ? DType::fp16 : weights;
  result.group = group_of(fields, fields.has("q_group_size") ? "q_group_size" : "group_size");
  if (const auto version = fields.text_if("version").value_or("gemm"); version != "gemm")
    fields.fail("version", version, "\"gemm\"");
  if (!fields.flag("zero_point", true)) fields.fail("zero_point", false, "true");
  result.has_zero = true;
  return result;
}

void read_block(Quantization& result, Fields& fields, const char* name, const Json& block) {
  const auto is_size = [](const Json& size) {
    const auto n = whole_number(size);
    return n && *n > 0 && *n <= kMaxGroup;
  };
  if (!block.is_array() || block.size() != 2 || !std::ranges::all_of(block, is_size))
    fields.fail(name, block, "two numbers, of rows and of columns");
  result.packing = WeightPacking::blocks;
  result.block_rows = *whole_number(block[0]);
  result.group = *whole_number(block[1]);
}

Quantization fp8(Fields& fields) {
  Quantization result{.name = "fp8", .packing = WeightPacking::rows, .dtype = DType::fp8e4nv};
  if (const auto format = fields.text_if("fmt").value_or("e4m3"); format != "e4m3")
    fields.fail("fmt", format, "\"e4m3\"");
  if (const Json* block = fields.find("weight_block_size"))
    read_block(result, fields, "weight_block_size", *block);
  result.has_fp8_activations = fields.says_something("activation_scheme");
  return result;
}

// What a group of config_groups says of weights.
void read_compressed_weights(Quantization& result, Fields& fields, DType weights) {
  const auto type = fields.text_if("type").value_or("int");
  const auto bits = fields.integer("num_bits", 1, 16);
  const auto strategy =
      fields.text_if("strategy").value_or(fields.has("group_size") ? "group" : "tensor");
  const bool is_symmetric = fields.flag("symmetric", true);
  if (type == "int" && bits == 4)
    result.dtype = DType::u8;
  else if (type == "int" && bits == 8)
    result.dtype = DType::i8;
  else if (type == "float" && bits == 8)
    result.dtype = DType::fp8e4nv;
  else
    fields.fail("num_bits", bits, "int of 4 or 8 bits, or float of 8");
  if (strategy == "group") {
    result.group = fields.integer("group_size", 1, kMaxGroup);
    if (result.dtype == DType::u8) result.scale = weights;
  } else if (strategy == "block") {
    const Json* block = fields.find("block_structure");
    if (block == nullptr) fields.fail_missing("block_structure");
    read_block(result, fields, "block_structure", *block);
  } else if (strategy != "channel" && strategy != "tensor") {
    fields.fail("strategy", strategy, "\"tensor\", \"channel\", \"group\" or \"block\"");
  }
  result.has_zero = !is_symmetric;
  if (result.has_zero && result.dtype != DType::u8)
    fields.fail("symmetric", false, "true, but for integers of 4 bits");
  if (const Json* order = fields.find("actorder");
      order != nullptr && *order != "static" && *order != "weight" && *order != false)
    fields.fail("actorder", *order, "null, \"static\" or \"weight\": columns in their own order");
}

Quantization compressed(Fields& fields, const std::string& where, DType weights) {
  Quantization result{.name = "compressed-tensors", .packing = WeightPacking::rows};
  const Json* groups = fields.find("config_groups");
  if (groups == nullptr) fields.fail_missing("config_groups");
  if (!groups->is_object() || groups->size() != 1)
    fields.fail("config_groups", *groups, "an object with one group: one format for all modules");
  const auto group = groups->begin();
  const auto prefix = "quantization_config.config_groups." + group.key() + ".";
  Fields of_group(group.value(), where, prefix);
  const Json* weights_json = of_group.find("weights");
  if (weights_json == nullptr) of_group.fail_missing("weights");
  if (const Json* targets = of_group.find("targets");
      targets != nullptr && *targets != Json::array({"Linear"}))
    of_group.fail("targets", *targets, "[\"Linear\"]");
  Fields of_weights(*weights_json, where, prefix + "weights.");
  read_compressed_weights(result, of_weights, weights);
  const auto format = of_group.text_if("format").value_or(
      fields.text_if("format").value_or(result.dtype == DType::u8 ? "pack-quantized" : "dense"));
  const bool is_packed = format == "pack-quantized";
  if (!is_packed && format != "int-quantized" && format != "float-quantized" &&
      format != "naive-quantized")
    fields.fail("format", format,
                "\"pack-quantized\", \"int-quantized\", \"float-quantized\" or "
                "\"naive-quantized\"");
  if (is_packed != (result.dtype == DType::u8) && !(is_packed && result.dtype == DType::i8))
    fields.fail("format", format, "\"pack-quantized\" for 4 bits, and for integers only");
  if (is_packed) result.packing = WeightPacking::compressed;
  if (result.dtype == DType::fp8e4nv && of_group.says_something("input_activations")) {
    Fields of_x(*of_group.find("input_activations"), where, prefix + "input_activations.");
    result.has_fp8_activations = of_x.text_if("type").value_or("int") == "float" &&
                                 of_x.integer_if("num_bits", 1, 16).value_or(8) == 8;
  }
  if (const auto status = fields.text_if("quantization_status").value_or("compressed");
      status != "compressed")
    fields.fail("quantization_status", status, "\"compressed\"");
  if (fields.says_something("transform_config"))
    fields.fail("transform_config", *fields.find("transform_config"),
                "absence: weights are turned by nothing");
  if (fields.says_something("sparsity_config")) {
    const Json* sparsity = fields.find("sparsity_config");
    if (!sparsity->is_object() || sparsity->value("format", Json("dense")) != "dense")
      fields.fail("sparsity_config", *sparsity, "absence: weights are dense");
  }
  return result;
}

// What kv_cache_scheme has other than a number of e4m3 for each layer's keys and one for its
// values.
std::string mismatch(const Json& scheme) {
  if (!scheme.is_object()) return json_excerpt(scheme);
  // As the package defines them where they are absent.
  const Json defaults{{"num_bits", 8},
                      {"type", "int"},
                      {"strategy", "tensor"},
                      {"symmetric", true},
                      {"dynamic", false}};
  const Json wanted{{"num_bits", 8},
                    {"type", "float"},
                    {"strategy", "tensor"},
                    {"symmetric", true},
                    {"dynamic", false}};
  for (const auto& [name, value] : wanted.items()) {
    const auto found = scheme.find(name);
    const Json& given = found == scheme.end() || found->is_null() ? defaults.at(name) : *found;
    if (given != value) return fmt::format("\"{}\": {}", name, json_excerpt(given));
  }
  return {};
}

// A cache of 16 bits needs none of this: what is not read is an error once 8 bits are asked for.
void read_cache_scheme(Quantization& result, Fields& fields, const std::string& where) {
  constexpr const char* kField = "kv_cache_scheme";
  if (!fields.says_something(kField)) return;
  const auto got = mismatch(*fields.find(kField));
  result.has_cache_scales = got.empty() && result.name == "compressed-tensors";
  if (result.has_cache_scales) return;
  result.cache_refusal = fmt::format(
      "{}: field \"quantization_config.{}\" of {}: expected that of compressed-tensors, float of 8 "
      "bits, symmetric, of strategy \"tensor\", not dynamic; got {}; without --kv-cache fp8 the "
      "cache has the model's type",
      where, kField, result.name, got.empty() ? "it" : got);
}

}  // namespace

std::int64_t WeightFormat::n_columns(std::int64_t n_in) const {
  return is_4_bits() ? (n_in + kPackedBlock - 1) / kPackedBlock * (kPackedBlock / 2) : n_in;
}

std::string_view Quantization::q_tensor() const {
  if (packing == WeightPacking::compressed) return "weight_packed";
  return packing == WeightPacking::gptq || packing == WeightPacking::awq ? "qweight" : "weight";
}

std::string_view Quantization::scale_tensor() const {
  switch (packing) {
    case WeightPacking::floats:
      return {};
    case WeightPacking::rows:
    case WeightPacking::compressed:
      return "weight_scale";
    case WeightPacking::blocks:
      return name == "fp8" ? "weight_scale_inv" : "weight_scale";
    case WeightPacking::gptq:
    case WeightPacking::awq:
      return "scales";
  }
  NEREID_UNREACHABLE("packing {}", static_cast<int>(packing));
}

std::string_view Quantization::zero_tensor() const {
  if (!has_zero) return {};
  return packing == WeightPacking::compressed ? "weight_zero_point" : "qzeros";
}

Quantization Quantization::when_loaded(std::string_view name, DType weights) {
  Quantization result{.name = std::string(name)};
  if (name == "int8") {
    result.dtype = DType::i8;
  } else if (name == "fp8") {
    result.dtype = DType::fp8e4nv;
  } else if (name == "int4") {
    result.dtype = DType::u8;
    result.scale = weights;
    result.group = kGroups.front();
  } else {
    throw UsageError("weights quantised to \"{}\": expected int8, int4 or fp8", name);
  }
  return result;
}

Quantization Quantization::parse(const Json& config, const std::string& where, DType weights) {
  Fields fields(config, where, "quantization_config.");
  const auto method = fields.text_if("quant_method");
  if (!method) fields.fail_missing("quant_method");
  Quantization result;
  bool has_head = false;
  if (*method == "gptq") {
    result = gptq(fields, weights);
    has_head = fields.flag("lm_head", false);
  } else if (*method == "awq") {
    result = awq(fields, weights);
  } else if (*method == "fp8") {
    result = fp8(fields);
  } else if (*method == "fbgemm_fp8") {
    result = {.name = *method,
              .packing = WeightPacking::rows,
              .dtype = DType::fp8e4nv,
              .has_fp8_activations = true};
  } else if (*method == "compressed-tensors") {
    result = compressed(fields, where, weights);
    has_head = true;
  } else {
    fields.fail("quant_method", *method,
                "\"compressed-tensors\", \"fp8\", \"fbgemm_fp8\", \"gptq\" or \"awq\"");
  }
  read_cache_scheme(result, fields, where);
  for (const auto* list : {"ignore", "modules_to_not_convert", "ignored_layers"})
    ignore(result, fields, list, where);
  if (!has_head) result.ignored.emplace_back(std::string(kHeadModule), where);
  return result;
}

std::optional<WeightFormat> Quantization::format_of(std::string_view module,
                                                    std::int64_t n_in) const {
  if (std::ranges::any_of(ignored, [&](const auto& pattern) { return pattern.matches(module); }))
    return std::nullopt;
  // Of one matrix in so many, 4 bits more are little beside what they keep.
  if (packing == WeightPacking::floats && module == kHeadModule && dtype == DType::u8)
    return WeightFormat{.dtype = DType::i8};
  auto columns = group;
  if (packing == WeightPacking::floats && columns > 0) {
    const auto* fit =
        std::ranges::find_if(kGroups, [&](std::int64_t size) { return n_in % size == 0; });
    columns = fit == kGroups.end() ? 0 : *fit;
  }
  if (columns == 0 || columns == n_in)
    return WeightFormat{.dtype = dtype, .n_groups = 1, .scale = scale, .has_zero = has_zero};
  if (n_in % columns != 0)
    throw Error("{}: {} columns in groups of {}: expected groups that divide them", module, n_in,
                columns);
  const bool is_read =
      columns % kPackedBlock == 0 || std::ranges::find(kGroups, columns) != kGroups.end();
  if (!is_read)
    throw Error("{}: columns in groups of {}: expected 32, 64, a multiple of 128, or all", module,
                columns);
  return WeightFormat{
      .dtype = dtype, .n_groups = n_in / columns, .scale = scale, .has_zero = has_zero};
}

std::optional<WeightFormat> Quantization::format_of_columns(std::string_view module,
                                                            const StoredRange& columns) const {
  auto format = format_of(module, columns.n_stored);
  if (!format) return format;
  if (format->n_groups == 1) return format;
  if (has_order)
    throw Error(
        "{}: {} with columns in an order of their own (\"desc_act\") is not divided among devices: "
        "a device's columns are of all groups; use one device",
        module, name);
  const auto n_each = columns.n_stored / format->n_groups;
  if (columns.count % n_each == 0) {
    format->n_groups = columns.count / n_each;
    return format;
  }
  if (packing == WeightPacking::floats) return format_of(module, columns.count);
  throw Error(
      "{}: {} columns a device of {} in groups of {}: expected groups that end with a device's "
      "columns; choose another number of devices",
      module, columns.count, columns.n_stored, n_each);
}

}  // namespace nereid::model
