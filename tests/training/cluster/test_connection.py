"""Claims about connecting to a cluster: what is wrong is said within a deadline, in words of the option."""

from __future__ import annotations

import socket
from importlib.util import find_spec

import pytest

from training.cluster.connection import check_versions, connected, load_ray, versions
from zoo.errors import MissingExtraError, StaleError, UnreachableError

HAS_RAY = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs the extra ray")


@pytest.mark.parametrize(
    "address", ["", "nowhere", "host:", "host:0", "host:99999", "http://host:1", "ray://h:1"]
)
def test_what_is_no_address_is_refused_before_ray_is_looked_for(address: str) -> None:
    with pytest.raises(UnreachableError, match="expected --ray local or HOST:PORT"), connected(address):
        pass


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_the_extra_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install .*\[ray\]"):
        load_ray()


def test_a_node_with_other_versions_is_named_with_both() -> None:
    here = {"python": "3.11.7", "numpy": "2.4.6", "pillow": "13.0"}
    check_versions(here, here | {"more": "1"}, "192.0.2.7")
    with pytest.raises(
        StaleError, match=r"expected numpy 2\.4\.6, pillow 13\.0 on node 192\.0\.2\.7"
    ) as caught:
        check_versions(here, {"python": "3.11.7", "numpy": "2.5"}, "192.0.2.7")
    assert "got numpy 2.5, pillow none" in str(caught.value)


@needs_ray
def test_versions_are_those_of_what_results_depend_on() -> None:
    assert set(versions()) == {"python", "zooselect", "ray", "numpy", "onnxruntime", "pillow"}


@needs_ray
def test_a_port_that_nobody_listens_at_or_that_says_nothing_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        unanswered = pytest.raises(UnreachableError, match=f"at {address} within 0.5 s, got: no answer")
        with unanswered, connected(address, reach_s=0.5):
            pass
    with pytest.raises(UnreachableError, match="Connection refused"), connected(address):
        pass
