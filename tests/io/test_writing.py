import os

import pytest

from napari_ectkd.errors import DataError, WriteError
from napari_ectkd.io.atomic import atomic_path, make_folder


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("file.txt")
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_it(tmp_path):
    mask = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.touch()
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, DataError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path):
    def write():
        with atomic_path(tmp_path / "file.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(
        WriteError, match=r"cannot write .*file.txt: No space left"
    ) as e:
        write()
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot write"):
        make_folder(tmp_path / "file" / "folder")
    with (
        pytest.raises(WriteError, match="cannot write"),
        atomic_path(tmp_path / "file" / "folder" / "x"),
    ):
        pass


def test_a_forbidden_folder_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(WriteError, match="Permission denied; choose a folder"):
        make_folder(tmp_path)
    with (
        pytest.raises(WriteError, match="Permission denied"),
        atomic_path(tmp_path / "x"),
    ):
        pass
