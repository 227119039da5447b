"""Published teachers are fetched from their archive or address, and none that does not load is left behind.

A small server on this machine takes the place of the publishers.
"""

import functools
import http.server
import io
import tarfile
import threading

import pytest

from common.errors import RequestError
from common.files import sha256_of
from dataset import DATASETS
from engine.checkpoints import published_teachers
from engine.checkpoints.published_teachers import fetch
from models.published_checkpoints import PublishedCheckpoint
from tests.helpers import save_network

JUNK = b"<html>This repository has moved.</html>"
ARCHS = ("resnet8", "resnet14")
CIFAR100 = DATASETS["cifar100"]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.seen.append(self.path)
        super().do_GET()


class Site:
    """A folder that is served, and what was asked of it."""

    def __init__(self, folder, server):
        self.folder, self.seen = folder, server.seen
        self.url = f"http://127.0.0.1:{server.server_port}"

    def archive(self, **members):
        """Put all.tar there, with these contents as NAME.pth."""
        with tarfile.open(self.folder / "all.tar", "w") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(f"teachers/{name}.pth")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "site"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Site(folder, server)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of weights for CIFAR-100, by network."""
    folder = tmp_path_factory.mktemp("content")
    for arch in ARCHS:
        save_network(folder / arch, arch, CIFAR100)
    return {arch: (folder / arch).read_bytes() for arch in ARCHS}


@pytest.fixture
def published(site, monkeypatch):
    """Two networks in one archive, each at an address of its own too."""

    def teacher(arch):
        held = {"archive": f"{site.url}/all.tar", "member": f"teachers/{arch}.pth"}
        return PublishedCheckpoint(arch, f"{arch}_vanilla/last.pth", 70.0, f"{site.url}/{arch}.pth", **held)

    both = tuple(map(teacher, ARCHS))
    monkeypatch.setattr(published_teachers, "PUBLISHED", both)
    return both


def files_below(folder):
    """Without locks, which stay."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_one_download_of_an_archive_brings_all_of_it(site, published, content, tmp_path):
    site.archive(**content)
    for teacher in (*published, *published):
        path = tmp_path / "models" / teacher.file
        assert fetch(teacher, tmp_path) == path
        assert path.read_bytes() == content[teacher.model]
    assert site.seen == ["/all.tar"]
    assert len(files_below(tmp_path / "models")) == 2  # of the archive itself nothing is left


def test_an_archive_that_was_put_there_by_hand_is_taken(site, published, content, tmp_path):
    """Under the name that the advice gives; the sources are not asked."""
    with pytest.raises(RequestError) as refusal:
        fetch(published[0], tmp_path)
    place = tmp_path / "models" / "all.tar"
    assert str(place) in str(refusal.value)
    site.archive(**content)
    (site.folder / "all.tar").replace(place)
    site.seen.clear()
    for teacher in published:
        assert fetch(teacher, tmp_path).read_bytes() == content[teacher.model]
    assert site.seen == []


def test_what_is_there_is_neither_fetched_nor_changed(site, published, content, tmp_path):
    """Not even one that does not load: whoever put it there may want it, and is told when it is to be used."""
    site.archive(**content)
    first, second = published
    own = tmp_path / "models" / second.file
    own.parent.mkdir(parents=True)
    own.write_bytes(b"the user's own")
    fetch(first, tmp_path)
    assert own.read_bytes() == b"the user's own"
    assert fetch(second, tmp_path) == own
    assert own.read_bytes() == b"the user's own"
    assert site.seen == ["/all.tar"]


@pytest.mark.parametrize("wrong", ["junk", "another network"])
def test_a_sibling_that_does_not_load_is_not_left_to_be_taken_later(wrong, site, published, content, tmp_path, capsys):
    first, second = published
    site.archive(resnet8=content["resnet8"], resnet14=JUNK if wrong == "junk" else content["resnet8"])
    assert fetch(first, tmp_path).read_bytes() == content["resnet8"]
    assert set(files_below(tmp_path / "models")) == {first.file}
    (line,) = capsys.readouterr().err.splitlines()
    assert second.file in line
    (site.folder / "resnet14.pth").write_bytes(content["resnet14"])
    assert fetch(second, tmp_path).read_bytes() == content["resnet14"]
    assert site.seen == ["/all.tar", "/all.tar", "/resnet14.pth"]


def test_one_that_does_not_load_from_the_archive_comes_from_its_own_address(site, published, content, tmp_path):
    site.archive(resnet8=JUNK, resnet14=content["resnet14"])
    (site.folder / "resnet8.pth").write_bytes(content["resnet8"])
    assert fetch(published[0], tmp_path).read_bytes() == content["resnet8"]
    assert site.seen == ["/all.tar", "/resnet8.pth"]
    assert files_below(tmp_path / "models").keys() == {teacher.file for teacher in published}


def cut(site, content):
    """Amid its second member."""
    site.archive(**content)
    whole = (site.folder / "all.tar").read_bytes()
    (site.folder / "all.tar").write_bytes(whole[: len(whole) - len(content["resnet14"]) // 2 - 10240])


def junk(site, content):
    (site.folder / "all.tar").write_bytes(JUNK)


def lacking(site, content):
    site.archive(resnet8=content["resnet8"])


def folders(site, content):
    """A folder has the name of a member."""
    with tarfile.open(site.folder / "all.tar", "w") as tar:
        for name in ARCHS:
            member = tarfile.TarInfo(f"teachers/{name}.pth")
            member.type = tarfile.DIRTYPE
            tar.addfile(member)


def links(site, content):
    """To a file of the machine, and in a circle."""
    with tarfile.open(site.folder / "all.tar", "w") as tar:
        for name, target in zip(ARCHS, ("/etc/passwd", "resnet14.pth"), strict=True):
            member = tarfile.TarInfo(f"teachers/{name}.pth")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)


@pytest.mark.parametrize("damage", [cut, junk, lacking, folders, links])
def test_an_archive_that_is_another(damage, site, published, content, tmp_path, capsys):
    """Said in a line; the network's own address takes over, and where it is dead the user learns what to do."""
    damage(site, content)
    second = published[1]
    with pytest.raises(RequestError) as refusal:
        fetch(second, tmp_path)
    assert f"{site.url}/all.tar" in capsys.readouterr().err
    first_line, advice = str(refusal.value).splitlines()
    assert second.url in first_line
    assert "python train_teacher.py --model resnet14 --dataset cifar100" in advice
    assert second.file not in files_below(tmp_path / "models")
    (site.folder / "resnet14.pth").write_bytes(content["resnet14"])
    assert fetch(second, tmp_path).read_bytes() == content["resnet14"]


def alone(site, **more):
    """A teacher that no archive holds."""
    return PublishedCheckpoint("resnet8", "resnet8.pt", 70.0, f"{site.url}/resnet8.pt", **more)


def test_the_publishers_hash_decides(site, content, tmp_path):
    """What loads but has another hash is another network than the published one."""
    served = site.folder / "resnet8.pt"
    served.write_bytes(content["resnet8"])
    right = sha256_of(served)[:8]
    wrong = f"{(int(right, 16) + 1) % 16**8:08x}"
    with pytest.raises(RequestError, match=f"{right}.*{wrong}"):
        fetch(alone(site, sha256_prefix=wrong), tmp_path)
    assert files_below(tmp_path / "models") == {}
    assert fetch(alone(site, sha256_prefix=right), tmp_path).read_bytes() == content["resnet8"]


def test_a_page_in_the_place_of_weights_is_not_left_behind(site, content, tmp_path):
    """Else the next command would take it for the teacher."""
    (site.folder / "resnet8.pt").write_bytes(JUNK)
    with pytest.raises(RequestError, match=r"resnet8\.pt"):
        fetch(alone(site), tmp_path)
    assert files_below(tmp_path / "models") == {}
    (site.folder / "resnet8.pt").write_bytes(content["resnet8"])
    assert fetch(alone(site), tmp_path).is_file()
