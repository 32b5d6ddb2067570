// Llama and what descends from it (families.cc). Per layer:
//   x += attention(rope(q), rope(k), v) of norm(x);  x += down(silu(gate) * up) of norm(x)
// where norms may stand behind attention and feed-forward instead, or as well.
// Of several ranks each has the rows of q, k, v, gate and up of its heads and columns, and the
// columns of o and down that these are multiplied by; the sum of these two is everybody's.
// Letters: T tokens, D hidden, H query heads, G key/value heads, Dh head dimension, F feed-forward,
// V vocabulary; of H, G, F and V a rank's share.

#include "base/error.h"
#include "model/architecture.h"
#include "model/stored_name.h"
#include "tensor/widen.h"

namespace nereid::model {

namespace {

using graph::Graph;
using graph::Op;
using graph::Symbol;
using graph::ValueId;
using graph::ValueKind;

// Of a stored weight; all of what is left out.
struct Part {
  std::optional<StoredRange> rows = {}, columns = {};
};

class LlamaBuilder {
 public:
  LlamaBuilder(const ModelConfig& config, const GraphOptions& options)
      : config_(config), options_(options), shard_(options.shard) {
    graph_.name = "llama";
  }

  Graph build() {
    const ValueId given_ids = input(names::kTokenIds, DType::i32, {Symbol::n_tokens});
    positions_ = input(names::kPositions, DType::i32, {Symbol::n_tokens});
    slots_ = input(names::kSlots, DType::i32, {Symbol::n_tokens});
    query_starts_ = input(names::kQueryStarts, DType::i32, {{Symbol::n_sequences, 1, 1}});
    context_lens_ = input(names::kContextLens, DType::i32, {Symbol::n_sequences});
    block_tables_ = input(names::kBlockTables, DType::i32,
                          {Symbol::n_sequences, options_.max_blocks_per_sequence});
    logit_rows_ = input(names::kLogitRows, DType::i32, {Symbol::n_logits});
    inv_freq_ = frequencies(names::kInvFreq);
    if (config_.window_rope) window_inv_freq_ = frequencies(names::kWindowInvFreq);
    if (config_.has_alibi)
      alibi_slopes_ = graph_.add_value(ValueKind::weight, names::kAlibiSlopes, DType::fp32,
                                       {shard_.share(config_.n_heads)});
    if (!shard_.is_whole()) declare_exchange();
    last_ids_ = state(names::kLastIds, DType::i32, {options_.max_logit_rows});
    token_ids_ = graph_.add(Op::take_ids, {given_ids, last_ids_});
    const ValueId embedding =
        weight(of_vocabulary("model.embed_tokens.weight"), {vocabulary(), config_.hidden_size});

    graph::Attrs of_embedding{{"scale", embedding_scale()}, {"dtype", options_.activation}};
    if (has_part_of_vocabulary())
      of_embedding.emplace_back("first", shard_.first(config_.vocab_size));
    ValueId x = graph_.add(Op::gather_rows, {embedding, token_ids_}, of_embedding);  // [T, D]
    if (has_part_of_vocabulary()) x = sum_of_ranks(x);
    for (std::int64_t layer = 0; layer < config_.n_layers; ++layer) x = block(x, layer);
    logits(x, embedding);
    return std::move(graph_);
  }

 private:
  ValueId input(std::string name, DType dtype, std::vector<graph::Dim> shape) {
    return graph_.add_value(ValueKind::input, std::move(name), dtype, std::move(shape));
  }

  ValueId weight(const std::string& name, std::vector<graph::Dim> shape) {
    return graph_.add_value(ValueKind::weight, name, options_.weight_dtype(name), std::move(shape));
  }

  ValueId state(std::string name, DType dtype, std::vector<graph::Dim> shape) {
    return graph_.add_value(ValueKind::state, std::move(name), dtype, std::move(shape));
  }

  ValueId frequencies(const char* name) {
    return graph_.add_value(ValueKind::weight, name, DType::fp32, {config_.head_dim / 2});
  }

  double embedding_scale() const {
    const double scale = config_.embedding_multiplier;
    return config_.rounds_embedding_multiplier ? rounded_to(options_.activation, float(scale))
                                               : scale;
  }

  ValueId norm(ValueId x, const std::string& name, std::int64_t n_cols) {
    const auto stored = name + ".weight";
    const ValueId factors =
        config_.norms_one_plus
            ? graph_.add_value(ValueKind::weight, part_name(StoredPart::one_plus, stored),
                               DType::fp32, {n_cols})
            : weight(stored, {n_cols});
    return graph_.add(Op::rms_norm, {x, factors}, {{"eps", config_.rms_norm_eps}});
  }

  // A rank's rows of as many.
  std::optional<StoredRange> rows_of_rank(std::int64_t n) const {
    if (shard_.is_whole()) return std::nullopt;
    return StoredRange{shard_.first(n), shard_.share(n), n};
  }

  static std::string name_of(const std::string& stored, const Part& part) {
    auto name = part.rows ? rows_name(stored, *part.rows) : stored;
    return part.columns ? columns_name(name, *part.columns) : name;
  }

  // [T, n_in] -> [T, n_out], of a part's rows and columns.
  ValueId linear(ValueId x, const std::string& name, std::int64_t n_out, std::int64_t n_in,
                 bool has_bias, const Part& part = {}) {
    graph::Node node(Op::linear, {x});
    set_weight(node, name, n_out, n_in, part);
    if (has_bias)
      node.set_operand("bias", weight(name_of(name + ".bias", {.rows = part.rows}), {n_out}));
    return graph_.add_node(std::move(node))[0];
  }

  // [T, a rank's share of n_in] -> [T, n_out]: each rank has the columns of the weight that its x
  // is multiplied by, and all have the sum.
  ValueId reducing_linear(ValueId x, const std::string& name, std::int64_t n_out, std::int64_t n_in,
                          bool has_bias) {
    if (shard_.is_whole()) return linear(x, name, n_out, n_in, has_bias);
    const ValueId y =
        linear(x, name, n_out, shard_.share(n_in), false,
               {.columns = StoredRange{shard_.first(n_in), shard_.share(n_in), n_in}});
    return sum_of_ranks(y, has_bias ? weight(name + ".bias", {n_out}) : graph::kNoValue);
  }

  // As it is stored, or quantised with what belongs to it.
  void set_weight(graph::Node& node, const std::string& module, std::int64_t n_out,
                  std::int64_t n_in, const Part& part) {
    const auto stored = name_of(module + ".weight", part);
    const auto format = format_of(module, n_in, part);
    if (!format) {
      node.set_operand("weight", weight(stored, {n_out, n_in}));
      return;
    }
    graph::Node numbers(Op::dequantise, {});
    numbers.set_attr("columns", n_in);
    numbers.set_attr("dtype", options_.activation);
    const auto add = [&](const char* role, const std::string& name, DType dtype,
                         std::int64_t n_cols) {
      numbers.set_operand(role, graph_.add_value(ValueKind::weight, name, dtype, {n_out, n_cols}));
    };
    add("weight", stored, format->dtype, format->n_columns(n_in));
    const auto& quantization = *options_.quantization;
    const auto scale_dtype =
        options_.scale_dtype && quantization.keeps_scales() && !quantization.scale_tensor().empty()
            ? options_.scale_dtype(fmt::format("{}.{}", module, quantization.scale_tensor()))
            : format->scale;
    add("scale", part_name(StoredPart::scale, stored), scale_dtype, format->n_groups);
    if (format->has_zero)
      add("zero", part_name(StoredPart::zero, stored), DType::u8, format->n_groups);
    node.set_operand("weight", graph_.add_node(std::move(numbers))[0]);
    if (quantization.has_order && format->n_groups > 1)
      node.set_operand(
          "x", graph_.add(Op::take_columns,
                          {node.operand("x"),
                           graph_.add_value(ValueKind::weight, part_name(StoredPart::order, stored),
                                            DType::i32, {n_in})}));
  }

  std::optional<WeightFormat> format_of(const std::string& module, std::int64_t n_in,
                                        const Part& part) const {
    if (!options_.quantization) return std::nullopt;
    return part.columns ? options_.quantization->format_of_columns(module, *part.columns)
                        : options_.quantization->format_of(module, n_in);
  }

  // ---- exchanges among ranks

  void declare_exchange() {
    epoch_ = input(names::kEpoch, DType::i32, {1});
    stop_ = state(names::kStop, DType::i32, {1});
    const auto n_words = inbox_words(shard_.n_ranks, options_.slot_words);
    my_inbox_ = state(names::kMyInbox, DType::i32, {n_words});
    for (std::int64_t rank = 0; rank < shard_.n_ranks; ++rank)
      inboxes_.push_back(state(names::kInboxPrefix + std::to_string(rank), DType::i32, {n_words}));
  }

  ValueId exchanged(graph::Node node, const char* name = "") {
    node.set_operand("epoch", epoch_);
    node.set_operand("stop", stop_);
    node.set_operand("mine", my_inbox_);
    for (std::size_t rank = 0; rank < inboxes_.size(); ++rank)
      node.set_operand("inbox" + std::to_string(rank), inboxes_[rank]);
    node.set_attr("rank", shard_.rank);
    node.set_attr("ranks", shard_.n_ranks);
    node.set_attr("slot_words", options_.slot_words);
    return graph_.add_node(std::move(node), {name})[0];
  }

  ValueId sum_of_ranks(ValueId x, ValueId bias = graph::kNoValue) {
    graph::Node node(Op::all_reduce, {x});
    if (bias != graph::kNoValue) node.set_operand("bias", bias);
    return exchanged(std::move(node));
  }

  ValueId columns_of_ranks(ValueId x, const char* name = "") {
    return exchanged(graph::Node(Op::all_gather, {x}), name);
  }

  // Each rank has as many rows of embedding and head; all have all where ranks do not divide them.
  bool has_part_of_vocabulary() const { return divides_vocabulary(config_, shard_.n_ranks); }
  std::int64_t vocabulary() const {
    return has_part_of_vocabulary() ? shard_.share(config_.vocab_size) : config_.vocab_size;
  }
  Part part_of_vocabulary() const {
    return {.rows = has_part_of_vocabulary() ? rows_of_rank(config_.vocab_size) : std::nullopt};
  }
  std::string of_vocabulary(const std::string& stored) const {
    return name_of(stored, part_of_vocabulary());
  }

  ValueId residual(ValueId x, ValueId y) {
    return graph_.add(Op::add, {x, y}, {{"alpha", config_.residual_multiplier}});
  }

  // Heads of queries, of keys or of values.
  struct HeadGroup {
    const char* name;
    const char* norm_name;      // null: never normalised
    std::int64_t first, all;    // which they are of all three, in this order
    std::int64_t begin, count;  // those of this rank, from its first
  };

  // A projection to heads: [T, heads * Dh] -> [T, heads, Dh], normalised where the family does
  // that.
  ValueId heads(ValueId x, const HeadGroup& group, const std::string& prefix) {
    const auto head_dim = config_.head_dim;
    const auto n_cols = group.count * head_dim;
    const auto project = [&](const char* name, std::optional<StoredRange> rows) {
      return linear(x, prefix + name, n_cols, config_.hidden_size, config_.attention_bias,
                    {.rows = rows});
    };
    const auto n_heads = config_.n_heads + 2 * config_.n_kv_heads;
    std::optional<StoredRange> own_rows;
    if (group.count < group.all)
      own_rows = StoredRange{group.begin * head_dim, n_cols, group.all * head_dim};
    ValueId y = config_.has_fused_projections
                    ? project("qkv_proj", StoredRange{(group.first + group.begin) * head_dim,
                                                      n_cols, n_heads * head_dim})
                    : project(group.name, own_rows);
    const auto is_normed = [&](QkNorm kind) {
      return group.norm_name != nullptr && config_.qk_norm == kind;
    };
    if (is_normed(QkNorm::row)) {
      // The norm is over the heads of all ranks.
      if (own_rows) y = columns_of_ranks(y);
      y = norm(y, prefix + group.norm_name, group.all * head_dim);
      if (own_rows) y = graph_.add(Op::slice, {y}, {{"begin", own_rows->begin}, {"size", n_cols}});
    }
    y = graph_.add(Op::reshape, {y}, {{"heads", group.count}});
    return is_normed(QkNorm::head) ? norm(y, prefix + group.norm_name, head_dim) : y;
  }

  ValueId attention(ValueId x, std::int64_t layer, const std::string& prefix) {
    const auto all = config_.n_heads, all_kv = config_.n_kv_heads;
    const auto n_heads = shard_.share(all), first = shard_.first(all);
    const auto n_kv_heads = model::n_kv_heads(config_, shard_);
    const auto first_kv = first_kv_head(config_, shard_);
    ValueId q = heads(x, {"q_proj", "q_norm", 0, all, first, n_heads}, prefix);
    ValueId k = heads(x, {"k_proj", "k_norm", all, all_kv, first_kv, n_kv_heads}, prefix);
    const ValueId v =
        heads(x, {"v_proj", nullptr, all + all_kv, all_kv, first_kv, n_kv_heads}, prefix);
    const bool is_of_window = &config_.layer_rope(layer) != &config_.rope;
    const ValueId inv_freq = is_of_window ? window_inv_freq_ : inv_freq_;
    q = graph_.add(Op::rope, {q, positions_, inv_freq});
    k = graph_.add(Op::rope, {k, positions_, inv_freq});

    const std::vector<graph::Dim> cache{options_.n_blocks, n_kv_heads, options_.block_tokens,
                                        config_.head_dim};
    const auto cache_name = names::kCachePrefix + std::to_string(layer);
    const ValueId k_cache = state(cache_name + ".k", options_.kv_cache, cache);
    const ValueId v_cache = state(cache_name + ".v", options_.kv_cache, cache);
    const auto scales = options_.cache_scales.empty()
                            ? CacheScales{}
                            : options_.cache_scales.at(static_cast<std::size_t>(layer));
    const auto written = graph_.add_node(Op::kv_write, {k, v, slots_, k_cache, v_cache},
                                         {{"k_scale", scales.k}, {"v_scale", scales.v}});

    graph::Node node(Op::attention,
                     {q, written[0], written[1], block_tables_, query_starts_, context_lens_}, {},
                     {{"scale", config_.attention_scale(layer) * scales.k},
                      {"v_scale", scales.v},
                      {"softcap", config_.attention_softcap},
                      {"window", config_.layer_window(layer)}});
    if (config_.has_alibi) {
      NEREID_CHECK(config_.attention_softcap == 0.0, "ALiBi and a soft cap of {}",
                   config_.attention_softcap);
      node.set_operand("fn_a", alibi_slopes_);
      node.set_attr("score", std::string("alibi(a)"));
    }
    const ValueId out = graph_.add_node(std::move(node))[0];
    return reducing_linear(graph_.add(Op::reshape, {out}), prefix + "o_proj", config_.hidden_size,
                           config_.n_heads * config_.head_dim, config_.attention_out_bias);
  }

  ValueId feed_forward(ValueId x, const std::string& prefix) {
    const auto n_hidden = config_.hidden_size;
    const auto n_inner = config_.intermediate_size;
    const auto half = [&](const char* name, std::int64_t begin) {
      auto rows = rows_of_rank(n_inner);
      if (config_.has_fused_projections)
        rows = StoredRange{begin + shard_.first(n_inner), shard_.share(n_inner), 2 * n_inner};
      return linear(x, prefix + (config_.has_fused_projections ? "gate_up_proj" : name),
                    shard_.share(n_inner), n_hidden, config_.mlp_bias, {.rows = rows});
    };
    const ValueId gate = half("gate_proj", 0);
    const ValueId up = half("up_proj", n_inner);
    return reducing_linear(gated(gate, up), prefix + "down_proj", n_hidden, n_inner,
                           config_.mlp_bias);
  }

  // The gate, activated, times the other half.
  ValueId gated(ValueId gate, ValueId up) {
    if (config_.activation == Activation::silu) return graph_.add(Op::silu_mul, {gate, up});
    return graph_.add(Op::map, {gate, up}, {{"body", "(gate, up) -> gelu_tanh(gate) * up"}});
  }

  ValueId block(ValueId x, std::int64_t layer) {
    const auto prefix = "model.layers." + std::to_string(layer) + ".";
    const bool has_before = config_.norm_places != NormPlaces::after;
    const bool has_after = config_.norm_places != NormPlaces::before;
    const auto normed = [&](bool is_normed, ValueId y, const char* name) {
      return is_normed ? norm(y, prefix + name, config_.hidden_size) : y;
    };
    ValueId y = normed(has_before, x, "input_layernorm");
    y = attention(y, layer, prefix + "self_attn.");
    x = residual(x, normed(has_after, y, "post_attention_layernorm"));
    // The name is that of its place: next behind attention.
    y = normed(has_before, x, has_after ? "pre_feedforward_layernorm" : "post_attention_layernorm");
    y = feed_forward(y, prefix + "mlp.");
    return residual(x, normed(has_after, y, "post_feedforward_layernorm"));
  }

  // A head that is the embedding is another matrix once it is quantised: rows are looked up in the
  // one, products are of the other.
  bool has_own_head() const {
    return !config_.tie_word_embeddings ||
           (options_.quantization && options_.quantization->packing == WeightPacking::floats);
  }

  // Only the rows that want a logit go through the head.
  void logits(ValueId x, ValueId embedding) {
    x = graph_.add(Op::gather_rows, {x, logit_rows_});  // [L, D]
    x = norm(x, "model.norm", config_.hidden_size);
    const bool is_scaled = config_.logits_scaling != 1.0;
    const bool is_capped = config_.logits_softcap != 0.0;
    const auto name_if = [](bool is_last) { return is_last ? names::kLogits : ""; };
    graph::Node head(Op::linear, {x});
    if (has_own_head())
      set_weight(head, "lm_head", vocabulary(), config_.hidden_size, part_of_vocabulary());
    else
      head.set_operand("weight", embedding);
    head.set_attr("dtype", DType::fp32);
    const bool is_gathered = has_part_of_vocabulary();
    ValueId y =
        graph_.add_node(std::move(head), {name_if(!is_gathered && !is_scaled && !is_capped)})[0];
    if (is_gathered) y = columns_of_ranks(y, name_if(!is_scaled && !is_capped));
    if (is_scaled)
      y = graph_.add(Op::scale, {y}, {{"alpha", 1.0 / config_.logits_scaling}},
                     name_if(!is_capped));
    if (is_capped)
      y = graph_.add(Op::map, {y},
                     {{"body", fmt::format("(x) -> softcap(x, {})", config_.logits_softcap)}},
                     names::kLogits);
    graph_.outputs = tail(y);
  }

  std::vector<ValueId> tail(ValueId y) {
    switch (options_.tail) {
      case Tail::greedy:
        return {graph_.add(Op::greedy, {y, last_ids_}, {}, "ids"), y};
      case Tail::logprob:
        return {graph_.add(Op::token_logprob, {y, targets()}, {}, "logprobs"), y};
      case Tail::sample:
        return {sample(y)};
      case Tail::full:
        return full(y);
    }
    NEREID_UNREACHABLE("tail {}", static_cast<int>(options_.tail));
  }

  // Uses the logits as scratch.
  ValueId sample(ValueId y) {
    graph::Node node(Op::sample, {y});
    node.set_operand("last_ids", last_ids_);
    return add_with_row_inputs(std::move(node), {"ids"})[0];
  }

  std::vector<ValueId> full(ValueId y) {
    const auto n_vocab = config_.vocab_size;
    const ValueId counts = graph_.add(
        Op::count_tokens, {token_ids_, input(names::kTokenSlots, DType::i32, {Symbol::n_tokens}),
                           table(names::kTokenCounts, DType::i32, n_vocab)});
    graph::Node adjust(Op::adjust_logits, {y});
    adjust.set_operand("token_counts", counts);
    adjust.set_operand("bias_ids", table(names::kBiasIds, DType::i32, kMaxBiases));
    adjust.set_operand("bias_values", table(names::kBiasValues, DType::fp32, kMaxBiases));
    adjust.set_operand("bias_until", table(names::kBiasUntil, DType::i32, kMaxBiases));
    adjust.set_operand("allowed", table(names::kAllowed, DType::i32, n_mask_words(n_vocab)));
    const ValueId ids = sample(add_with_row_inputs(std::move(adjust), {"adjusted"})[0]);
    graph::Node top(Op::top_logprobs, {y, ids, targets()});
    top.set_attr("n_most", kMaxTopLogprobs);
    const auto of_top =
        add_with_row_inputs(std::move(top), {"logprobs", "top_ids", "top_logprobs"});
    return {ids, of_top[0], of_top[1], of_top[2]};
  }

  ValueId targets() { return input(names::kTargets, DType::i32, {Symbol::n_logits}); }

  // A row a slot.
  ValueId table(const char* name, DType dtype, std::int64_t n_cols) {
    return state(name, dtype, {options_.n_slots, n_cols});
  }

  // Operands that are not given are inputs, a value a row of logits, named as the op calls them.
  std::vector<ValueId> add_with_row_inputs(graph::Node node, std::vector<std::string> results) {
    for (const auto& role : node.row().operands) {
      if (node.has(role.name)) continue;
      ValueId id = graph_.find(role.name);
      if (id == graph::kNoValue)
        id = input(std::string(role.name), role.type.dtype.value(), {Symbol::n_logits});
      node.set_operand(role.name, id);
    }
    return graph_.add_node(std::move(node), std::move(results));
  }

  const ModelConfig& config_;
  const GraphOptions& options_;
  const Shard shard_;
  Graph graph_;
  ValueId token_ids_ = -1, positions_ = -1, slots_ = -1, query_starts_ = -1, context_lens_ = -1;
  ValueId block_tables_ = -1, logit_rows_ = -1, inv_freq_ = -1, window_inv_freq_ = -1,
          alibi_slopes_ = -1, last_ids_ = -1;
  ValueId epoch_ = -1, stop_ = -1, my_inbox_ = -1;
  std::vector<ValueId> inboxes_;
};

}  // namespace

Graph build_graph(const ModelConfig& config, const GraphOptions& options) {
  return LlamaBuilder(config, options).build();
}

}  // namespace nereid::model
