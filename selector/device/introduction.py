"""A device that is set up introduces itself to its service, so that a wrong token shows at once."""

from __future__ import annotations

from selector.device.reconciler import Round
from selector.device.reporter import Reporter
from selector.device.settings import DeviceConfig, read_config, read_token
from zoo.client.change import Freshness
from zoo.errors import CardError, TokenError, UnreachableError
from zoo.store.store import Store


def check_reporting(service: str | None, group: str | None, token: str | None) -> None:
    """Check that what belongs together was given together.

    Raises
    ------
    CardError
        When the service, its group or its token is given without the others. A group alone is enough to
        follow its assignment.
    """
    if service is None and token is not None:
        raise CardError(
            "expected service= with token=, got the token alone, which nothing would use. Give the address "
            "of the service to report to, or no token."
        )
    if service is not None and (token is None or group is None):
        missing = "group=" if group is None else "token="
        raise CardError(
            f"expected group= and its token= with service=, got no {missing}. Make a token with "
            "'zooselect serve token --group NAME'."
        )


def introduce(store: Store, config: DeviceConfig, token: str | None) -> Round | None:
    """Report once, where the service, the group or the token is new.

    Returns
    -------
    Round or None
        With the problem, where the service could not be reached: answers do not depend on it, and later
        reports find out.

    Raises
    ------
    TokenError
        When the service refuses the token for this group.
    UnreachableError
        When the address is not one that a token may be sent to.
    MissingExtraError
        When ``urllib3`` is not installed.
    """
    if config.service is None or token is None or config.group is None or _is_known(store, config, token):
        return None
    reporter = Reporter(store, config.service, token, group=config.group, attempts=1)
    try:
        reporter.send()
    except TokenError:
        raise
    except UnreachableError as error:
        return Round(None, Freshness(True, str(error), None), error)
    return None


def _is_known(store: Store, config: DeviceConfig, token: str) -> bool:
    try:
        before = read_config(store.folder)
        return (before.service, before.group, read_token(store.folder)) == (
            config.service,
            config.group,
            token,
        )
    except CardError:
        return False
