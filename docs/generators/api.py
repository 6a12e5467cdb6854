"""The page of the Python interface: what applications and programs import, from signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import msgspec

import zoo.errors
from generators.docstrings import Docstring, first_paragraph, markdown, parse

HEAD = """# Python interface

<!-- made from the code by `python docs/write.py`; do not edit -->
What applications and programs may import. Whatever is not on this page may change without notice. Images
are uint8 arrays `[height, width, 3]`, RGB. Times are milliseconds unless a name says otherwise. Every error
derives from `zoo.ZooError`.

Examples run as tests, in a folder with `my-zoo`, `my-profile`, `my-bundle`, `my-device` and class folders in
`photos`; those about tables with `answers.csv`, `table-profile`, `router-fit` and `my-router`. What they do
not make themselves (`image`, `selector`, `bundle`, `zoo`, `table`, `data`, `fitted`, `device`, `client`,
`store`) has been read or opened before.
"""

# Heading → what stands below it: a whole package (its __all__), or single names.
PARTS: dict[str, tuple[str, ...]] = {
    "Answers from a bundle": (
        "selector.Bundle",
        "selector.Certificate",
        "selector.Prediction",
        "selector.Selection",
        "selector.Selector",
        "selector.read_bundle",
        "selector.answering.view.Asked",
        "selector.drift.monitor.DriftStatus",
        "selector.policies.constraint.Constraint",
    ),
    "Models that the application runs": (
        "selector.Router",
        "selector.routing.step.Step",
        "selector.routing.step.Said",
        "selector.routing.step.Answer",
        "selector.routing.constraint.RouteConstraint",
        "selector.routing.record.read_router",
        "selector.serving.routes.make_route_app",
    ),
    "A zoo and its models": ("zoo.*",),
    "A device that follows a publisher": (
        "selector.device.device.Device",
        "selector.device.device.DeviceConfig",
        "selector.device.device.Round",
        "selector.device.device.Variant",
        "zoo.client.client.Client",
        "zoo.client.client.Change",
        "zoo.client.client.Freshness",
        "zoo.store.store.Store",
    ),
    "From labelled images to a bundle": (
        "training.data.sources.load",
        "training.data.folder.folder",
        "training.data.images.LabelledImages",
        "training.data.splits.Splits",
        "training.outcomes.profile.profile",
        "selector.answering.measuring.bench.measure_folder",
        "selector.answering.measuring.throughput.measure_throughput",
        "training.fitting.fit.fit",
        "training.fitting.options.FitOptions",
        "training.fitting.fitted.Fitted",
        "training.evaluation.evaluate.evaluate",
        "training.evaluation.records.Evaluation",
        "training.fitting.export.export_bundle",
        "training.fitting.one_file.write.write_one_file",
        "training.fitting.one_file.page.write_page",
    ),
    "From a table of outcomes to a router": (
        "training.outcomes.table.read_table",
        "training.outcomes.table_checks.check_table",
        "training.outcomes.table_profile.store_table",
        "training.outcomes.table_profile.load_table_outcomes",
        "training.routing.fit.fit_table",
        "training.routing.options.RouteOptions",
        "training.routing.fitted.load_router_fit",
        "training.routing.fitted.export_router",
        "training.routing.evaluation.evaluate_router",
    ),
}


def api_page() -> str:
    """The whole page."""
    parts = {
        heading: [target for name in names for target in expand(name)] for heading, names in PARTS.items()
    }
    lines = [HEAD]
    for heading, found in parts.items():
        links = ", ".join(
            f"[`{name.rpartition('.')[2]}`](#{name.replace('.', '').lower()})" for name in found
        )
        lines.append(f"- [{heading}](#{heading.lower().replace(' ', '-')}): {links}")
    lines.append("- [Errors](#errors)")
    for heading, found in parts.items():
        lines += ["", f"## {heading}"]
        for name in found:
            lines += ["", *entry(name)]
    return "\n".join([*lines, "", "## Errors", *errors()]) + "\n"


def expand(name: str) -> Iterator[str]:
    """Import paths that `name` stands for, each the shortest that works."""
    module, _, last = name.rpartition(".")
    if last == "*":
        yield from (f"{module}.{one}" for one in importlib.import_module(module).__all__)
        return
    target = getattr(importlib.import_module(module), last)
    packages = module.split(".")
    for depth in range(1, len(packages) + 1):
        short = ".".join(packages[:depth])
        if getattr(importlib.import_module(short), last, None) is target:
            yield f"{short}.{last}"
            return


def entry(name: str) -> list[str]:
    """One class or function."""
    module, _, last = name.rpartition(".")
    target = getattr(importlib.import_module(module), last)
    doc = parse(target.__doc__)
    lines = [f"### {name}", "```python", f"from {module} import {last}", "```", doc.text, ""]
    if not inspect.isclass(target):
        return [*lines, "```python", signature(last, target), "```", *sections(doc)]
    fields = commented_fields(target)
    if fields:
        lines += ["| field | type | meaning |", "|---|---|---|"]
        lines += [f"| `{one}` | `{kind}` | {text} |" for one, kind, text in fields]
        lines.append("")
    elif "__init__" in vars(target) and not is_record(target) and not has_constructors(target):
        lines += ["```python", signature(last, target.__init__), "```"]
    return [*lines, *sections(doc), *members(target)]


def members(target: type) -> list[str]:
    """Public methods, then properties, in the order of the source, inherited ones of ours first."""
    found: dict[str, Any] = {}
    for base in reversed(target.__mro__):
        if base.__module__.split(".")[0] in ("zoo", "selector", "training"):
            found.update({name: value for name, value in vars(base).items() if not name.startswith("_")})
    methods, properties = [], []
    for name, value in found.items():
        if isinstance(value, property):
            doc = parse(value.fget.__doc__ if value.fget else "")
            returned = inspect.signature(value.fget).return_annotation if value.fget else ""
            properties.append(f"| `{name}` | `{cell(shown(returned))}` | {cell(first_paragraph(doc.text))} |")
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            function = getattr(value, "__func__", value)
            doc = parse(function.__doc__)
            methods += [f"#### {target.__name__}.{name}", "```python", signature(name, function), "```"]
            methods += [doc.text, *sections(doc), ""]
    if properties:
        properties = ["| property | type | meaning |", "|---|---|---|", *properties, ""]
    return [*properties, *methods]


def sections(doc: Docstring) -> list[str]:
    """Parameters, results and errors of a docstring as lists, then its examples."""
    lines: list[str] = []
    for name, found in doc.sections.items():
        if name in ("Parameters", "Attributes", "Returns", "Yields", "Raises"):
            terms = [f"- {code(term)}: {text}" if text else f"- {code(term)}" for term, text in found]
            lines += ["", f"{name}:", "", *terms]
    if doc.examples:
        lines += ["", "```python", doc.examples, "```", ""]
    return lines


def code(term: str) -> str:
    """The names of a term as code, as many as there are."""
    return ", ".join(f"`{one.strip().lstrip('*')}`" for one in term.split(","))


def signature(name: str, function: Any) -> str:
    """The signature without `self`, in one line or a line for each parameter."""
    whole = inspect.signature(function)
    kept = [one for one in whole.parameters.values() if one.name not in ("self", "cls")]
    parts, keyword = [], False
    for one in kept:
        if one.kind is one.KEYWORD_ONLY and not keyword:
            parts.append("*")
        keyword = keyword or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        stars = {one.VAR_POSITIONAL.name: "*", one.VAR_KEYWORD.name: "**"}.get(one.kind.name, "")
        text = f"{stars}{one.name}"
        if one.annotation is not one.empty:
            text += f": {shown(one.annotation)}"
        if one.default is not one.empty:
            text += (" = " if one.annotation is not one.empty else "=") + value(one.default)
        parts.append(text)
    returned = (
        "" if whole.return_annotation in (whole.empty, "None") else f" -> {shown(whole.return_annotation)}"
    )
    line = f"{name}({', '.join(parts)}){returned}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def shown(annotation: Any) -> str:
    """A type as it is written in the source."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\s+", " ", text)


def cell(text: str) -> str:
    """Text for one cell of a table."""
    return text.replace("|", "\\|")


def without_bounds(kind: ast.expr) -> str:
    """A type as it is written, ``Annotated[X, …]`` as X."""
    if (
        isinstance(kind, ast.Subscript)
        and ast.unparse(kind.value) == "Annotated"
        and isinstance(kind.slice, ast.Tuple)
    ):
        return without_bounds(kind.slice.elts[0])
    return ast.unparse(kind)


def value(default: Any) -> str:
    """A default, the same on every machine."""
    if isinstance(default, PurePath):
        return f'Path("{default.as_posix()}")'
    if inspect.isroutine(default) or inspect.isclass(default):
        return str(default.__name__)
    return repr(default)


def has_constructors(target: type) -> bool:
    """Whether users make a class by a class method such as ``load``."""
    made = (one.__func__ for one in vars(target).values() if isinstance(one, classmethod))
    return any(inspect.signature(one).return_annotation == target.__name__ for one in made)


def is_record(target: type) -> bool:
    """Whether a class is made of fields alone."""
    return dataclasses.is_dataclass(target) or issubclass(target, msgspec.Struct)


def commented_fields(target: type) -> list[tuple[str, str, str]]:
    """Name, type and comment of every field of a record, from its source and that of its bases."""
    if not is_record(target) and not hasattr(target, "__total__"):
        return []
    rows: dict[str, tuple[str, str, str]] = {}
    for base in reversed(getattr(target, "__mro__", (target,))):
        if base.__module__.split(".")[0] not in ("zoo", "selector", "training"):
            continue
        source = textwrap.dedent(inspect.getsource(base))
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        parsed = ast.parse(source).body[0]
        assert isinstance(parsed, ast.ClassDef)
        for node in parsed.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
                if not name.startswith("_") and "ClassVar" not in ast.unparse(node.annotation):
                    text = markdown(comments.get(node.end_lineno or 0, ""))
                    rows[name] = (name, cell(without_bounds(node.annotation)), cell(text))
    return list(rows.values())


def errors() -> list[str]:
    """Every error with what it means."""
    lines = [
        "All are in `zoo.errors`. Who catches `zoo.ZooError` catches all of them.",
        "",
    ]
    lines += ["| error | derives from | meaning |", "|---|---|---|"]
    for name, found in vars(zoo.errors).items():
        if inspect.isclass(found) and issubclass(found, zoo.errors.ZooError):
            bases = ", ".join(f"`{base.__name__}`" for base in found.__bases__)
            lines.append(f"| `{name}` | {bases} | {first_paragraph(parse(found.__doc__).text)} |")
    return lines
