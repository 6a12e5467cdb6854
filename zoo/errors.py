"""Every error that zooselect raises on purpose. All derive from :class:`ZooError`.

Messages say what was expected, what arrived and what to do about it.
"""


class ZooError(Exception):
    """Base class: catch this to catch everything that zooselect raises on purpose."""


class ImageError(ZooError, ValueError):
    """An image that does not fit the contract: uint8, RGB, at least one pixel."""


class CardError(ZooError, ValueError):
    """A model card, manifest or other JSON record that does not validate."""


class SchemaVersionError(CardError):
    """A record written by a newer zooselect than this one."""


class DigestError(ZooError):
    """A file whose content is not what its record says."""


class ModelError(ZooError):
    """A model file that cannot be loaded or does not follow the model contract."""


class ModelNotFoundError(ZooError, KeyError):
    """A model name that the zoo or the bundle does not hold."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class ClassMismatchError(ZooError, ValueError):
    """Class names of a data set and of a model that do not agree."""


class DataError(ZooError):
    """A data set that is empty, unreadable or too small for what was asked."""


class StaleError(ZooError):
    """A result computed from models or data that have changed since."""


class LatencyError(ZooError):
    """A latency table that is missing, incomplete or of another device."""


class PrecisionError(ZooError, ValueError):
    """A precision that is not a probability strictly between 0 and 1, or that cannot be certified."""


class BundleError(ZooError):
    """A bundle that is incomplete or inconsistent."""


class ParityError(ZooError):
    """An exported graph that does not compute what the original computed."""


class MissingExtraError(ZooError, ImportError):
    """A feature whose optional packages are not installed."""
