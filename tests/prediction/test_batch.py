"""Many tomograms, in this process and on a Dask cluster of real worker processes."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pandas as pd
import pytest

from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Cancel, CancelledError, Noted, Progress
from napari_ectkd.io.picks import join_picks
from napari_ectkd.io.scores import open_scores
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.io.tomogram_list import TomogramEntry
from napari_ectkd.prediction.batch import in_this_process, make_tasks, run_tasks
from napari_ectkd.prediction.config import ClassifyConfig, SweepConfig
from napari_ectkd.prediction.sweep import sweep_tomogram

CONFIG = SweepConfig(min_confidence=0, diameters={"a": 60, "b": 60})


def drained(stream):
    events = []
    while True:
        try:
            events.append(next(stream))
        except StopIteration as end:
            return end.value, events


@pytest.fixture
def entries(make_mrc, voxels):
    """Six tomograms that differ."""
    made = []
    for number in range(6):
        shifted = np.roll(voxels, 3 * number, axis=2)
        path = make_mrc(shifted, 10.0, name=f"tomos/t{number}.mrc")
        made.append(TomogramEntry(path=path, is_inverted=False))
    return made


@pytest.fixture
def work(write_model, entries, tmp_path):
    """Run all tomograms into a folder."""
    model = write_model()
    out = tmp_path / "out"

    def run(engine=in_this_process, chosen=entries, config=CONFIG, cancel=None, **more):
        tasks = make_tasks(chosen, model, config, out, **more)
        return drained(run_tasks(tasks, out, engine, cancel=cancel or Cancel()))

    run.out, run.model = out, model
    return run


def manifest(work):
    found = json.loads((work.out / "manifest.json").read_text())
    return {entry["name"]: entry for entry in found["tomograms"]}


def assert_same(path, expected):
    found = read_picks(path)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    assert list(found.prediction) == list(expected.prediction)


def test_each_is_swept_as_alone_and_all_are_joined(work, entries):
    result, _ = work()
    alone = {}
    for entry in entries:
        opened = open_tomogram(entry.path, is_inverted=False)
        swept, _ = drained(sweep_tomogram(work.model, opened, CONFIG, cancel=Cancel()))
        alone[opened.name] = swept.picks
        assert_same(work.out / f"{opened.name}.star", swept.picks)
    joint = read_picks(work.out / "all.star")
    assert len(set(joint.pick_id)) == len(joint) == result["n"]
    assert len(joint) == len(join_picks(list(alone.values())))
    table = pd.read_csv(work.out / "summary.csv")
    assert table["n"].tolist() == [len(alone[name]) for name in table["name"]]
    assert (result["done"], result["kept"], result["failed"]) == (6, 0, 0)


def test_a_second_start_does_only_what_is_missing_or_changed(
    work, entries, make_mrc, voxels
):
    work()
    before = {n: e["seconds"] for n, e in manifest(work).items()}
    (work.out / "t2.star").unlink()
    make_mrc(voxels[:, :, ::-1], 10.0, name="tomos/t4.mrc")
    result, events = work()
    assert (result["done"], result["kept"]) == (2, 4)
    assert any("4 of 6 tomograms were done before" in e.text for e in notes(events))
    after = {n: e["seconds"] for n, e in manifest(work).items()}
    assert {n for n in after if after[n] != before[n]} == {"t2", "t4"}
    result, _ = work(config=SweepConfig(min_confidence=0.5))
    assert result["done"] == 6  # other settings are other work


def test_other_tomograms_of_the_same_work_stay(work, entries):
    first, _ = work(chosen=entries[:2])
    result, events = work(chosen=entries[2:4])
    assert (result["done"], result["kept"]) == (2, 2)
    assert any("2 other tomograms" in e.text for e in notes(events))
    assert list(manifest(work)) == ["t0", "t1", "t2", "t3"]
    assert result["n"] > first["n"]
    assert set(read_picks(work.out / "all.star").tomogram) == set(manifest(work))
    assert pd.read_csv(work.out / "summary.csv")["name"].tolist() == [*manifest(work)]
    # What is gone is not counted, and what other settings found is other work.
    (work.out / "t0.star").unlink()
    assert work(chosen=entries[2:4])[0]["kept"] == 3
    work(chosen=entries[4:5], config=SweepConfig(min_confidence=0.5))
    assert list(manifest(work)) == ["t4"]


def test_two_at_once_in_one_folder_are_refused(work, entries):
    tasks = make_tasks(entries[:2], work.model, CONFIG, work.out)
    one = run_tasks(tasks, work.out, in_this_process, cancel=Cancel())
    next(one)
    with pytest.raises(ConfigError, match="another process is at work in this folder"):
        work(chosen=entries[2:])
    one.close()
    assert work(chosen=entries[2:4])[0]["failed"] == 0


def test_progress_says_whose_it_is(work, entries):
    entries[1].path.write_bytes(b"no tomogram")
    _, events = work(chosen=entries[:3])
    told = [e for e in events if isinstance(e, Progress)]
    ended = [i for i, e in enumerate(told) if e.stage == "tomograms"]
    assert len(ended) == 2  # a file that cannot be opened fails before all others
    for name, first, last in zip(("t0", "t2"), (0, *ended), ended, strict=False):
        between = [e for e in told[first:last] if e.stage != "tomograms"]
        assert {e.of for e in between} == {name}
        assert between[0].stage == "open"
        assert any(e.stage == "sweep" and e.done == e.total for e in between)


def notes(events):
    return [event for event in events if isinstance(event, Noted)]


def test_scores_are_noted_down_and_count_only_for_their_own_work(
    work, entries, tmp_path
):
    chosen, scores = entries[:2], tmp_path / "scores"
    work(chosen=chosen)
    assert {e["scores"] for e in manifest(work).values()} == {None}
    (scores / "t0.zarr").mkdir(parents=True)  # whatever lay there: not of this work
    result, _ = work(chosen=chosen, scores=scores)
    assert result["done"] == 2
    written = {n: e["scores"] for n, e in manifest(work).items()}
    assert written == {f"t{n}": str(scores / f"t{n}.zarr") for n in range(2)}
    assert open_scores(scores / "t0.zarr").tomogram == "t0"
    for again in (scores, None):  # what is there is enough
        assert work(chosen=chosen, scores=again)[0]["kept"] == 2
    work(chosen=chosen, config=SweepConfig(min_confidence=0.5))
    assert {e["scores"] for e in manifest(work).values()} == {None}


def test_failures_do_not_stop_the_rest(work, entries, make_mrc, voxels):
    entries[1].path.write_bytes(b"no tomogram")
    content = bytearray(entries[3].path.read_bytes())
    content[1024 + 4 * 44 * 48 * 20 : 1028 + 4 * 44 * 48 * 20] = b"\x00\x00\xc0\x7f"
    entries[3].path.write_bytes(content)  # NaN in the middle plane
    result, events = work()
    assert (result["done"], result["failed"]) == (4, 2)
    states = manifest(work)
    assert {n for n, e in states.items() if e["state"] == "failed"} == {"t1", "t3"}
    assert "NaN" in states["t3"]["error"]
    assert sum("failed:" in e.text for e in notes(events) if e.is_warning) == 2
    assert not (work.out / "t1.star").exists()
    make_mrc(voxels, 10.0, name="tomos/t3.mrc")
    result, _ = work()
    assert (result["done"], result["kept"], result["failed"]) == (1, 4, 1)


def test_picks_of_many_tomograms_in_one_file_are_classified(work, entries, tmp_path):
    found = read_all(work)
    write_picks(tmp_path / "picks.star", found, 10.0)
    result, _ = work(
        config=ClassifyConfig(min_confidence=0), picks=[tmp_path / "picks.star"]
    )
    assert result["n"] == len(found)
    again = read_picks(work.out / "all.star")
    assert list(again.tomogram) == list(found.tomogram)


def read_all(work):
    work()
    return read_picks(work.out / "all.star")


def test_two_tomograms_of_one_name_are_an_error(work, entries, make_mrc, voxels):
    twin = TomogramEntry(path=make_mrc(voxels, 10.0, name="other/t0.mrc"))
    with pytest.raises(ConfigError, match="two tomograms are called 't0'"):
        work(chosen=[*entries, twin])


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    # Workers are processes of their own, which import the package anew.
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",  # another one may have the usual port
        local_directory=str(tmp_path / "scratch"),
    ) as made:
        yield made


def test_a_worker_killed_at_work_loses_nothing_and_does_nothing_twice(
    work, entries, cluster, tmp_path
):
    from napari_ectkd.prediction.on_dask import on_dask

    expected = read_all(work)
    for path in work.out.iterdir():
        path.unlink()
    engine = on_dask(cluster.scheduler_address)
    pids = [worker.process.pid for worker in cluster.workers.values()]

    def killing(tasks, *, cancel):
        for n, what in enumerate(engine(tasks, cancel=cancel)):
            if n == 1:  # the first result: the other worker is at its task
                os.kill(pids[0], signal.SIGKILL)
            yield what

    result, events = work(killing)
    assert (result["done"], result["failed"]) == (6, 0)
    found = read_picks(work.out / "all.star")
    order = np.lexsort([*found.positions.T, found.tomogram.astype(str)])
    wanted = np.lexsort([*expected.positions.T, expected.tomogram.astype(str)])
    np.testing.assert_allclose(
        found.positions[order], expected.positions[wanted], atol=1e-3
    )
    ends = [e.done for e in events if isinstance(e, Progress)]
    assert ends == [1, 2, 3, 4, 5, 6]  # each tomogram once
    left = {path.name for path in work.out.iterdir()} - {".at-work.lock"}
    assert left == {f"t{n}.star" for n in range(6)} | {
        "all.star",
        "manifest.json",
        "summary.csv",
    }


def test_cancelling_and_failures_on_a_cluster(work, entries, cluster):
    from napari_ectkd.prediction.on_dask import on_dask

    entries[0].path.write_bytes(b"no tomogram")
    engine = on_dask(cluster.scheduler_address)
    cancel = Cancel()

    def cancelling(tasks, *, cancel):
        for n, what in enumerate(engine(tasks, cancel=cancel)):
            yield what
            if n == 1:
                cancel.request()

    with pytest.raises(CancelledError):
        work(cancelling, cancel=cancel)
    result, _ = work(engine)
    assert result["done"] + result["kept"] == 5
    assert result["failed"] == 1


def test_workers_that_take_several_tomograms_at_once_are_warned_of(work, entries):
    distributed = pytest.importorskip("distributed")
    from napari_ectkd.prediction.on_dask import on_dask

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        _, events = work(on_dask(cluster.scheduler_address), chosen=entries[:1])
    [warning] = [e for e in events if isinstance(e, Noted) and e.is_warning]
    assert "takes 2 tomograms at once" in warning.text


def test_no_scheduler_is_said_in_one_line(tmp_path):
    from napari_ectkd.prediction.on_dask import on_dask

    engine = on_dask(str(tmp_path / "scheduler.json"))
    with pytest.raises(ConfigError, match="no such scheduler file"):
        next(engine([object()], cancel=Cancel()))
