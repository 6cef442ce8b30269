"""What a construction saves or costs: it beside the plain one, both by their closed forms.

Each comparison looks for its construction in a run, by the data that flows and not by names, and works every instance
of it. The other side is derived from the same closed forms with another configuration, never written down. One file a
kind of construction; importing this package enters them all.
"""

from importlib import import_module

from archscope.learn.comparisons.base import COMPARISONS, Found, Seen, compared, comparison

# the files, in the order in which pages show them
FILES = ("convolutions", "blocks", "sequences")

for _file in FILES:
    import_module(f"archscope.learn.comparisons.{_file}")

__all__ = ["COMPARISONS", "Found", "Seen", "compared", "comparison"]
