"""Saving by a thread: the window goes on meanwhile, and nothing is lost."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from napari_ectkd.errors import WriteError
from napari_ectkd.gui import storage
from napari_ectkd.io.star import read_picks


@pytest.fixture
def held(session, monkeypatch):
    """Hold each writing of picks until it is let go; return two events."""
    session.save()
    begun, go = threading.Event(), threading.Event()
    write = storage.write_picks

    def hold(*arguments):
        begun.set()
        assert go.wait(20)
        write(*arguments)

    monkeypatch.setattr(storage, "write_picks", hold)
    yield begun, go
    go.set()


def labels_on_disk(session):
    path = session.folder / "tomo.star"
    return read_picks(path).label.tolist() if path.exists() else []


def test_the_window_goes_on_while_picks_are_written(session, qtbot, held):
    begun, go = held
    session.layers.points("tomo").add([[1, 2, 3]])
    qtbot.waitUntil(begun.is_set)
    session.assign("none", [0])  # would wait for ever, were it the same thread
    assert labels_on_disk(session) == []
    with qtbot.waitSignal(session.saved):
        go.set()
    assert labels_on_disk(session) == ["none"]


def test_what_changed_while_it_was_written_is_written_again(session, qtbot, held):
    begun, go = held
    said = []
    session.saved.connect(lambda text, _: said.append(text))
    session.layers.points("tomo").add([[1, 2, 3]])
    qtbot.waitUntil(begun.is_set)
    session.assign("none", [0])
    go.set()
    qtbot.waitUntil(lambda: labels_on_disk(session) == [""])
    qtbot.waitUntil(lambda: labels_on_disk(session) == ["none"])
    qtbot.waitUntil(lambda: bool(said))
    assert len(said) == 1  # not before all of it was written


def test_quitting_waits_for_the_thread(session, qtbot, held):
    begun, go = held
    session.layers.points("tomo").add([[1, 2, 3]])
    qtbot.waitUntil(begun.is_set)
    session.assign("none", [0])
    release = threading.Timer(0.2, go.set)
    release.start()
    session.save()
    assert go.is_set()
    assert labels_on_disk(session) == ["none"]


def test_what_the_thread_could_not_write_is_said_and_tried_again(
    session, qtbot, monkeypatch
):
    def fail(*_):
        raise WriteError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_picks", fail)
        with qtbot.waitSignal(session.saved) as said:
            session.layers.points("tomo").add([[1, 2, 3]])
        assert "the disk is full" in said.args[0]
    with qtbot.waitSignal(session.saved, timeout=8000) as said:
        pass
    assert said.args[0].startswith("Saved")
    assert labels_on_disk(session) == [""]


def test_a_kill_while_picks_are_written_leaves_what_was_saved(
    tomogram_file, another_session
):
    code = """
        import os, signal, sys
        from contextlib import contextmanager
        from pathlib import Path
        from qtpy.QtCore import QTimer
        from qtpy.QtWidgets import QApplication
        from napari.components import ViewerModel
        from napari_ectkd.gui.session import Session
        from napari_ectkd.io import star_tables
        app = QApplication([])
        viewer = ViewerModel()
        session = Session.of(viewer)
        session.open_tomogram(Path(sys.argv[1]), is_inverted=False)
        session.layers.points("tomo").add([[1, 2, 3]])
        session.assign("none", [0])

        class Half(Path().__class__):
            def write_text(self, text, **options):
                super().write_text(text[: len(text) // 2], **options)
                os.kill(os.getpid(), signal.SIGKILL)

        def change(*_):
            whole = star_tables.atomic_path

            @contextmanager
            def halves(path):
                with whole(path) as temporary:
                    yield Half(temporary)

            star_tables.atomic_path = halves
            session.assign("", [0])

        session.saved.connect(change)
        QTimer.singleShot(20000, app.quit)
        app.exec()
    """
    path = tomogram_file()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = another_session()
    again.open_tomogram(path)
    assert again.picks("tomo").label.tolist() == ["none"]
