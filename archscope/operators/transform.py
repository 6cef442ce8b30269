"""Fourier transforms, distances and grids: work that is counted by a convention, or by name only."""

from math import ceil, log2, prod

from archscope.core.record import Op
from archscope.operators.rule import Work, by_output, free

# 1 of linalg's checks compares a code; its factorisations have no entry: they are unknown, by their name
free("_linalg_check_errors")


@by_output("aten._fft_c2c", "aten._fft_r2c", "aten._fft_c2r")
def fourier(operator: Op) -> Work:
    # 5·N·log2 N a transform of N points (M. Frigo, S. Johnson: FFTW, benchmark methodology), half of it for real ones
    wide = max(operator.inputs[0], operator.outputs[0], key=lambda t: t.numel)
    shape = list(wide.shape)
    if operator.name == "aten._fft_r2c":
        shape = list(operator.inputs[0].shape)
    elif operator.name == "aten._fft_c2r":
        shape = list(operator.outputs[0].shape)
    points = prod([shape[axis] for axis in operator.args["dim"]])
    each = 5 * points * log2(points) if points > 1 else 0
    count = prod(shape) // points if points else 0
    return Work(None, 0, count * ceil(each if operator.name == "aten._fft_c2c" else each / 2))


@by_output("aten._cdist_forward", "aten._euclidean_dist", "aten.cdist")
def distances(operator: Op) -> Work:
    # of each pair and feature: subtract, power, add; and a root for each pair
    features = operator.inputs[0].shape[-1]
    return Work(None, 0, operator.outputs[0].numel * (3 * features + 1))


@by_output("aten.affine_grid_generator")
def affine_grid(operator: Op) -> Work:
    # [N, *sides, n] = [N, n, n + 1] · [sides, n + 1]
    macs = operator.outputs[0].numel * operator.inputs[0].shape[-1]
    return Work(None, macs, 2 * macs)
