/**
 * As for the standard's operators, of onnxruntime's own (onnxruntime, ContribOperators.md). Some leave out an
 * input before one they need: those count from 1, and their rules ask for what they need.
 */
export const MICROSOFT_SIGNATURES = `
  Attention 2..7 ~0,1 do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes
    rotary_embedding_dim scale unidirectional
  BiasAdd 3 ~0,1,2
  BiasGelu 2 ~0,1
  BiasSplitGelu 2 ~0,1
  DequantizeLinear 2..3 axis
  DynamicQuantizeMatMul 3..5 ~0,2 #1
  EmbedLayerNormalization 1..9 epsilon mask_index_type
  FastGelu 1..2 ~0,1
  FusedConv 2..4 ~0,1 activation activation_params auto_pad dilations group kernel_shape pads strides
  FusedGemm 2..3 ~0,1 activation activation_alpha activation_beta activation_gamma alpha beta transA transB
  FusedMatMul 2 ~0,1 alpha transA transB transBatchA transBatchB
  Gelu 1 ~0
  GroupQueryAttention 1..16 ~0 causal do_rotary k_quant_type kv_cache_bit_width kv_num_heads
    local_window_size num_heads qk_norm_epsilon qk_output rotary_interleaved scale sliding_window_cache
    smooth_softmax softcap v_quant_type
  MatMulIntegerToFloat 4..7 #0,1 ~2,3
  MatMulNBits 3..6 ~0 #1 K N accuracy_level bits block_size weight_prepacked
  MultiHeadAttention 1..10 ~0 mask_filter_value num_heads scale unidirectional
  QGemm 6..9 alpha transA transB
  QLinearAdd 7..8
  QLinearConcat 3..* axis
  QLinearGlobalAveragePool 5 channels_last
  QLinearLeakyRelu 4..5 alpha
  QLinearMul 7..8
  QLinearSigmoid 4..5
  QuantizeLinear 2..3 axis
  QuickGelu 1 ~0 alpha
  RotaryEmbedding 4 ~0,2,3 #1 interleaved is_packed_batching num_heads rotary_embedding_dim scale
  SimplifiedLayerNormalization 2 ~0,1 axis epsilon stash_type
  SkipLayerNormalization 3..5 ~0,1,2 epsilon
  SkipSimplifiedLayerNormalization 3..4 ~0,1,2 epsilon
  TransposeMatMul 2 ~0,1 alpha transA transB
`;
