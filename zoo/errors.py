"""Every error that zooselect raises on purpose. All derive from :class:`ZooError`.

Messages say what was expected, what arrived and what to do about it.
"""

from zoo.text import printable


class ZooError(Exception):
    """Base class: catch this to catch everything that zooselect raises on purpose.

    Examples
    --------
    >>> from zoo import ZooError
    >>> try:
    ...     selector.predict("no-such-file.png")
    ... except ZooError as error:
    ...     print(type(error).__name__)
    ImageError
    """

    def __str__(self) -> str:
        """One line; what it repeats of names, files and servers is escaped where it could steer."""
        return printable(str(self.args[0]) if self.args else "")


class InputError(ZooError, ValueError):
    """An input that does not fit its kind: another type or shape, nothing in it, or too much."""


class ImageError(InputError):
    """An image that does not fit the contract: uint8, RGB, at least one pixel."""


class CardError(ZooError, ValueError):
    """A model card, manifest or other JSON record that does not validate."""


class SchemaVersionError(CardError):
    """A record written by a newer zooselect than this one."""


class DigestError(ZooError):
    """A file whose content is not what its record says."""


class ModelError(ZooError):
    """A model file that cannot be loaded or does not follow the model contract."""


class LimitError(ModelError):
    """A model or graph that took more time or memory than it may: `part` is its name."""

    def __init__(self, text: str, part: str = "") -> None:
        super().__init__(text)
        self.part = part


class NotFiniteError(ModelError):
    """Outputs of a model or a graph that are NaN or infinite for an image: nothing can be answered."""


class ModelNotFoundError(ZooError, KeyError):
    """A model name that the zoo or the bundle does not hold."""


class ClassMismatchError(ZooError, ValueError):
    """Class names of a data set and of a model that do not agree."""


class DataError(ZooError):
    """A data set that is empty, unreadable or too small for what was asked."""


class StaleError(ZooError):
    """A result computed from models or data that have changed since."""


class LatencyError(ZooError):
    """A latency table that is missing, incomplete or of another device."""


class ProviderError(ZooError, ValueError):
    """An execution provider that this ONNX Runtime does not have, or that does not run a model."""


class PrecisionError(ZooError, ValueError):
    """A precision that is not a probability strictly between 0 and 1, or that cannot be certified."""


class BundleError(ZooError):
    """A bundle that is incomplete or inconsistent."""


class ParityError(ZooError):
    """An exported graph that does not compute what the original computed."""


class TrustError(ZooError):
    """Published metadata that is not signed as it must be, does not fit together, or is too old."""


class UnreachableError(ZooError):
    """A publisher or a server that cannot be reached, or that answers with something else."""


class DeadlineError(UnreachableError, TimeoutError):
    """A server that did not answer, whole, by the deadline of a request."""


class CircuitOpenError(UnreachableError):
    """A server that failed several times in a row, and is not asked for a while."""


class ProtocolError(UnreachableError, ValueError):
    """A message that is none of the Open Inference Protocol, version 2, or takes more than it may."""


class TokenError(UnreachableError):
    """A token that a service does not accept for the group of a device."""


class BudgetError(ZooError):
    """Models that do not fit into the byte budget of a device."""


class StoreFullError(ZooError):
    """A disk without room for what has to be written; what was there before is intact."""


class StoreLockedError(ZooError):
    """A store in which another process or thread is at work."""


class FetchError(ZooError):
    """A blob that did not arrive: its digest, where it was asked for, and what happened."""

    def __init__(self, blob: str, url: str, reason: str, advice: str, *, lost: bool = False) -> None:
        super().__init__(f"expected the blob {blob[:16]}… from {url}, got: {reason}. {advice}")
        self.blob, self.url, self.reason = blob, url, reason
        self.lost = lost  # the publisher does not have it, or something else in its place


class LeftOutError(ZooError):
    """Releases that were left out of an update, with the reasons; everything else is installed."""


class SelfTestError(ZooError):
    """A model that does not answer on this device as it must."""


class UpdaterError(ZooError):
    """A background process of a device that ended, or that answers with something else."""


class MissingExtraError(ZooError, ImportError):
    """A feature whose optional packages are not installed."""


class ReportError(ZooError, ValueError):
    """A device's report that does not validate or is too large."""


class ServiceError(ZooError):
    """A service that cannot be started as asked, or whose data cannot be read or written."""


class PublishError(ZooError):
    """Something that cannot be published as asked; what is served stays as it was."""


class KeysError(ZooError):
    """Private keys that are missing, damaged, locked by a passphrase, or not those that are needed."""
