"""How other tools count. One file a tool; importing this package registers them all."""

from importlib import import_module
from pkgutil import iter_modules

from archscope.peers.accounts import COUNTERS, MEASURES, Account, AccountItem, Counter, find

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
for _counter in sorted(COUNTERS.values(), key=lambda each: each.order):
    COUNTERS[_counter.name] = COUNTERS.pop(_counter.name)  # at the end: they come to stand in their order

__all__ = ["COUNTERS", "MEASURES", "Account", "Counter", "AccountItem", "find"]
