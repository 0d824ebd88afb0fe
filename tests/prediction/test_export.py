import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.special import softmax

from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Cancel, Finished, Noted
from napari_ectkd.models.checkpoint import Calibration, load_checkpoint
from napari_ectkd.prediction import export_formats
from napari_ectkd.prediction.config import ExportConfig
from napari_ectkd.prediction.export import export_model

CALIBRATION = Calibration(
    temperature=1.7,
    min_confidence=0.6,
    n=40,
    error_before=0.2,
    error_after=0.03,
    precision=0.96,
    kept=0.9,
)


def export(model, out, **settings):
    events = list(export_model(model, out, ExportConfig(**settings), cancel=Cancel()))
    assert isinstance(events[-1], Finished)
    json.dumps(events[-1].result)
    return events[-1].result, [e for e in events if isinstance(e, Noted)]


def run_onnx(path, volumes):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"volumes": volumes})


@pytest.fixture
def noise():
    rng = np.random.default_rng(0)
    return lambda *shape: rng.normal(size=shape).astype(np.float32)


@pytest.fixture
def trained(write_model):
    """A model whose batch normalizations have seen something."""
    return write_model(calibration=CALIBRATION, metrics={"val_accuracy": 0.9})


def check_sweep(path, noise, run):
    network, _ = load_checkpoint(path)
    for shape in ((1, 1, 33, 40, 29), (3, 1, 28, 30, 61)):
        volumes = noise(*shape)
        with torch.no_grad():
            expected = network.score(torch.from_numpy(volumes)).numpy()
        logits, probabilities = run(volumes)
        assert logits.shape == expected.shape
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        shares = softmax(expected / 1.7, axis=1)
        np.testing.assert_allclose(probabilities, shares, atol=1e-5)


def test_onnx_gives_what_the_network_gives(trained, tmp_path, noise):
    out = tmp_path / "model.onnx"
    result, _ = export(trained, out, license="CC-BY-4.0", sweep=True)
    network, info = load_checkpoint(trained)
    for n in (1, 3, 7):
        volumes = noise(n, 1, 24, 24, 24)
        logits, probabilities = run_onnx(out, volumes)
        with torch.no_grad():
            expected = network(torch.from_numpy(volumes)).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            probabilities, softmax(expected / 1.7, axis=1), atol=1e-5
        )
    file = onnx.load(out)
    onnx.checker.check_model(file)
    assert not {"BatchNormalization"} & {node.op_type for node in file.graph.node}
    axes = file.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == [
        "batch",
        1,
        *[24] * 3,
    ]
    facts = {p.key.removeprefix("ectkd."): p.value for p in file.metadata_props}
    assert json.loads(facts["classes"]) == info.classes
    assert json.loads(facts["box"]) == 24
    assert json.loads(facts["voxel_size"]) == 10
    assert json.loads(facts["tilt_range"]) == [-60, 60]
    assert json.loads(facts["is_inverted"]) is False
    assert json.loads(facts["metrics"]) == {"val_accuracy": 0.9}
    assert json.loads(facts["temperature"]) == 1.7
    assert json.loads(facts["calibration"]) == CALIBRATION.model_dump()
    assert facts["normalization"] == "data"
    assert facts["license"] == "CC-BY-4.0"
    assert facts["data_fingerprint"] == "unknown"  # a lone checkpoint has no card
    assert {"colors", "model", "trained_by", "software"} <= facts.keys()
    assert result["files"][0]["size_bytes"] == out.stat().st_size
    check_sweep(trained, noise, lambda v: run_onnx(tmp_path / "model-sweep.onnx", v))


def test_the_program_of_torch_takes_volumes_of_any_size(trained, tmp_path, noise):
    result, _ = export(trained, tmp_path / "m.pt2", format="torch", sweep=True)
    assert [f["is_for_sweeps"] for f in result["files"]] == [False, True]
    module = torch.export.load(tmp_path / "m-sweep.pt2").module()
    check_sweep(trained, noise, lambda v: [t.numpy() for t in module(torch.tensor(v))])


def test_a_run_says_which_data_it_learned_from(trained, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    trained.rename(run / "best.safetensors")
    (run / "model_card.json").write_text(json.dumps({"data": {"fingerprint": "abc"}}))
    result, _ = export(run, tmp_path / "m.pt2", format="torch")
    assert result["metadata"]["ectkd.data_fingerprint"] == "abc"
    extra = {"ectkd.json": ""}
    torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert json.loads(extra["ectkd.json"]) == result["metadata"]


def test_a_model_that_was_never_calibrated_is_said(write_model, tmp_path):
    _, notes = export(write_model(), tmp_path / "m.pt2", format="torch")
    assert any(n.is_warning and "never calibrated" in n.text for n in notes)


def test_a_file_that_differs_is_not_kept(trained, tmp_path, monkeypatch):
    real = export_formats.TorchExport.load

    def load(self, path):
        run = real(self, path)
        return lambda volumes: tuple(out + 0.01 for out in run(volumes))

    monkeypatch.setattr(export_formats.TorchExport, "load", load)
    stream = export_model(
        trained, tmp_path / "m.pt2", ExportConfig(format="torch"), cancel=Cancel()
    )
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match="gives other logits"):
        list(stream)
    assert set(tmp_path.iterdir()) == before


def test_what_cannot_be_exported_is_said_at_the_call(
    trained, tmp_path, monkeypatch, untrained_teacher
):
    def start(model=trained, out="m.onnx", **settings):
        return export_model(
            model, tmp_path / out, ExportConfig(**settings), cancel=Cancel()
        )

    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        start(out="m.pt2")
    with pytest.raises(ConfigError, match="residual_small cannot be swept"):
        start(untrained_teacher, sweep=True)
    monkeypatch.setattr(export_formats, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"napari-ectkd\[export\]"):
        start()


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, "MIT"), ({"license": "CC0-1.0"}, "CC0-1.0")]
)
def test_the_license_is_that_of_training_unless_another_is_named(
    write_model, tmp_path, settings, expected
):
    path = write_model(license="MIT")
    result, _ = export(path, tmp_path / "model.pt2", format="torch", **settings)
    assert result["metadata"]["ectkd.license"] == expected
