"""Tensors made from nothing or from a shape, drawn at random, copied, and what is asked of them."""

from archscope.operators.rule import free

free(
    "arange zeros ones full eye linspace scalar_tensor zeros_like ones_like full_like new_zeros new_ones new_full",
    constant=True,
)
free("empty empty_like new_empty empty_strided new_empty_strided tensor tril_indices triu_indices hann_window")
free("hamming_window bartlett_window blackman_window kaiser_window logspace range fft_fftfreq fft_rfftfreq")
free("fill fill_ zero_ zero clone copy copy_ to _to_copy type_as dequantize set_")
free("resize_ resize_as_")  # `shares` says when in the memory that is there
free("randn rand randint randn_like rand_like randperm normal_ uniform_ bernoulli bernoulli_")
free("normal randint_like exponential geometric cauchy log_normal uniform random")
_VIEWED = """alias as_strided detach diagonal expand narrow permute select slice split split_with_sizes squeeze t
    transpose unbind unfold unsqueeze view view_as_complex view_as_real lift_fresh""".split()
free(" ".join(f"{name}_copy" for name in _VIEWED))
free(
    "multinomial poisson binomial _standard_gamma _sample_dirichlet exponential_ geometric_ cauchy_ log_normal_ random_"
)
free("_is_all_true _is_any_true unique_consecutive allclose isclose")
free("is_same_size sym_size size numel item _local_scalar_dense equal is_nonzero _assert_async _assert_tensor_metadata")
free("_efficientzerotensor _has_same_storage_numel")  # of forward-mode gradients
