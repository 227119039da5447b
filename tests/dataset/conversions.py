"""Tests that every data set converted from an official archive must pass, with small archives in its true format."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

import transfer_student
from common.errors import RequestError
from dataset import DATASETS, load_arrays
from dataset.archives import at_hand
from tests.helpers import folder_of, load, read_json, save_network


class ConversionTests:
    """Subclasses set the attributes, and their modules have a fixture `fake`.

    `fake` has `folder`, which holds `archive`; `source`, which describes the archive as it is now; `extract()`, which
    replaces it by its extracted folder and returns its source; and `assert_right(arrays)`.
    """

    name: str
    sizes: tuple[int, int, int]  # classes, training and test images of the real data set
    constants: tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation

    @staticmethod
    def load(folder, source):
        raise NotImplementedError

    def test_archive_at_hand(self, fake):
        source = fake.source
        assert not at_hand(fake.folder, source)
        fake.assert_right(self.load(fake.folder, source))
        names = {path.name for path in fake.folder.iterdir()}
        assert names == {source.archive, self.name, f".{self.name}.lock"}  # nothing is extracted
        fake.archive.unlink()
        assert at_hand(fake.folder, source)
        found = self.load(fake.folder, source)  # from the arrays alone
        fake.assert_right(found)
        assert all(isinstance(array, np.memmap) for array in found)

    def test_extracted_folder_at_hand(self, fake):
        source = fake.extract()
        fake.archive.write_bytes(b"a download that was cut")
        before = sorted((fake.folder / source.inner_folder).rglob("*"))
        fake.assert_right(self.load(fake.folder, source))
        assert sorted((fake.folder / source.inner_folder).rglob("*")) == before

    def test_nothing_at_hand_names_archive_checksum_and_folder(self, fake, tmp_path):
        empty, source = tmp_path / "empty", fake.source
        with pytest.raises(RequestError) as caught:
            self.load(empty, source)
        first, second = str(caught.value).splitlines()
        assert source.archive in first
        for needed in (source.archive, source.archive_md5, str(empty), "--data_folder"):
            assert needed in second
        assert not (empty / self.name).exists()

    def test_archive_of_another_checksum_is_not_used(self, fake, capsys):
        with pytest.raises(RequestError) as caught:
            self.load(fake.folder, replace(fake.source, archive_md5="0" * 32))
        assert fake.archive.name in str(caught.value)
        assert str(fake.archive) in capsys.readouterr().err
        assert not (fake.folder / self.name).exists()

    @pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
    def test_cut_archive_of_the_right_checksum_is_refused(self, fake, share):
        whole = fake.archive.read_bytes()
        fake.archive.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(RequestError) as caught:
            self.load(fake.folder, fake.source)
        assert str(fake.archive) in str(caught.value)
        assert not (fake.folder / self.name).exists()

    def test_entry(self):
        entry = DATASETS[self.name]
        assert (entry.num_classes, entry.train_size, entry.test_size) == self.sizes
        assert (entry.mean, entry.std) == self.constants
        assert (entry.image_size, entry.crop_padding, entry.horizontal_flip) == (32, 4, True)

    @pytest.mark.runs
    def test_probe(self, fake, capsys):
        """transfer_student.py converts the archive, goes on without it, and names it where nothing is left."""
        source, real = fake.source, DATASETS[self.name]
        sizes = {"num_classes": source.num_classes, "train_size": source.train_size, "test_size": source.test_size}
        save_network(fake.folder / "net.pth", "resnet8", DATASETS["cifar100"], seed=3)
        argv = ["--path_s", fake.folder / "net.pth", "--dataset", self.name, "--data_folder", fake.folder]
        argv += ["--epochs", 1, "--batch_size", 10, "--device", "cpu", "--output", fake.folder / "out"]
        argv = [str(word) for word in argv]
        small = replace(real, **sizes, load=lambda folder: self.load(folder, source))
        with DATASETS.temporarily({self.name: small}):
            assert transfer_student.main(argv) == 0
            folder = folder_of(fake.folder / "out")
            assert read_json(folder / "config.json")["dataset"] == self.name
            saved = load(folder / "resnet8_last.pth")
            assert (saved["num_classes"], saved["image_size"]) == (source.num_classes, 32)
            assert (saved["dataset"], saved["mean"], saved["std"]) == (self.name, *self.constants)
            fake.assert_right(load_arrays(self.name, fake.folder))
            shutil.rmtree(fake.folder / "out")
            fake.archive.unlink()
            assert transfer_student.main(argv) == 0  # from the arrays
            shutil.rmtree(fake.folder / "out")
            shutil.rmtree(fake.folder / self.name)
            capsys.readouterr()
            assert transfer_student.main(argv) == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 2
        assert source.archive in errors[0]
