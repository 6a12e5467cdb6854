"""The command agree: how far answers of another execution provider are those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selector.commands.input_files import input_files, read_inputs, tell_unread
from selector.commands.last_words import command
from selector.commands.options import (
    DEVICE_PANEL,
    BundleArgument,
    EnvironmentOption,
    JsonOption,
    SkipBadOption,
    ThreadsOption,
)
from selector.commands.say import say
from selector.commands.tables import table

_ROWS = 8  # of the table


def agree(
    bundle: BundleArgument,
    images: Annotated[
        list[Path], typer.Option(help="Images of the tune split, or new ones; no certify samples.")
    ],
    provider: Annotated[str, typer.Option(help="The one to compare, such as OpenVINO:device_type=GPU.")],
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Confidence level of each bound of the share.")
    ] = 0.99,
    environment: EnvironmentOption = None,
    threads: ThreadsOption = 1,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare another execution provider with the CPU, so that certificates count with it.

    Every model answers every image with either. What may differ is bounded exactly, and taken from every
    certificate of a precision or a drop; the others do not count. The result lies in the bundle, where
    Selector.load(..., providers=) finds it.
    Example: zooselect agree my-bundle --provider OpenVINO --images photos
    """
    import msgspec

    from selector.answering.measuring.agree import agree as compare
    from selector.bundle.agreement import agreed, save_agreement
    from selector.bundle.bundle import read_bundle, valid_certificates
    from zoo.providers import Provider

    chosen, held, unread = Provider.of(provider), read_bundle(bundle), list[str]()
    files = input_files(images, held.kind)
    found = compare(
        bundle,
        (image for _, image in read_inputs(files, unread, held.kind)),
        chosen,
        confidence=confidence,
        environment=environment,
        threads=threads,
    )
    tell_unread(unread, len(files), held.kind, skip_bad=skip_bad)
    target = save_agreement(found, bundle, chosen)
    if as_json:
        say(msgspec.json.encode(found).decode())
        return
    before = [proof for i in range(len(held.policies)) for proof in valid_certificates(held, i)]
    pairs = [(proof, changed) for proof in before for changed in agreed([proof], found)]
    rows = [
        [str(proof.constraint), str(changed.constraint), f"{changed.confidence:g}"]
        for proof, changed in pairs[:: max(1, len(pairs) // _ROWS)]
    ]
    most = max((row.other_labels for row in found.rows), default=0)
    paths = max((row.other_paths for row in found.rows), default=0)
    say(
        f"{chosen}, ONNX Runtime {found.onnxruntime}: of {found.samples} {held.kind.noun}s at most {most} "
        f"with another label ({most / found.samples:.2%}), {paths} by other models. With confidence "
        f"{confidence:g}, at most {found.bound(most):.2%} of all inputs get another label."
    )
    if rows:
        say("\n" + table(["certified on the CPU", f"counts on {chosen}", "confidence"], rows, "llr"))
        if len(pairs) > len(rows):
            say(f"and {len(pairs) - len(rows)} more")
    else:
        say("No certificate counts with it: none is about a precision or a drop, or too little agrees.")
    again = command("predict", bundle, held.kind.noun.upper(), provider=str(chosen))
    say(f"Written to {target}. Next: {again}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=DEVICE_PANEL)(agree)
