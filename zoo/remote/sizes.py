"""What one request to a remote model takes, worked out without asking its server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.remote.client import HEADERS, model_path, request_bytes
from zoo.remote.descriptor import Remote
from zoo.remote.protocol import (
    DTYPES,
    InferRequest,
    InferResponse,
    Tensor,
    encode_infer_request,
    encode_infer_response,
)

ANSWER_HEADER_BYTES = 180  # of HTTP, as a server of ours sends them


def expected_bytes(remote: Remote, shape: Sequence[int], classes: int) -> tuple[int, int]:
    """Bytes up and down of one request, headers included, as the client counts them; without a token.

    Parameters
    ----------
    shape
        Of the input for one image, as the server takes it.
    classes
        Values of the answer.

    Examples
    --------
    >>> from zoo.remote.descriptor import Remote
    >>> from zoo.remote.sizes import expected_bytes
    >>> tail = Remote(
    ...     address="http://127.0.0.1:8000", model="net-cut2-tail", input_name="codes", output_name="logits"
    ... )
    >>> up, down = expected_bytes(tail, (16, 4, 4), 10)
    >>> up > 256, down > 40
    (True, True)
    """
    values = np.zeros((1, *shape), DTYPES[remote.input_datatype])
    sent_values, name = (Tensor(remote.input_name, values),), remote.output_name
    request = InferRequest(sent_values, outputs=(name,), binary_of={name: remote.binary})
    sent = encode_infer_request(request, binary=remote.binary)
    url = f"{remote.address}{model_path(remote.model, remote.version)}/infer"
    up = request_bytes("POST", url, sent.body, {**HEADERS, **sent.headers})
    logits = Tensor(remote.output_name, np.zeros((1, classes), DTYPES[remote.output_datatype]))
    answer = encode_infer_response(InferResponse(remote.model, (logits,), remote.version), request=request)
    return up, len(answer.body) + ANSWER_HEADER_BYTES
