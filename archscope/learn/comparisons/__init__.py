"""What a construction saves or costs, compared with the plain one, both by their closed forms.

A comparison finds its construction in a run by the data flow, not by names, and works out every instance of it. The
other side is derived from the same closed forms in another configuration, never written down. One file a kind of
construction; the files are listed, and pages show them in order of their names.
"""

import pkgutil
from importlib import import_module

from archscope.learn.comparisons.base import COMPARISONS, ComparedRow, Instance, compared, comparison

for _file in pkgutil.iter_modules(__path__):
    import_module(f"archscope.learn.comparisons.{_file.name}")

__all__ = ["COMPARISONS", "Instance", "ComparedRow", "compared", "comparison"]
