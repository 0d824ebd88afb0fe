"""Each command on a GPU: a real one where there is one, a pretended one elsewhere.

What it comes to is compared with the processor's, if the GPU is pretended: a real one
draws other noise and sums in another order.
"""

import numpy as np
import pytest
import starfile
import torch
from safetensors.torch import load_file
from tests.a_gpu import a_gpu

from napari_ectkd.runs import Run

SHORT = ["--epochs", 2, "--batch-size", 8, "--precision", "float32"]
NOISY = [*SHORT, "--noise", 0.3, "--cutout", 0.3]


@pytest.fixture(params=["cuda", "mps"])
def on_both(ectkd, monkeypatch, tmp_path, request):
    """Run a command on the processor and on a GPU; return whether to compare them."""

    def call(*command, out="run"):
        here = ectkd(*command, "--device", "cpu", "--out", tmp_path / "cpu" / out)
        assert here.code == 0, here.err
        with a_gpu(monkeypatch, kind) as memory:
            there = ectkd(*command, "--device", kind, "--out", tmp_path / "gpu" / out)
        assert there.code == 0, there.err
        assert memory.peak > 0  # it was really there
        return memory.is_pretended

    kind = request.param
    (tmp_path / "cpu").mkdir()
    (tmp_path / "gpu").mkdir()
    return call


@pytest.fixture(scope="module")
def compact(work, tmp_path_factory):
    """A student that can be swept."""
    from napari_ectkd.cli.app import run

    out = tmp_path_factory.mktemp("swept") / "student"
    command = ["train", "--data", work / "data", "--model", "compact", *SHORT]
    assert run([str(a) for a in [*command, "--out", out]]) == 0
    return out


def assert_same_weights(folder, other, *, path="run"):
    one, two = (load_file(Run(f / path).best_path) for f in (folder, other))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-2, atol=1e-3)


def assert_same_table(folder, other, name):
    one, two = (starfile.read(f / name, always_dict=True) for f in (folder, other))
    assert one.keys() == two.keys()
    for block, table in one.items():
        assert len(table) == len(two[block]) > 0
        for column in table:
            if table[column].dtype.kind == "f":
                np.testing.assert_allclose(table[column], two[block][column], rtol=1e-3)
            else:
                assert list(table[column]) == list(two[block][column])


def test_an_ensemble_is_trained(on_both, work, tmp_path):
    command = ["train", "--data", work / "data", "--model", "compact", *NOISY]
    if on_both(*command, "--members", 2):
        for member in ("run/member-1", "run/member-2"):
            assert_same_weights(tmp_path / "cpu", tmp_path / "gpu", path=member)


def test_generations_are_trained(on_both, work, tmp_path):
    command = ["train", "--data", work / "data", "--unlabeled", work / "data", *SHORT]
    if on_both(*command, "--model", "compact", "--generations", 2):
        assert_same_weights(tmp_path / "cpu", tmp_path / "gpu")


@pytest.mark.parametrize("noise", ["common", "per-particle", "projections"])
def test_a_stream_is_learned_from(on_both, ectkd, tmp_path, noise):
    settings = tmp_path / "settings.json"
    small = ["--per-class", 3, "--box", 24, "--voxel-size", 12, "--snr", 20]
    small += ["--noise", noise]
    assert ectkd("simulate", "settings", "--out", settings, *small).code == 0
    command = ["train", "--stream", settings, "--stream-reuse", 1, *NOISY]
    if on_both(*command, "--model", "compact"):
        assert_same_weights(tmp_path / "cpu", tmp_path / "gpu")


def test_a_model_learns_from_corrections(on_both, work, compact, tmp_path):
    command = ["refine", work / "truth.star", "--model", compact]
    command += ["--tomograms", work / "tomo.mrc", *SHORT[:2], *SHORT[4:]]
    if on_both(*command):
        assert_same_weights(tmp_path / "cpu", tmp_path / "gpu")


@pytest.mark.parametrize("objective", ["soft", "logits"])
def test_a_student_is_distilled(on_both, work, tmp_path, objective):
    command = ["distill", "--data", work / "data", "--teacher", work / "teacher"]
    if on_both(*command, *NOISY, "--objective", objective, "--class-offsets"):
        assert_same_weights(tmp_path / "cpu", tmp_path / "gpu")


def test_a_student_is_searched_for(on_both, work):
    command = ["distill", "--data", work / "data", "--teacher", work / "teacher"]
    on_both(*command, *SHORT, "--search", "--trials", 2)


def test_picks_are_classified(on_both, work, tmp_path):
    command = ["classify", work / "tomo.mrc", "--picks", work / "truth.star"]
    command += ["--model", work / "teacher", "--precision", "float32"]
    if on_both(*command, out="classes.star"):
        assert_same_table(tmp_path / "cpu", tmp_path / "gpu", "classes.star")


@pytest.mark.parametrize("more", [[], ["--patches"], ["--second-look"]])
def test_a_tomogram_is_swept(on_both, work, compact, tmp_path, more):
    command = ["sweep", work / "tomo.mrc", "--model", compact, *more]
    command += ["--precision", "float32", "--min-confidence", 0, "--stride", 4]
    if on_both(*command, out="found.star"):
        assert_same_table(tmp_path / "cpu", tmp_path / "gpu", "found.star")


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_sweep_that_runs_out_of_memory_finds_the_same(
    ectkd, monkeypatch, work, compact, tmp_path, kind
):
    command = ["sweep", work / "tomo.mrc", "--model", compact, "--device", kind]
    command += ["--precision", "float32", "--min-confidence", 0, "--stride", 2]
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    with a_gpu(monkeypatch, kind) as memory:
        answer = ectkd(*command, "--out", tmp_path / "whole" / "found.star")
        assert answer.code == 0, answer.err
        memory.limit_to(memory.peak // 3)
        answer = ectkd(*command, "--out", tmp_path / "parts" / "found.star")
    assert answer.code == 0, answer.err
    if memory.is_pretended:  # a real one gives out memory in large blocks
        assert "not enough memory: going on with smaller tiles" in answer.err
        assert_same_table(tmp_path / "whole", tmp_path / "parts", "found.star")


def test_particles_are_picked(on_both, work, tmp_path):
    command = ["pick", work / "tomo.mrc", "--diameter", 250, "--no-invert"]
    if on_both(*command, out="picks.star"):
        assert_same_table(tmp_path / "cpu", tmp_path / "gpu", "picks.star")


def test_suspects_are_listed(on_both, work, tmp_path):
    command = ["suspects", "--data", work / "data", *SHORT, "--folds", 2]
    if on_both(*command, out="suspects.csv"):
        here, there = (tmp_path / d / "suspects.csv" for d in ("cpu", "gpu"))
        assert here.read_text() == there.read_text()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_networks_are_timed(ectkd, monkeypatch, kind):
    with a_gpu(monkeypatch, kind):
        answer = ectkd("models", "--box", 24, "--time", "--device", kind, "--json")
    assert answer.code == 0, answer.err
    assert all(row["ms_per_subtomogram"] > 0 for row in answer.json["models"])


@pytest.mark.parametrize("name", ["cuda:0", "mps"])
def test_doctor_tells_what_a_gpu_can_do(ectkd, monkeypatch, name):
    with a_gpu(monkeypatch, name.removesuffix(":0")):
        answer = ectkd("doctor", "--json")
    findings = answer.json["findings"]
    [found] = [f for f in findings if f["what"].startswith(f"{name}: ")]
    assert found["verdict"] == "good", found
    assert "a small network, forward and backward, is right" in found["text"]
    assert "GiB free" in found["text"]
