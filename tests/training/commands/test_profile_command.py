"""Claims about the command profile: it ends with what the models are worth on these images."""

from __future__ import annotations

from pathlib import Path

from tests.support.colours import colour_zoo
from tests.support.command_line import CommandLine
from tests.support.small_models import add_colours, build_onnx
from training.outcomes.accuracy import profiled_accuracy
from training.outcomes.parts import read_profile_record


def test_the_command_prints_the_table_and_warns(
    zooselect: CommandLine, tmp_path: Path, pictures: Path
) -> None:
    zoo = colour_zoo(tmp_path / "zoo")
    add_colours(zoo, "stuck", build_onnx(bias=(99, 0, 0)))
    done = zooselect("profile", "--zoo", tmp_path / "zoo", "--data", pictures, "--threads", 1)
    found = profiled_accuracy("my-profile", read_profile_record("my-profile"))
    assert found is not None
    for name, share in found.models.items():
        assert [name, f"{share:.1%}"] in [line.split() for line in done.out.splitlines()]
    assert "warning: no better than always answering" in done.err
    assert "right): stuck. Check" in done.err
