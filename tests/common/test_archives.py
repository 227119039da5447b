"""Archives are read in memory, and one that would unpack to far more than it is gets refused by what it declares."""

import io
import tarfile
import zipfile

import pytest

from common.archives import HARMLESS, tar_content, zip_bomb


def problem_of(path):
    with zipfile.ZipFile(path) as archive:
        return zip_bomb(archive.infolist(), path.stat().st_size)


def test_honest_archives(tmp_path):
    path = tmp_path / "a.zip"
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("zeros", bytes(1 << 20))
            archive.writestr("text", b"text" * 100)
        assert problem_of(path) is None


def test_a_bomb_is_known_by_what_it_declares(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(HARMLESS + 1))
    assert "64 MiB" in problem_of(path)


def test_records_over_each_other_and_links():
    record = zipfile.ZipInfo("a")
    record.file_size = record.compress_size = 1000
    assert zip_bomb([record], 1200) is None
    assert zip_bomb([record] * 2, 1200)
    record.external_attr = 0o120777 << 16
    assert zip_bomb([record], 1200)


def member(name, kind=tarfile.REGTYPE, size=3, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, size, link
    return entry


def test_members_of_a_tar_archive(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for entry in (
            member("good"),
            member("deep/" * 40 + "good"),
            member("../outside"),
            member("large", size=200),
            member("link", tarfile.SYMTYPE, 0, "/etc/passwd"),
            member("loop", tarfile.SYMTYPE, 0, "loop"),
            member("hard", tarfile.LNKTYPE, 0, "good"),
            member("device", tarfile.CHRTYPE, 0),
            member("pipe", tarfile.FIFOTYPE, 0),
            member("folder", tarfile.DIRTYPE, 0),
        ):
            tar.addfile(entry, io.BytesIO(b"abc" + bytes(200)))
    with tarfile.open(path) as tar:
        for name in ("good", "deep/" * 40 + "good", "../outside"):
            assert tar_content(tar, name, 100) == b"abc"
        for name in ("large", "link", "loop", "hard", "device", "pipe", "folder", "missing"):
            with pytest.raises(tarfile.TarError):
                tar_content(tar, name, 100)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]
