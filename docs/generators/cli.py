"""The page of the command line: every command with its arguments and options, from the Typer application."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from selector.cli import add_commands, app

HEAD = """# Command line

<!-- made from the code by `python docs/write.py`; do not edit -->
Every command, its arguments, its options and their defaults. `zooselect COMMAND --help` prints the same.

"""
EXIT_CODES = """| code | meaning |
|---|---|
| 0 | The command did what was asked. |
| 1 | The input was bad. The message says what was expected, what arrived and what to do. |
| 2 | The command line was used wrongly, for example with an unknown option. |
| 3 | An answer is not certified, and `--require-certified` was given. |
| 130 | The command was interrupted. Finished work is kept; the same command continues. |

With `--json` a command prints JSON for another program. Messages go to standard error."""
SCALARS = {int: "integer", float: "number", str: "text", Path: "path", bytes: "bytes"}


@dataclass(frozen=True)
class Command:
    """One command: the words that call it, its function, or for a group its help text alone."""

    name: str
    function: Callable[..., Any] | None
    help: str


def cli_page() -> str:
    """The whole page."""
    add_commands()
    found = list(commands(app, "zooselect"))
    lines = [HEAD + "| command | what it does |", "|---|---|"]
    for one in found:
        if one.function is not None:
            lines.append(
                f"| [`{one.name}`](#{one.name.replace(' ', '-')}) | {cell(paragraphs(one.help)[0])} |"
            )
    lines += ["", "## Exit codes", EXIT_CODES]
    for one in found:
        lines += ["", *section(one)]
    return "\n".join(lines) + "\n"


def commands(group: typer.Typer, path: str) -> Iterator[Command]:
    """Every command below a group, in the order of its help text."""
    single = {str(one.name or as_word(one.callback)): one for one in group.registered_commands}
    instances = [(one.name, one.typer_instance) for one in group.registered_groups]
    groups = {str(name or below.info.name): below for name, below in instances if below is not None}
    for name in typer.main.get_group(group).list_commands(None):  # type: ignore[arg-type]
        full = f"{path} {name}"
        if name in single:
            one = single[name]
            assert one.callback is not None
            yield Command(full, one.callback, inspect.cleandoc(one.help or one.callback.__doc__ or ""))
        else:
            below = groups[name]
            yield Command(full, None, inspect.cleandoc(str(below.info.help or "")))
            yield from commands(below, full)


def as_word(function: Any) -> str:
    """The name that Typer gives to a function's command."""
    return str(function.__name__).rstrip("_").replace("_", "-")


def section(command: Command) -> list[str]:
    """One command: what it does, how it is called, its arguments and options."""
    prose, _, example = command.help.partition("Example: ")
    lines = [f"## {command.name}", *"\n\n".join(paragraphs(prose)).split("\n")]
    if command.function is None:
        return lines
    arguments, options = parameters(command.function)
    usage = " ".join([command.name, *(one.shown for one in arguments), *(["[OPTIONS]"] if options else [])])
    lines += ["```", usage, "```"]
    if example:
        lines += ["Example:", "```", " ".join(example.split()), "```"]
    if arguments:
        lines += ["| argument | value | meaning |", "|---|---|---|"]
        lines += [f"| `{one.shown}` | {one.kind} | {one.help} |" for one in arguments]
        lines += [""] if options else []
    if options:
        lines += ["| option | value | default | meaning |", "|---|---|---|---|"]
        lines += [f"| {one.shown} | {one.kind} | {one.default} | {one.help} |" for one in options]
    return lines


@dataclass(frozen=True)
class Parameter:
    """An argument or option as it is shown."""

    shown: str
    kind: str
    default: str
    help: str


def parameters(function: Callable[..., Any]) -> tuple[list[Parameter], list[Parameter]]:
    """Arguments and options of a command, from the signature of its function."""
    hints = typing.get_type_hints(function, include_extras=True)
    arguments, options = [], []
    for name, one in inspect.signature(function).parameters.items():
        hint = hints[name]
        base = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        extras = getattr(hint, "__metadata__", ())
        info = next((extra for extra in extras if isinstance(extra, OptionInfo | ArgumentInfo)), None)
        if info is None or info.hidden:
            continue
        required = one.default is one.empty
        text = cell(info.help or "") + (f" Environment variable: `{info.envvar}`." if info.envvar else "")
        if isinstance(info, ArgumentInfo):
            word = (info.metavar or name).upper() + ("..." if typing.get_origin(base) is list else "")
            arguments.append(Parameter(word if required else f"[{word}]", kind(base, info), "", text))
        else:
            long = name.replace("_", "-")
            # in an annotation, Typer keeps the first name where a default would stand
            given = (*([info.default] if isinstance(info.default, str) else []), *(info.param_decls or ()))
            names = given or ((f"--{long}/--no-{long}",) if base is bool else (f"--{long}",))
            shown = ", ".join(f"`{part}`" for decl in names for part in decl.split("/"))
            stated = "required" if required else shown_default(one.default, names)
            options.append(Parameter(shown, kind(base, info), stated, text))
    return arguments, options


def kind(hint: Any, info: Any) -> str:
    """What an argument or option takes."""
    parts = [one for one in typing.get_args(hint) if one is not types.NoneType]
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        return kind(parts[0], info) if len(parts) == 1 else " or ".join(kind(one, info) for one in parts)
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in parts)
    if origin in (list, tuple):
        return (
            f"{kind(parts[0], info)}, may be repeated"
            if isinstance(info, OptionInfo)
            else kind(parts[0], info)
        )
    if hint is bool:
        return "flag"
    low = f", at least {info.min:g}" if info.min is not None else ""
    high = f", at most {info.max:g}" if info.max is not None else ""
    return f"{SCALARS.get(hint, getattr(hint, '__name__', str(hint)))}{low}{high}"


def shown_default(default: Any, names: typing.Sequence[str]) -> str:
    """The default of an option; nothing where there is none to speak of."""
    if default is None or default == "" or default is False:
        return ""
    if default is True:
        return f"`{names[0].split('/')[0]}`"
    return f"`{default.as_posix() if isinstance(default, PurePath) else default}`"


def paragraphs(raw: str) -> list[str]:
    """The paragraphs of a help text, each in one line."""
    return [" ".join(part.split()) for part in raw.split("\n\n") if part.strip()]


def cell(raw: str) -> str:
    """Text for one cell of a table."""
    return re.sub(r"\s+", " ", raw).strip().replace("|", "\\|")
