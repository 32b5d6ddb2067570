#include "model/quantization_config.h"

#include <algorithm>
#include <array>

#include "base/usage_error.h"

namespace nereid::model {

namespace {

struct FormatRow {
  std::string_view name;
  const char* format;  // as the package calls it where activations are not quantised
  const char* type;
  int n_bits;
  bool is_grouped;
};
constexpr std::array<FormatRow, 3> kFormats{{{"int8", "pack-quantized", "int", 8, false},
                                             {"fp8", "float-quantized", "float", 8, false},
                                             {"int4", "pack-quantized", "int", 4, true}}};

}  // namespace

Json quantization_config(std::string_view format, std::int64_t group, bool has_head) {
  const auto* row = std::ranges::find(kFormats, format, &FormatRow::name);
  if (row == kFormats.end())
    throw UsageError("weights quantised to \"{}\": expected int8, fp8 or int4", format);
  Json weights{{"num_bits", row->n_bits},
               {"type", row->type},
               {"symmetric", true},
               {"strategy", row->is_grouped ? "group" : "channel"},
               {"group_size", row->is_grouped ? Json(group) : Json()},
               {"dynamic", false}};
  return {{"quant_method", "compressed-tensors"},
          {"format", row->format},
          {"quantization_status", "compressed"},
          {"ignore", has_head ? Json::array() : Json::array({"lm_head"})},
          {"kv_cache_scheme", nullptr},
          {"config_groups",
           {{"group_0",
             {{"targets", Json::array({"Linear"})},
              {"format", row->format},
              {"weights", std::move(weights)},
              {"input_activations", nullptr},
              {"output_activations", nullptr}}}}}};
}

}  // namespace nereid::model
