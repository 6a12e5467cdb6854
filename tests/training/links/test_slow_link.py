"""Claims about the slow link: what is sent arrives unchanged, is counted, and no sooner than it may."""

import socket
import threading
import time

import pytest

from training.links.slow_link import slow_link


def test_what_goes_through_arrives_unchanged_and_takes_its_time() -> None:
    sent = bytes(range(256)) * 400
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def echo() -> None:
            connection, _ = listening.accept()
            with connection:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)

        server = threading.Thread(target=echo)
        server.start()
        upstream = ("127.0.0.1", listening.getsockname()[1])
        with slow_link(upstream, rtt_ms=20, uplink_mbps=50, downlink_mbps=100) as link:
            start = time.monotonic()
            with socket.create_connection(("127.0.0.1", link.port)) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                found = b"".join(iter(lambda: connection.recv(65536), b""))
            took_ms = 1000 * (time.monotonic() - start)
            server.join()
    assert found == sent
    assert link.sent_bytes == len(sent)
    assert took_ms >= 20 + 8 * len(sent) / 50_000  # never sooner than a round trip and the slower rate


def test_without_a_network_nothing_arrives_until_there_is_one_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstream = ("127.0.0.1", listening.getsockname()[1])
        with (
            slow_link(upstream, rtt_ms=0, uplink_mbps=0, downlink_mbps=0) as link,
            socket.create_connection(("127.0.0.1", link.port)) as connection,
        ):
            connection.sendall(b"lost?")
            there, _ = listening.accept()
            with there:
                there.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    there.recv(5)
                link.become(rtt_ms=1, uplink_mbps=10, downlink_mbps=10)
                there.settimeout(10)
                assert there.recv(5) == b"lost?"


def test_a_port_that_is_taken_is_exchanged_for_a_free_one() -> None:
    how = {"rtt_ms": 0, "uplink_mbps": 10, "downlink_mbps": 10}
    with (
        slow_link(("127.0.0.1", 9), **how) as first,
        slow_link(("127.0.0.1", 9), port=first.port, **how) as two,
    ):
        assert two.port not in (0, first.port)
    with slow_link(("127.0.0.1", 9), port=first.port, **how) as third:
        assert third.port == first.port
