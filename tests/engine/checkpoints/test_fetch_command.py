"""`python -m engine.checkpoints.teachers`: fetches published teachers, and says what cannot be had."""

from engine.checkpoints import teachers


def test_sources_that_cannot_be_reached_are_named_and_how_to_train_instead(tmp_path, monkeypatch, capsys):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert teachers.main(["--output", str(tmp_path), "resnet20", "vgg13"]) == 1
    errors = capsys.readouterr().err
    for name in ("pytorch-cifar-models", "mdistiller", "shape2prog"):
        assert name in errors
    assert "bash scripts/run_cifar_vanilla.sh resnet20 vgg13" in errors.splitlines()[-1]


def test_an_unknown_teacher_is_refused(tmp_path, capsys):
    assert teachers.main(["--output", str(tmp_path), "resnet21"]) == 2
    errors = capsys.readouterr().err
    assert "resnet21" in errors
    assert "resnet20" in errors
