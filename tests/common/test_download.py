"""Downloads against a small server on this machine: cuts, mirrors, wrong bytes, no server at all."""

import hashlib
import http.server
import re
import signal
import socket
import threading

import pytest
import requests

from common.command import guard
from common.download import download
from common.errors import RequestError, RunError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Paths: /file knows ranges; /cut drops the line after 300,000 bytes; /deaf ignores ranges; /other, /missing."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked))
        if self.path == "/missing":
            return self.send_error(404)
        content = CONTENT[::-1] if self.path == "/other" else CONTENT
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.path != "/deaf" else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            shown = 0 if self.path == "/liar" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.path in ("/cut", "/dead"):
            gain = 300_000 if self.path == "/cut" else 0
            self.wfile.write(content[start : start + gain])
            self.close_connection = start + gain < len(content)
        else:
            self.wfile.write(content[start:])


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def closed_url(server):
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_fetches_once(server, tmp_path):
    path = tmp_path / "deep" / "a.tar.gz"
    for _ in range(2):
        assert download([server.url + "/file"], path, md5=MD5.upper()) == path
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a.tar.gz"]
    assert server.seen == [("/file", None)]


def test_goes_on_after_cuts(server, tmp_path):
    download([server.url + "/cut"], tmp_path / "a", md5=MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    starts = [int(asked[6:-1]) for _, asked in server.seen[1:]]
    assert server.seen[0] == ("/cut", None)
    assert len(starts) >= 3
    assert starts == sorted(set(starts))
    assert starts[0] > 200_000


def test_goes_on_with_an_earlier_run_s_part(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    download([server.url + "/file"], tmp_path / "a", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.seen == [("/file", "bytes=1000-")]


def test_an_interrupted_one_goes_on_later(server, tmp_path, monkeypatch):
    """Ctrl-C, or the end of a job, amid the bytes; whatever was read stays, and no lock."""
    pieces = []

    @guard
    def main(argv):
        download([f"{server.url}/file"], tmp_path / "a.tar.gz", md5=MD5)
        return 0

    def interrupted(self, size):
        for piece in original(self, size):
            pieces.append(piece)
            yield piece
            if len(pieces) == 3:
                signal.raise_signal(signal.SIGTERM)

    original = requests.Response.iter_content
    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    assert main([]) == 130
    monkeypatch.undo()
    assert names(tmp_path) == ["a.tar.gz.part"]
    size = (tmp_path / "a.tar.gz.part").stat().st_size
    assert 0 < size < len(CONTENT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert main([]) == 0
    assert server.seen[-1] == ("/file", f"bytes={size}-")
    assert (tmp_path / "a.tar.gz").read_bytes() == CONTENT


def test_part_that_is_whole(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    download([server.url + "/file"], tmp_path / "a", md5=MD5)
    assert server.seen == [("/file", f"bytes={len(CONTENT)}-")]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("part", [b"not this file's bytes", CONTENT + b"too long"])
@pytest.mark.parametrize("page", ["/file", "/deaf", "/liar"])
def test_part_of_another_file_is_started_anew(server, tmp_path, part, page):
    (tmp_path / "a.part").write_bytes(part)
    download([server.url + page], tmp_path / "a", md5=MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_without_a_checksum_nothing_is_gone_on_with(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"whose?")
    download([server.url + "/file"], tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_server_that_ignores_ranges(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    download([server.url + "/deaf"], tmp_path / "a", sha256_prefix=hashlib.sha256(CONTENT).hexdigest()[:8])
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(("page", "reason"), [("/missing", "404"), ("/other", "md5"), ("/dead", "cut")])
def test_mirror_takes_over(server, tmp_path, capsys, page, reason):
    download([server.url + page, server.url + "/file"], tmp_path / "a", md5=MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    line = next(line for line in capsys.readouterr().err.splitlines() if page in line)
    assert reason in line


def test_wrong_file_at_the_destination_is_replaced(server, tmp_path, capsys):
    (tmp_path / "a").write_bytes(b"half an arch")
    download([server.url + "/file"], tmp_path / "a", md5=MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert str(tmp_path / "a") in capsys.readouterr().err


def test_wrong_everywhere(server, tmp_path):
    with pytest.raises(RequestError) as caught:
        download([server.url + "/other", server.url + "/missing"], tmp_path / "a", md5=MD5, advice="do this")
    first, second = str(caught.value).splitlines()
    for named in ("/other", "md5", "/missing", "404"):
        assert named in first
    assert second == "do this"
    assert names(tmp_path) == []


def test_nothing_listens(closed_url, tmp_path):
    with pytest.raises(RequestError) as caught:
        download([closed_url], tmp_path / "a.pt", md5=MD5, advice="put a.pt there by hand")
    first, second = str(caught.value).splitlines()
    assert closed_url in first
    assert second == "put a.pt there by hand"


def test_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(RunError, match="--data_folder"):
        download([server.url + "/file"], tmp_path / "taken" / "a")
