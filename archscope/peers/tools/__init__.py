"""How other tools count. One file a tool; importing this package enters them all."""

from importlib import import_module

from archscope.peers.accounts import COUNTERS, MEASURES, Account, Counter, Item, find

# the files, in the order in which tables show them
FILES = ("torchinfo", "fvcore", "flop_counter", "ptflops", "thop", "calflops", "torchvision", "timm")

for _file in FILES:
    import_module(f"archscope.peers.tools.{_file}")

__all__ = ["COUNTERS", "MEASURES", "Account", "Counter", "Item", "find"]
