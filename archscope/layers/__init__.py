"""Closed forms: what a layer computes, from its configuration and its input shapes alone. One family of layers a file.

Forms are written in `Expr`, so that the code that computes is the text that is shown. Nothing here knows how PyTorch
computes a layer, and the rules of operators are never read: where a closed form and a run agree, two derivations that
share no code agree.
"""

import pkgutil
from importlib import import_module

from archscope.layers.formula import LAYERS, REFERENCES, Derived, Layer, derive, layer, window

for _file in pkgutil.iter_modules(__path__):
    import_module(f"archscope.layers.{_file.name}")

__all__ = ["LAYERS", "REFERENCES", "Derived", "Layer", "derive", "layer", "window"]
