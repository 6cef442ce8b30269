"""Products with a sparse matrix: each entry that it stores meets a row or a column of the other factor."""

from archscope.core.record import Op
from archscope.operators.rule import Work, by_output, free


@by_output("aten._sparse_mm")
def mm(operator: Op) -> Work:
    # [n, p] = mm(sparse [n, m], [m, p]): p products an entry; [n, p] = mm([n, m], sparse [m, p]): n an entry
    macs = operator.args["entries"] * operator.args["each"]
    added = operator.outputs[0].numel if "added" in operator.args else 0
    return Work(None, macs, 2 * macs + added)


free("""_sparse_coo_tensor_with_dims_and_tensors _sparse_coo_tensor_unsafe sparse_coo_tensor sparse_compressed_tensor
    sparse_csr_tensor _sparse_compressed_tensor_unsafe _sparse_csr_tensor_unsafe _values _indices values indices
    crow_indices col_indices ccol_indices row_indices _coalesced_ is_coalesced""", view=True)  # fmt: skip
free("coalesce _coalesce to_dense _to_dense to_sparse _to_sparse to_sparse_csr _to_sparse_csr _nnz")
