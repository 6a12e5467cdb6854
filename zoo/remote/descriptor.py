"""Where a remote model is asked, and in which form: a record, which is also the model's file in a zoo."""

from __future__ import annotations

import math
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zoo.errors import ModelError, ZooError
from zoo.types import NonNegative, Positive

Encoding = Literal["tensor", "jpeg", "png"]
InputLayout = Literal["nhwc", "nchw", "bytes", "features", "arrays"]
OutputKind = Literal["logits", "probabilities"]
ServerName = Annotated[str, Meta(min_length=1, max_length=200)]
Triple = tuple[float, float, float]
MOST_NUMBERS = 2**24  # of one array that is sent
FEATURES: Final = "features"  # the layout of an input that the head of a cut gives
ARRAYS: Final = "arrays"  # that of inputs which are no images


class Pixels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the device makes the input of a server from an image uint8 ``[H, W, 3]``.

    Examples
    --------
    >>> from zoo.remote.descriptor import Pixels
    >>> Pixels(size=(224, 224), scale=255.0).mean
    (0.0, 0.0, 0.0)
    """

    size: tuple[Positive, Positive] | None = None  # height, width that it is resized to; None: as it is
    crop: Annotated[float, Meta(gt=0, le=1)] | None = None  # share of the short side that is kept
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: Annotated[float, Meta(gt=0)] = 1.0  # pixels are divided by it, before mean and std
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("expected finite means and scale, and stds above 0")


class SentArray(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One array of an input that is no image, and what the server takes of it.

    Examples
    --------
    >>> from zoo.remote.descriptor import SentArray
    >>> SentArray(array="tokens", name="input_ids", datatype="INT32", shape=(128,)).first
    0
    """

    array: ServerName  # its name in the zoo
    name: ServerName  # and on the server
    datatype: str
    shape: tuple[Annotated[int, Meta(ge=-1)], ...]  # of one input there; -1: any size
    # So many numbers of the beginning and of the end of its first axis, one after the other; both 0: all.
    first: NonNegative = 0
    last: NonNegative = 0
    pad: float = 0.0  # what fills one that is too short
    strip: NonNegative = 0  # white space at the outer ends of so many of the first and last bytes is left out
    scale: float = 1.0  # numbers are multiplied by it

    def __post_init__(self) -> None:
        if not (math.isfinite(self.pad) and math.isfinite(self.scale)):
            raise ValueError("expected a finite pad and scale")
        if 0 in self.shape or (-1 not in self.shape and math.prod(self.shape) > MOST_NUMBERS):
            raise ValueError(f"expected 1 to {MOST_NUMBERS:,} numbers in an input, got {list(self.shape)}")
        if max(self.first, self.last, self.strip) > MOST_NUMBERS:
            raise ValueError(f"expected first, last and strip of at most {MOST_NUMBERS:,}")


class Remote(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that a server of the Open Inference Protocol holds.

    Examples
    --------
    >>> from zoo.remote.descriptor import Remote
    >>> remote = Remote(
    ...     address="https://models.example.org", model="resnet56", input_name="image", output_name="logits"
    ... )
    >>> remote.encoding, remote.input_layout
    ('tensor', 'nhwc')
    """

    address: str  # root of the server, such as https://models.example.org/inference
    model: ServerName  # its name there
    version: Annotated[str, Meta(max_length=200)] = ""  # empty: which the server chooses
    input_name: ServerName
    input_datatype: str = "UINT8"
    # "bytes": a file of an image each; "features": the tensor at a cut of a graph, as the head gives it;
    # "arrays": what is no image, in several tensors of which the fields here tell the first
    input_layout: InputLayout = "nhwc"
    input_rank: Positive = 4  # axes of the input, the first of images
    output_name: ServerName
    output_datatype: str = "FP32"
    output_kind: OutputKind = "logits"
    encoding: Encoding = "tensor"
    quality: Annotated[int, Meta(ge=1, le=100)] = 90  # of JPEG
    pixels: Pixels = Pixels()
    batch: Positive | None = None  # images of one request at most; None: any number
    binary: bool = True  # whether tensors go in binary; without, as JSON
    token_env: str = ""  # environment variable that holds a token; the token itself is never kept
    token_file: str = ""  # file that holds one
    deadline_ms: Positive = 10_000  # of a request, where an answer gives none of its own
    uplink_bytes: NonNegative = 0  # of the request for one image, headers of HTTP included; 0: not measured
    downlink_bytes: NonNegative = 0  # of the answer to it
    # Left out of what is written where there are none: older readers know no such field.
    arrays: Annotated[tuple[SentArray, ...], Meta(min_length=1, max_length=16)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_address(self.address)
        if (self.encoding == "tensor") == (self.input_layout == "bytes"):
            raise ValueError(f"encoding {self.encoding!r} does not go with layout {self.input_layout!r}")
        if (self.input_layout == ARRAYS) != (self.arrays is not UNSET):
            raise ValueError(f"expected arrays with layout {ARRAYS!r} and with no other")


def decode_remote(content: bytes, name: str) -> Remote:
    """The record in the file of the remote model `name`; raises :class:`ModelError`."""
    try:
        return msgspec.json.decode(content, type=Remote)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(
            f"model {name!r}: expected the descriptor of a remote model, got something else: {error}. "
            "Add it again: zooselect zoo add --remote URL --model NAME."
        ) from error


def check_address(address: str) -> str:
    """`address` without a slash at its end, when a server may be asked there.

    Raises
    ------
    ValueError
        When it is not one of HTTP, or holds a user, a password, a query or a fragment.

    Examples
    --------
    >>> from zoo.remote.descriptor import check_address
    >>> check_address("https://models.example.org/")
    'https://models.example.org'
    """
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not (address.isascii() and address.isprintable()) or " " in address or "\\" in address:
        shown = address if "@" not in address else address.split("@")[-1]
        raise ValueError(f"expected an address such as https://models.example.org, got {shown[:100]!r}")
    if "@" in parts.netloc:
        raise ValueError("expected an address without a user or password; give a token with --token-env NAME")
    if parts.query or parts.fragment or "?" in address or "#" in address:
        raise ValueError(f"expected an address without a query or fragment, got {address[:100]!r}")
    return address.rstrip("/")


def is_loopback(address: str) -> bool:
    """Whether the server of `address` is this machine, so that nothing leaves it.

    Examples
    --------
    >>> from zoo.remote.descriptor import is_loopback
    >>> is_loopback("http://127.0.0.1:8000"), is_loopback("http://models.example.org")
    (True, False)
    """
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked(address: str) -> str:
    """As :func:`check_address`, with an error of ours: raises :class:`ZooError`."""
    try:
        return check_address(address)
    except ValueError as error:
        raise ZooError(f"{error}. Correct the address of the server (--remote).") from None
