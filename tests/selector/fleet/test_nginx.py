"""nginx with our configuration in front of a publisher and the service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tuf.ngclient import Updater

from selector.device.reporter import Reporter
from selector.fleet.app import Service, make_app
from selector.fleet.ledger import Ledger
from selector.fleet.server import serving
from selector.fleet.tokens import Tokens
from selector.telemetry.report import MAX_REPORT_BYTES
from tests.support.small_models import add_colours, build_onnx
from tests.support.small_service import Client, put_blob, report, until
from zoo import Zoo
from zoo.client.client import Client as DeviceClient
from zoo.client.trust import Trust
from zoo.publisher.keys import create_keys
from zoo.publisher.publish import publish
from zoo.store.store import Store

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONF = Path(__file__).parents[3] / "docs" / "nginx.conf"
CONTENT = os.urandom(300_000)

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")


def configured(folder: Path, root: Path, service: str, port: int) -> Path:
    """Our configuration, with other addresses, for a folder of its own."""
    text = CONF.read_text()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    for old, new in {
        "server 127.0.0.1:8765;": f"server {urlsplit(service).netloc};",
        "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{port};",
        "root /srv/zooselect/published;": f"root {root};",
        "http {\n": "http {\n" + "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds),
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A published zoo and the service behind nginx; the folder of files is ``root``."""
    folder = tmp_path_factory.mktemp("nginx")
    root = folder / "published"
    zoo = Zoo.create(folder / "zoo")
    add_colours(zoo, "tiny", build_onnx())
    publish(root, zoo, keys=create_keys(folder / "keys"))
    put_blob(root, CONTENT)
    tokens = Tokens(folder / "tokens.json")
    token = tokens.add("device", "cameras")
    ledger = Ledger(folder / "data")
    port = free_port()
    with serving(make_app(folder / "elsewhere", Service(tokens, ledger))) as service:
        command = [str(NGINX), "-p", str(folder), "-c", str(configured(folder, root, service, port))]
        owner = "user root; " if os.geteuid() == 0 else ""  # else the workers could not read this folder
        command += ["-e", "stderr", "-g", f"{owner}daemon off; pid {folder}/pid; error_log stderr crit;"]
        with subprocess.Popen(command) as nginx:
            try:
                until(lambda: nginx.poll() is not None or listens(port))
                assert nginx.poll() is None
                yield Client(f"http://127.0.0.1:{port}", token)
            finally:
                nginx.terminate()
    ledger.close()


@pytest.fixture
def root(site: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is served."""
    return max(tmp_path_factory.getbasetemp().glob("nginx*/published"))


@pytest.fixture
def blob(root: Path) -> str:
    return put_blob(root, CONTENT)


def test_a_standard_tuf_client_finds_the_models(site: Client, root: Path, tmp_path: Path) -> None:
    updater = Updater(
        str(tmp_path / "metadata"),
        f"{site.url}/metadata/",
        target_dir=str(tmp_path),
        target_base_url=f"{site.url}/targets/",
        bootstrap=(root / "metadata" / "1.root.json").read_bytes(),
    )
    updater.refresh()
    target = updater.get_targetinfo("models/tiny.json")
    assert target is not None
    assert b'"tiny"' in Path(updater.download_target(target, str(tmp_path / "tiny.json"))).read_bytes()


def test_a_device_installs_and_reports_through_it(site: Client, root: Path, tmp_path: Path) -> None:
    Trust.pin(tmp_path / "device" / "tuf", (root / "metadata" / "1.root.json").read_bytes())
    store = Store.open(tmp_path / "device")
    with DeviceClient(store, site.url, timeout_s=30) as client:
        assert client.install(models=["tiny"]).installed == ("tiny",)
    assert store.verify() == ()
    reporter = Reporter(store, site.url, site.token, group="cameras", timeout_s=30)
    assert reporter.send().new
    reporter.close()


def test_a_download_that_was_cut_is_resumed(site: Client, blob: str) -> None:
    first = site.ask("GET", blob, range="bytes=0-99999")
    rest = site.ask("GET", blob, range="bytes=100000-", if_range=first.headers["etag"])
    assert (first.status, rest.status) == (206, 206)
    assert rest.headers["content-range"] == "bytes 100000-299999/300000"
    assert first.content + rest.content == CONTENT


def test_ranges_that_cannot_be_served_are_416_or_ignored(site: Client, blob: str) -> None:
    got = site.ask("GET", blob, range="bytes=300000-")
    assert (got.status, got.headers["content-range"]) == (416, "bytes */300000")
    several = site.ask("GET", blob, range="bytes=0-1,5-6")
    assert (several.status, several.content) == (200, CONTENT)


def test_what_is_known_is_not_sent_again(site: Client, blob: str) -> None:
    got = site.ask("GET", blob)
    assert got.content == CONTENT
    assert "immutable" in got.headers["cache-control"]
    assert site.ask("GET", blob, if_none_match=got.headers["etag"]).status == 304
    assert site.ask("GET", "/metadata/timestamp.json").headers["cache-control"] == "no-store"


def test_nothing_else_is_served(site: Client, root: Path, tmp_path: Path) -> None:
    (root / ".hidden").write_text("secret")
    (root / "metadata" / "77.root.json").unlink(missing_ok=True)
    (tmp_path / "secret").write_text("secret")
    (root / "metadata" / "77.root.json").symlink_to(tmp_path / "secret")
    paths = [
        "/.hidden",
        "/.lock",
        "/metadata/",
        "/blobs/",
        "/",
        "/..%2f..%2fetc/passwd",
        "/metadata/9.root.json",
    ]
    for path in [*paths, "/metadata/77.root.json", "/metadata/../.hidden"]:
        assert site.ask("GET", path).status in (400, 403, 404), path
    (root / "metadata" / "77.root.json").unlink()
    assert site.ask("PUT", "/metadata/1.root.json", body=b"x").status in (403, 405)


def test_reports_reach_the_service(site: Client) -> None:
    assert site.post(report(1, 1)).json == {"accepted": True, "new": True, "sequence": 1}
    assert site.post(report(1, 1), authorization="Bearer wrong").status == 401
    assert site.post(b" " * (MAX_REPORT_BYTES + 1)).status == 413
    assert site.ask("GET", "/v1/health").json["status"] == "ok"
