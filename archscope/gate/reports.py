"""What `check` found, for people and for CI systems: one function a format, each `Result -> str`.

text     what changed, layer by layer; layers that only follow, in one sentence
github   the same, and an annotation at the line of the lock or of the config for each model that fails
md       for a step summary or a comment on a pull request
junit    XML: a test case for each model, and for each limit of its budgets
json     flat, for DVC and CML: {"lenet.params": 61706, "lenet.params.change": 0, …, "ok": true}
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from archscope.analysis.texts import uncounted, without_cost
from archscope.core.errors import SpecError
from archscope.core.formats import escaped, text_of
from archscope.core.formats.base import inert, json_text
from archscope.core.registry import Registry
from archscope.gate.changes import layers_table, totals_table
from archscope.gate.drift import Drift, LayerChange, at_peak_text, following, sentence, totals_text
from archscope.gate.judge import CheckOutcome, Plan, Result
from archscope.gate.lock import shown

REPORTS: Registry[Callable[[Result], str]] = Registry("report")
report = REPORTS.register

MOST = 20  # layers shown of one model; `archscope diff` shows all
SUMMARY = 900_000  # bytes; GitHub refuses a step summary of more than 1 MiB


def default_format() -> str:
    """What is printed where no format is asked for: annotations within GitHub Actions, text elsewhere."""
    return "github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text"


# ---------------------------------------------------------------------------------------------------------- text


@report("text")
def text(result: Result) -> str:
    """For people."""
    lines: list[str] = []
    for outcome in result.outcomes:
        for finding, rest in findings(outcome, result):
            lines += [f"{finding.mark} {outcome.model}: {finding.text}", *(f"    {line}" for line in rest)]
        lines += [f"· {outcome.model}: {note}" for note in notes(outcome)]
    quiet = [o for o in result.outcomes if not (o.fails or o.verdicts or o.drift or o.removed)]
    if quiet:
        names = quiet[0].model if len(quiet) == 1 else f"{len(quiet)} models"
        cached = sum(outcome.cached for outcome in quiet)
        note = f" ({'not' if cached == len(quiet) else f'{cached} not'} run again)" if cached else ""
        lines.append(f"✓ {names}: {'' if result.updated else 'as '}locked in {shown(result.lock)}{note}")
    if summary := verdict_of(result):
        lines.append(summary)
    return "\n".join(map(_one_line, lines)) + "\n"


def written(plan: Plan, outcomes: Sequence[CheckOutcome]) -> str:
    """What `lock` prints: `archscope.lock: 51 models, 1 added, 2 changed, 48 as before`."""
    lines = [f"✗ {outcome.model}: {outcome.problem}" for outcome in outcomes if outcome.after is None]
    done = [outcome for outcome in outcomes if outcome.after is not None]
    for outcome in done:
        if outcome.drift:
            lines.append(f"~ {outcome.model}: {headline(outcome.drift)}")
            lines += [f"    {line}" for line in drift_lines(outcome.drift)]
    config = shown(plan.config.path or "")
    lines += [f"− {name}: removed, {config} does not name it" for name in plan.gone]
    lines += [
        f"! {outcome.model}: {config} does not name it, as `archscope check` will say: add it there"
        for outcome in done
        if outcome.model in plan.unnamed
    ]
    counts = (
        (sum(outcome.before is None for outcome in done), "added"),
        (sum(outcome.before is not None and outcome.before != outcome.after for outcome in done), "renewed"),
        (sum(outcome.before == outcome.after for outcome in done), "as before"),
        (len(plan.gone), "removed"),
        (len(outcomes) - len(done), "could not be run"),
    )
    summary = ", ".join(f"{count} {word}" for count, word in counts if count)
    lines.append(f"{shown(plan.path)}: {summary}")
    return "\n".join(map(_one_line, lines)) + "\n"


class Finding(NamedTuple):
    """The first line of a finding about one model. mark: ✗ a failure, ~ an accepted change, ✓ a limit that holds. line:
    in the config, or 0. limit: whether it is about a limit."""

    text: str
    mark: str
    line: int = 0
    limit: bool = False

    @property
    def fails(self) -> bool:
        return self.mark == "✗"


def findings(outcome: CheckOutcome, result: Result, most: int = MOST) -> Iterator[tuple[Finding, list[str]]]:
    """What was found for one model: a line each, with the lines under it."""
    config = result.config

    def at(line: int) -> str:
        return f" [{config.where(line)}]" if line and config.path else ""

    if outcome.removed:
        yield Finding(f"removed from {shown(result.lock)}", "~"), []
    if outcome.problem:
        yield Finding(f"{outcome.problem}{at(outcome.line)}", "✗", outcome.line), []
    if outcome.drift:
        yield Finding(headline(outcome.drift), "✗" if outcome.changed else "~"), drift_lines(outcome.drift, most)
    elif outcome.accepted and outcome.before is None:
        yield Finding(f"added to {shown(result.lock)}", "~"), []
    if outcome.uncovered and outcome.after is not None:
        yield Finding(f"no rule knows the cost of {', '.join(uncounted(outcome.after.totals['unknown']))}", "✗"), []
    for verdict in outcome.verdicts:
        line = verdict.limit.line
        if verdict.holds:
            yield Finding(verdict.sentence, "✓", line, True), []
        else:
            rest = [verdict.message] if verdict.message else []
            yield Finding(f"{verdict.sentence}{at(line)}", "✗", line, True), rest


def notes(outcome: CheckOutcome) -> Iterator[str]:
    """Remarks that are no failures."""
    if outcome.after is not None and outcome.after.totals["unknown"] and not outcome.uncovered:
        yield without_cost(uncounted(outcome.after.totals["unknown"]))
    if outcome.drift and outcome.before and outcome.after and outcome.before.made != outcome.after.made:
        pairs = [(key, outcome.before.made.get(key), outcome.after.made.get(key)) for key in ("archscope", "torch")]
        changed = [f"{key} {old}, now {new}" for key, old, new in pairs if old != new]
        if changed:
            yield f"locked with {' and '.join(changed)}"


def headline(drift: Drift) -> str:
    """`1 layer changed, 2 added`."""
    counts: dict[str, int] = {}
    for change in drift.changes:
        if change.how != "follows":
            counts[change.how] = counts.get(change.how, 0) + 1
    if not counts:
        return "the input changed" if drift.input else "the same layers, other figures"
    first, *more = counts.items()
    layers = f"{first[1]} layer{'s' if first[1] > 1 else ''} {first[0]}"
    return ", ".join([layers, *(f"{count} {how}" for how, count in more)])


def drift_lines(drift: Drift, most: int = MOST) -> list[str]:
    """The totals and the layers that changed; of more than `most` layers those that changed most, in run order."""
    own = [change for change in drift.changes if change.how != "follows"]
    kept = own
    if len(own) > most:
        largest = sorted(range(len(own)), key=lambda i: (-_weight(own[i]), i))[:most]
        kept = [own[i] for i in sorted(largest)]
    lines = [*totals_text(drift), *map(sentence, kept)]
    if len(own) > len(kept):
        lines.append(f"… and {len(own) - len(kept)} more layers")
    if rest := following(drift.changes):
        lines.append(f"… and {rest}" if own else rest)
    return lines


def _weight(change: LayerChange) -> int:
    return max(abs(change.delta("params") or 0), abs(change.delta("macs") or 0))


def verdict_of(result: Result) -> str:
    """The last line, "" where nothing fails."""
    each = result.outcomes
    parts = (
        (sum(outcome.changed for outcome in each), "changed"),
        (sum(outcome.over for outcome in each), "over budget"),
        (sum(bool(outcome.problem) for outcome in each), "not comparable"),
        (sum(outcome.uncovered for outcome in each), "not covered by rules"),
    )
    counts = ", ".join(f"{count} {word}" for count, word in parts if count)
    hint = "; `archscope check --update` accepts the changes" if parts[0][0] else ""
    return f"{len(each)} model{'s' if len(each) > 1 else ''} checked: {counts}{hint}" if counts else ""


def _one_line(line: str) -> str:
    return inert("".join(c for c in line if c.isprintable()))


# -------------------------------------------------------------------------------------------------------- GitHub


@report("github")
def github(result: Result) -> str:
    """The text, then workflow commands, which GitHub shows at the lines of the changed files."""
    lines = [text(result).rstrip("\n")]
    for outcome in result.outcomes:
        for finding, rest in findings(outcome, result):
            if finding.fails:
                file, line = _place(outcome, finding, result)
                lines.append(_command("error", file, line, f"archscope: {outcome.model}", [finding.text, *rest]))
        for note in notes(outcome):
            file, line = _place(outcome, Finding(note, "·"), result)
            lines.append(_command("warning", file, line, f"archscope: {outcome.model}", [note]))
    return "\n".join(lines) + "\n"


def _place(outcome: CheckOutcome, finding: Finding, result: Result) -> tuple[str, int]:
    """File and line where a finding is shown: in the config, or at the first changed layer in the lock."""
    if finding.line and result.config.path:
        return _from_root(result.config.path), finding.line
    line = outcome.before.first if outcome.before else 1
    if outcome.drift and outcome.before:
        for change in outcome.drift.changes:
            if change.before is not None and change.how != "follows":
                line += next(i for i, one in enumerate(outcome.before.lines) if one is change.before)
                break
    return _from_root(result.lock), max(line, 1)


def _from_root(path: str) -> str:
    """A path from the root of the checkout, which is how GitHub names files."""
    root = os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
    return os.path.relpath(os.path.realpath(path), os.path.realpath(root)).replace(os.sep, "/")


def _command(name: str, file: str, line: int, title: str, lines: list[str]) -> str:
    def data(value: str) -> str:
        return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def prop(value: str) -> str:
        return data(value).replace(":", "%3A").replace(",", "%2C")

    message = data("\n".join(lines))
    return f"::{name} file={prop(file)},line={line},title={prop(title)}::{message}"


# ------------------------------------------------------------------------------------------------------ Markdown


@report("md")
def md(result: Result) -> str:
    """A headline, what fails, and the totals and layers of each changed model, folded."""
    total = len(result.outcomes)
    state = "✗" if result.fails else "✓"
    summary = verdict_of(result) or f"{total} model{'s' if total > 1 else ''} checked: all as agreed"
    blocks = [f"### {state} archscope", escaped(re.sub(r"`", "", summary), "md")]
    points = []
    for outcome in result.outcomes:
        for finding, rest in findings(outcome, result):
            extra = f" ({'; '.join(rest)})" if rest and not outcome.drift else ""
            points.append(f"- {finding.mark} **{escaped(outcome.model, 'md')}**: {escaped(finding.text + extra, 'md')}")
        points += [f"- **{escaped(outcome.model, 'md')}**: {escaped(note, 'md')}" for note in notes(outcome)]
    if points:
        blocks.append("\n".join(points))
    for outcome in result.outcomes:
        if outcome.drift:
            blocks.append(_details(outcome.model, outcome.drift))
    kept, size = [], 0
    for block in blocks:
        size += len(block.encode()) + 2
        if size > SUMMARY:
            kept.append("*The rest is left out: there is no room for it here.*")
            break
        kept.append(block)
    return "\n\n".join(kept) + "\n"


def _details(model: str, drift: Drift) -> str:
    tables = [text_of(table, "md").strip() for table in (totals_table([drift]), layers_table([drift])) if table.rows]
    peak = [escaped(at_peak_text(drift), "md")] if "peak_memory" in drift.totals else []
    inner = "\n\n".join([*tables, *filter(None, peak)])
    name = model.replace("&", "&amp;").replace("<", "&lt;")
    return f"<details><summary>{name}: {headline(drift)}</summary>\n\n{inner}\n\n</details>"


def summarise(result: Result) -> None:
    """Append the Markdown to the file that $GITHUB_STEP_SUMMARY names, where it is set. Raises SpecError."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(md(result) + "\n")
    except OSError as error:
        raise SpecError(f"cannot write $GITHUB_STEP_SUMMARY ({path}): {error.strerror or error}") from error


# ------------------------------------------------------------------------------------------------------ machines


@report("junit")
def junit(result: Result) -> str:
    """JUnit XML: a suite with a test case for each model and for each limit. What could not be run is an error."""
    from xml.sax.saxutils import escape, quoteattr

    def clean(value: str) -> str:
        return "".join(c for c in value if c.isprintable() or c == "\n")

    cases, failures, errors = [], 0, 0
    for outcome in result.outcomes:
        every = list(findings(outcome, result, 10**9))
        cases_of = {"as locked": [one for one in every if not one[0].limit]}
        limits = [one for one in every if one[0].limit]
        for verdict, one in zip(outcome.verdicts, limits, strict=True):
            cases_of.setdefault(f"{verdict.limit.metric} {verdict.limit.text}", []).append(one)
        for name, list_of in cases_of.items():
            head = f"classname={quoteattr(clean('archscope.' + outcome.model))} name={quoteattr(clean(name))}"
            bad = [(finding, rest) for finding, rest in list_of if finding.fails]
            if not bad:
                cases.append(f"    <testcase {head}/>")
                continue
            kind = "error" if outcome.problem and name == "as locked" else "failure"
            failures, errors = failures + (kind == "failure"), errors + (kind == "error")
            body = "\n".join(line for finding, rest in bad for line in (finding.text, *rest))
            first = quoteattr(clean(f"{outcome.model}: {bad[0][0].text}"))
            cases.append(f"    <testcase {head}>\n      <{kind} message={first}>{escape(clean(inert(body)))}</{kind}>")
            cases.append("    </testcase>")
    count = f'tests="{sum("<testcase" in case for case in cases)}" failures="{failures}" errors="{errors}"'
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<testsuites {count}>"]
    lines += [f'  <testsuite name="archscope" {count}>', *cases, "  </testsuite>", "</testsuites>"]
    return "\n".join(lines) + "\n"


@report("json")
def json(result: Result) -> str:
    """One flat object: `MODEL.TOTAL`, `MODEL.TOTAL.change` against the lock, `MODEL.ok`, `MODEL.problem`, `ok`."""
    flat: dict[str, Any] = {}
    for outcome in result.outcomes:
        name, after, before = outcome.model, outcome.after, outcome.before
        for key, value in (after.totals if after else {}).items():
            if type(value) is int:
                flat[f"{name}.{key}"] = value
                locked = before.totals.get(key) if before else None
                if type(locked) is int:
                    flat[f"{name}.{key}.change"] = value - locked
        if outcome.fails:
            problems = [finding.text for finding, _ in findings(outcome, result) if finding.fails]
            flat[f"{name}.problem"] = "; ".join(problems)
        flat[f"{name}.ok"] = not outcome.fails
    flat["ok"] = not result.fails
    return json_text(flat)
