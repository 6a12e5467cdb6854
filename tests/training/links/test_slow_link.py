"""Claims about the slow link: what is sent arrives unchanged, is counted, and no sooner than it may."""

import socket
import threading
import time

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
