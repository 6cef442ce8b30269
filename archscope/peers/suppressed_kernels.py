"""Keep a tool that wraps Python functions from counting what PyTorch's own kernels call.

On the meta device many kernels are written in Python and call functions such as `torch.mm` themselves. A tool that has
wrapped these would count the work of one operator again, which it does not where the kernels are compiled.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class SuppressedKernels(TorchDispatchMode):
    """Within this block whatever is appended to the tool's lists while an operator runs is taken off again.

    lists: gives the lists that the tool keeps at that time.
    """

    def __init__(self, lists: Callable[[], Iterable[list[Any]]]) -> None:
        super().__init__()
        self.lists = lists

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [(kept, len(kept)) for kept in self.lists()]
        try:
            return func(*args, **(kwargs or {}))
        finally:
            for kept, count in before:
                del kept[count:]
