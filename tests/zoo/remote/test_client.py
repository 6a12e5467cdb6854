"""The client against a real server on loopback: answers, faults, deadlines, tokens, the breaker."""

import socket
import time

import numpy as np
import pytest

from benchmarks.network import server as hostile
from benchmarks.network.server import served, serving
from tests.support.tls import make_certificate, speak_tls
from zoo.errors import (
    CircuitOpenError,
    DeadlineError,
    ProtocolError,
    TokenError,
    UnreachableError,
    ZooError,
)
from zoo.remote.breaker import Breaker
from zoo.remote.client import Client, bounded
from zoo.remote.descriptor import Remote
from zoo.remote.protocol import LIMITS
from zoo.remote.runs import RemoteRuns
from zoo.remote.token import Token
from zoo.remote.workers import Workers

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def means(images):
    return images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)


@pytest.fixture
def server():
    with serving({"m": served(means, ("red", "green", "blue"))}) as found:
        yield found


def runs_of(server, *, width=3, breaker=None, **fields):
    remote = Remote(address=server.url, model="m", input_name="image", output_name="logits", **fields)
    client = Client(server.url, breaker=breaker or Breaker(failures=1000))
    return RemoteRuns(remote, width=width, client=client)


def soon(seconds=10.0):
    return time.monotonic() + seconds


def test_a_server_answers_over_a_connection_that_is_kept(server):
    runs = runs_of(server)
    for _ in range(3):
        assert np.array_equal(runs.ask({"image": IMAGES}, soon()), means(IMAGES))
    assert len(server.connections) == 1
    assert runs.client.traffic.requests == 3
    assert runs.client.traffic.uplink_bytes == 3 * runs.last_bytes[0] > 3 * IMAGES.nbytes


def test_a_server_without_binary_tensors_is_asked_in_json(server):
    server.extensions = ()
    with pytest.raises(UnreachableError, match="binary"):
        runs_of(server).ask({"image": IMAGES}, soon())
    assert np.allclose(runs_of(server, binary=False).ask({"image": IMAGES}, soon()), means(IMAGES))


def test_images_go_in_requests_of_the_size_that_the_server_takes(server):
    runs = runs_of(server, batch=1)
    assert np.array_equal(runs.run(["logits"], {"image": IMAGES}, IMAGES.nbytes)[0], means(IMAGES))
    assert runs.client.traffic.requests == 2


def test_probabilities_become_logits(server):
    server.models["m"] = served(lambda images: np.float32([[0.5, 0, 0.5]] * len(images)), ("r", "g", "b"))
    logits = runs_of(server, output_kind="probabilities").ask({"image": IMAGES}, soon())
    assert np.allclose(np.exp(logits), [[0.5, 0, 0.5]] * 2, atol=1e-6)


@pytest.mark.parametrize("fault", ["hangs", "drips"])
def test_a_server_that_never_ends_its_answer_is_left_at_the_deadline(server, fault):
    server.fault = hostile.FAULTS[fault]
    with pytest.raises(DeadlineError, match="in time"):
        runs_of(server).ask({"image": IMAGES}, soon(0.03))


@pytest.mark.parametrize("fault", [hostile.reset, hostile.end])
def test_a_connection_that_ends_is_tried_once_more(server, fault):
    left = [fault]

    def once(handler):
        left.pop()(handler) if left else handler.infer(handler.body)

    server.fault = once
    assert np.array_equal(runs_of(server).ask({"image": IMAGES}, soon()), means(IMAGES))
    asked = len(server.asked)
    server.fault = fault
    with pytest.raises(UnreachableError, match="expected an answer from"):
        runs_of(server).ask({"image": IMAGES}, soon())
    assert len(server.asked) == asked + 2


def _status(status, body=b"", headers=None):
    return lambda handler: handler.give(status, body, headers)


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (_status(200, b"<html>"), ProtocolError, "valid JSON"),
        (_status(200, b"x" * 100_000), ProtocolError, "at most"),
        (_status(200, b'{"model_name": "m", "outputs": []}'), ProtocolError, "got none"),
        (_status(200, b"{}", {"Content-Encoding": "gzip"}), ProtocolError, "compressed"),
        (_status(200, b"{}", {"Inference-Header-Content-Length": "99"}), ProtocolError, "Inference-Header"),
        (_status(302, b"", {"Location": "http://other.example/"}), UnreachableError, "status 302 to http"),
        (_status(404, b'{"error": "no model \\u001b[2J"}'), UnreachableError, r"no model \\u001b"),
        (_status(500, b"e" * 200_000), UnreachableError, "status 500"),
        (_status(503), UnreachableError, "status 503"),
        (_status(401), TokenError, "token-env"),
    ],
)
def test_what_is_no_answer_is_an_error_of_ours(server, fault, kind, said):
    server.fault = fault
    with pytest.raises(kind, match=said):
        runs_of(server).ask({"image": IMAGES}, soon())


def test_other_shapes_and_datatypes_than_those_of_the_card_are_refused(server):
    with pytest.raises(ProtocolError, match=r"\[2, 4\], got \[2, 3\]"):
        runs_of(server, width=4).ask({"image": IMAGES}, soon())
    with pytest.raises(ProtocolError, match="FP64, got FP32"):
        runs_of(server, output_datatype="FP64").ask({"image": IMAGES}, soon())
    server.models["m"] = served(lambda images: means(images).T, ("r", "g", "b"))
    with pytest.raises(ProtocolError, match=r"got \[3, 2\]"):
        runs_of(server).ask({"image": IMAGES}, soon())


def test_a_server_that_is_none_is_said_to_be_none():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(UnreachableError, match="Check the address"):
        Client(address).ready(deadline_s=10)


def test_the_breaker_opens_after_failures_and_tries_again(server):
    now = [0.0]
    breaker = Breaker(failures=2, first_wait_s=5, longest_wait_s=60, now=lambda: now[0])
    runs = runs_of(server, breaker=breaker)
    server.fault = _status(500)
    for _ in range(2):
        with pytest.raises(UnreachableError, match="500"):
            runs.ask({"image": IMAGES}, soon())
    asked = len(server.asked)
    with pytest.raises(CircuitOpenError, match=r"again in 5\.0 seconds"):
        runs.ask({"image": IMAGES}, soon())
    assert len(server.asked) == asked
    now[0] = 5.0
    with pytest.raises(UnreachableError, match="500"):
        runs.ask({"image": IMAGES}, soon())
    assert breaker.left_s == 10
    now[0] = 15.0
    server.fault = None
    assert len(runs.ask({"image": IMAGES}, soon())) == 2
    assert not breaker.is_open


def test_one_request_at_a_time_tries_whether_a_server_is_back():
    now = [0.0]
    breaker = Breaker(failures=1, first_wait_s=5, now=lambda: now[0])
    breaker.failed()
    now[0] = 6.0
    assert [breaker.allows(), breaker.allows()] == [True, False]


def test_a_token_is_sent_and_not_shown(server, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_TOKEN", "secret-1\n")
    token = Token.read("MY_TOKEN")
    Client(server.url, token=token).ready(deadline_s=10)
    assert server.asked[-1][1]["Authorization"] == "Bearer secret-1"
    assert "secret" not in repr(token)
    file = tmp_path / "token"
    file.write_text("secret-2")
    assert Token.read("", str(file)).text == "secret-2"


def test_a_token_goes_over_plain_http_to_no_other_machine(monkeypatch):
    token = Token("secret")
    for address in (
        "HTTP://models.example.org",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
    ):
        with pytest.raises(TokenError, match="https"):
            Client(address, token=token)
    with pytest.raises(TokenError, match="https") as caught:
        Client("http://models.example.org", token=token)
    assert "secret" not in str(caught.value)
    Client("https://models.example.org", token=token)
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(TokenError, match="https"):
        Client("http://127.0.0.1:1", token=token)


@pytest.mark.parametrize("content", ["", "  ", "two\nlines", "ü"])
def test_what_cannot_be_a_token_is_refused(monkeypatch, tmp_path, content):
    monkeypatch.setenv("MY_TOKEN", content)
    with pytest.raises(TokenError, match="MY_TOKEN"):
        Token.read("MY_TOKEN")
    with pytest.raises(TokenError):
        Token.read("", str(tmp_path / "missing"))


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(ZooError, match="Correct the address"):
        Client("file:///etc/passwd")


def test_calls_that_never_end_use_up_no_more_than_some_threads():
    workers = Workers()
    with pytest.raises(DeadlineError):
        workers.run(lambda: time.sleep(0.05), deadline=soon(0.001))
    for _ in range(100):
        with pytest.raises(DeadlineError):
            workers.run(lambda: time.sleep(0.3), deadline=soon(0.001))
    assert workers.busy <= 16


def test_limits_follow_what_is_asked_for():
    limits = bounded(LIMITS, 3, 4)
    assert limits.body_bytes < 100_000


def test_a_deadline_that_has_passed_says_nothing_about_the_server(server):
    runs = runs_of(server, breaker=Breaker(failures=1))
    with pytest.raises(DeadlineError, match="passed"):
        runs.ask({"image": IMAGES}, soon(-1))
    assert server.asked == []
    assert len(runs.ask({"image": IMAGES}, soon())) == 2


def test_a_server_is_asked_over_tls_with_its_certificate_checked(server, tmp_path, monkeypatch):
    certificate = make_certificate(tmp_path)
    speak_tls(server, certificate)
    address = server.url.replace("http:", "https:")
    with pytest.raises(UnreachableError, match="certificate"):
        Client(address, token=Token("t")).ready(deadline_s=10)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    Client(address, token=Token("t")).ready(deadline_s=10)
    assert server.asked[-1][1]["Authorization"] == "Bearer t"
