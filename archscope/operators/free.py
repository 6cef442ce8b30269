"""Operators that cost nothing by definition: views, copies, creation, comparison, indexing."""

# the output shares the memory of its input
VIEWS = frozenset(
    f"aten.{name}"
    for name in """view reshape flatten unflatten permute transpose t mT swapaxes movedim expand expand_as squeeze
    unsqueeze select slice split split_with_sizes tensor_split chunk unbind narrow diagonal as_strided detach alias
    contiguous view_as unfold hsplit vsplit real imag view_as_real view_as_complex _unsafe_view _reshape_alias
    lift_fresh lift squeeze_ unsqueeze_ transpose_ t_ detach_ as_strided_ adjoint numpy_T _conj conj
    resolve_conj resolve_neg""".split()
)


# copies, creation, comparison, indexing: no arithmetic
ZERO = (
    VIEWS
    | frozenset(
        f"aten.{name}"
        for name in """clone copy copy_ to _to_copy type_as constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d _pad_circular hstack vstack
    column_stack concat concatenate repeat repeat_interleave tile roll flip rot90 index index_put index_put_
    _unsafe_index index_select gather scatter scatter_ masked_fill masked_fill_ masked_select where tril triu
    tril_indices triu_indices zeros ones empty full zeros_like ones_like empty_like full_like new_zeros new_ones
    new_empty new_full arange linspace eye scalar_tensor tensor randn rand randint randn_like rand_like normal_
    uniform_ bernoulli_ bernoulli randperm fill fill_ zero_ zero eq ne lt le gt ge logical_and logical_or logical_not
    logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor bitwise_and_ bitwise_or_ bitwise_xor_ median kthvalue
    block_diag __and__ __or__ isnan isinf isfinite channel_shuffle native_channel_shuffle im2col col2im
    native_dropout sort argsort topk _unique2 one_hot meshgrid broadcast_tensors broadcast_to empty_strided
    new_empty_strided set_ resize_ is_same_size sym_size size numel item _local_scalar_dense equal max_unpool2d
    max_unpool3d dropout_ searchsorted bucketize triu_ tril_ take take_along_dim diag diag_embed cartesian_prod histc
    bincount nonzero feature_dropout_ alpha_dropout_ __lshift__ __rshift__ slice_scatter select_scatter _assert_async
    _assert_tensor_metadata hann_window dequantize is_nonzero""".split()
    )
    | {"torchvision.nms", "profiler._record_function_enter_new", "profiler._record_function_exit"}
)
