"""Runs of a model that is cut: its head here, and its tail on a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import LimitError, ModelError
from zoo.remote.descriptor import FEATURES as FEATURES
from zoo.remote.descriptor import Remote, decode_remote
from zoo.remote.runs import MAX_REQUEST_BYTES, RemoteRuns

if TYPE_CHECKING:
    import onnxruntime as ort

    from zoo.models.runs import Runs

CODES = "codes"  # what leaves a head
RECORD = "zooselect.remote"  # in the head's file: where its tail is asked


class HeadRuns(RemoteRuns):
    """Computes the head of images, and asks a server for the logits of its codes.

    Parameters
    ----------
    head
        ``image`` uint8 ``[N, H, W, 3]`` → ``codes`` uint8 or int8 ``[N, …]``.
    name
        Of the model.
    """

    def __init__(self, head: Runs, remote: Remote, *, width: int, name: str) -> None:
        super().__init__(remote, width=width)
        self._head, self._name = head, name

    def ask(self, feeds: Mapping[str, NDArray[Any]], deadline: float) -> NDArray[np.float32]:
        """As :meth:`RemoteRuns.ask`; the head takes its time before that, out of the same deadline.

        Raises
        ------
        ModelError, LimitError
            When the head fails, or takes more than its limits allow.
        """
        (images,) = feeds.values()
        try:
            codes = self._head.run([CODES], feeds, images.nbytes)[0]
        except (TimeoutError, MemoryError) as error:
            raise LimitError(
                f"the head of model {self._name!r}: expected codes of images {list(images.shape)}, "
                f"got {error}. Give smaller images, or raise the limit if this machine can.",
                self._name,
            ) from error
        except Exception as error:  # ONNX Runtime raises a family of unrelated classes
            raise ModelError(
                f"the head of model {self._name!r} failed on images {list(images.shape)}: "
                f"{str(error).strip().splitlines()[0][:300]}. Cut the model again."
            ) from error
        most = max(1, MAX_REQUEST_BYTES * len(codes) // max(1, codes.nbytes))
        parts = [{CODES: codes[i : i + most]} for i in range(0, len(codes), most)]
        found = [super(HeadRuns, self).ask(part, deadline) for part in parts]
        return found[0] if len(found) == 1 else np.concatenate(found)


def check_head(session: ort.InferenceSession, remote: Remote, name: str) -> None:
    """Check that a graph is a head, and that its file names the server of its card.

    Raises
    ------
    ModelError
        When it is not.
    """
    held = session.get_modelmeta().custom_metadata_map.get(RECORD, "")
    if decode_remote(held.encode(), name) != remote:
        raise ModelError(
            f"model {name!r}: expected the server of its card in the file, got another one. Cut it again."
        )
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = {"tensor(uint8)": "UINT8", "tensor(int8)": "INT8"}
    if (
        [(one.name, one.type, len(one.shape)) for one in inputs] != [("image", "tensor(uint8)", 4)]
        or [one.name for one in outputs] != [CODES]
        or kinds.get(outputs[0].type) != remote.input_datatype
        or len(outputs[0].shape) != remote.input_rank
    ):
        raise ModelError(
            f"model {name!r}: expected a head from image uint8 [N, H, W, 3] to codes {remote.input_datatype} "
            f"of {remote.input_rank} axes, got another graph. Cut it again: zooselect zoo cut --help."
        )
