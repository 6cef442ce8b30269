"""How much of each model the closed forms derive: parameters and MACs, in every network of the zoo and of torchvision.

    python benchmarks/coverage.py [--models 'zoo:*,torchvision:swin*']

A row of the run counts as derived when its closed form is known and agrees with the observation. What no layer accounts
for (a class token, a table of positions, the scale of a branch) has nothing but its shape: those parameters count as
derived by the product of it, in a column of their own. Where auxiliary heads run in training only, it is training that
is measured.
"""

import argparse
import fnmatch
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import archscope
from archscope.analysis.row import rows
from archscope.analysis.verification import WHOLE
from archscope.core.record import Trace
from archscope.learn.explain import compared_rows
from archscope.sources.records import record_of

AIM = 0.99


class Coverage(NamedTuple):
    """Shares of a model. own: of the parameters, by the product of their shape. macs: None where the run itself does
    not know all of them. rest: the kinds that no form derives."""

    params: float
    own: float
    macs: float | None
    disagree: int
    rest: tuple[str, ...]


def coverage(trace: Trace) -> Coverage:
    """The shares of parameters and MACs that closed forms derive."""
    derived: Counter[str] = Counter()
    total: Counter[str] = Counter()
    rest: Counter[str] = Counter()
    disagree = 0
    for one in compared_rows(trace):
        amounts = {"params": one.values["params"], "macs": one.values["macs"] or 0}
        by_form = one.check.derived is not None and one.check.agrees is True
        by_shape = one.check.derived is not None and one.check.agrees is None and one.kind == "parameter"
        total.update(amounts)
        if by_form:
            derived.update(amounts)
        elif by_shape and int(one.check.derived.params) == amounts["params"]:  # type: ignore[union-attr]
            derived["own"] += amounts["params"]
        elif any(amounts.values()) or one.values["macs"] is None:
            rest[one.row.kind] += 1
        disagree += one.check.agrees is False

    def share(key: str, of: str) -> float:
        return derived[key] / total[of] if total[of] else 1.0

    known = all(one.values["macs"] is not None for one in compared_rows(trace))
    macs = share("macs", "macs") if known else None
    return Coverage(share("params", "params"), share("own", "params"), macs, disagree, tuple(rest))


def models(patterns: list[str]) -> Iterator[tuple[str, Trace]]:
    """Every network that a pattern means: `zoo:*` and `torchvision:*`, the classifiers."""
    from archscope.zoo.catalogue import entries

    try:
        import torchvision

        classifiers = torchvision.models.list_models(module=torchvision.models)
    except ImportError:
        classifiers = []
    known = {f"zoo:{name}": name for name in entries()} | {f"torchvision:{n}": f"torchvision:{n}" for n in classifiers}
    for name, spec in known.items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            trace = record_of(spec)
            silent = any(row.layer is None and not row.called for row in rows(trace, whole=WHOLE))
            yield name + " (training)" * silent, record_of(spec, batch=2, train=True) if silent else trace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="zoo:*,torchvision:*", help="patterns, separated by commas")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    short = count = 0
    print(f"{'model':<36} {'parameters':>11} {'by shape':>9} {'MACs':>9}  not derived")
    for name, trace in models(options.models.split(",")):
        found = coverage(trace)
        enough = min(found.params + found.own, found.macs or 0) >= AIM and not found.disagree
        short, count = short + (not enough), count + 1
        wrong = f" {found.disagree} rows disagree" if found.disagree else ""
        macs = "unknown" if found.macs is None else f"{found.macs:.4%}"
        print(
            f"{name:<36} {found.params:>11.4%} {found.own:>9.4%} {macs:>9}"
            f"  {', '.join(found.rest)}{wrong}{'' if enough else '  below the aim'}"
        )
    print(
        f"{count} models, {count - short} with at least {AIM:.0%} of both and no disagreement; {archscope.__version__}"
    )
    return short > 0


if __name__ == "__main__":
    raise SystemExit(main())
