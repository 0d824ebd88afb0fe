from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import Qt

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.editors import IntEdit, OptionalEdit
from napari_ectkd.gui.forms import Form, arguments
from napari_ectkd.prediction.config import ClassifyConfig
from napari_ectkd.training.config import TrainConfig

COUNT = st.integers(1, 10**6)
SHARE = st.floats(0, 1, allow_subnormal=False)
LEARNING = {
    "model": st.none() | st.sampled_from(["compact", "residual"]),
    "epochs": st.none() | COUNT,
    "batch_size": st.integers(2, 10**6),
    "learning_rate": st.floats(1e-8, 1),
    "weight_decay": st.floats(1e-8, 100) | st.just(0.0),
    "label_smoothing": st.floats(0, 0.99, allow_subnormal=False),
    "rotations": st.booleans(),
    "shift": st.integers(0, 100),
    "validation_fraction": st.floats(0, 0.5, allow_subnormal=False),
    "patience": st.none() | COUNT,
    "seed": st.integers(0, 10**9),
    "device": st.sampled_from(["auto", "cpu", "cuda:1"]),
    "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
}
PATHS = st.lists(st.sampled_from([Path("/a b"), Path("/c;d"), Path("e.star")]))
CONFIGS = (
    st.builds(TrainConfig, **LEARNING)
    | st.builds(
        DistillConfig,
        **LEARNING,
        objective=st.sampled_from(["soft", "logits"]),
        temperature=st.floats(1, 1e3),
        soft_weight=st.floats(1e-3, 1),
    )
    | st.builds(ClassifyConfig, batch_size=COUNT, min_confidence=st.floats(1e-3, 1))
    | st.builds(
        DataConfig,
        data=PATHS.filter(len),
        tomograms=PATHS,
        box=st.none() | st.integers(8, 256),
        voxel_size=st.none() | st.floats(0.1, 100),
        invert=st.none() | st.booleans(),
        tilt_range=st.none() | st.tuples(st.floats(-90, -1), st.floats(1, 90)),
        label_column=st.none() | st.just("rlnClass"),
        normalize=st.sampled_from(["auto", "data", "subtomogram"]),
    )
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(config=CONFIGS)
def test_a_form_gives_back_the_config_it_shows(qtbot, config):
    form = Form(type(config)(data=["x"]) if "data" in dict(config) else type(config)())
    qtbot.addWidget(form)
    form.setValue(config)
    shown = form.value().model_dump()
    for name, value in config.model_dump().items():
        # Numbers are kept to 60 decimals: more than any setting has.
        assert shown[name] == (
            pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
        )


def test_editing_is_told_and_limits_hold(qtbot):
    form = Form(DistillConfig(), ["soft_weight", "epochs"])
    qtbot.addWidget(form)
    with qtbot.waitSignal(form.valueChanged) as told:
        form.editors["soft_weight"].setValue(7)
    assert told.args[0].soft_weight == 1
    assert form.value().soft_weight == 1
    assert form.value().epochs is None


def test_typing_a_number(qtbot):
    form = Form(TrainConfig())
    qtbot.addWidget(form)
    edit = form.editors["weight_decay"]
    edit.selectAll()
    qtbot.keyClicks(edit, "2.5e-4")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert form.value().weight_decay == 2.5e-4


def test_values_that_do_not_go_together_are_one_error(qtbot):
    form = Form(DataConfig(data=["x"]))
    qtbot.addWidget(form)
    form.editors["tilt_range"].setValue((60.0, -60.0))
    with pytest.raises(ConfigError, match=r"Tilt range: .*lowest and highest"):
        form.value()


def test_descriptions_are_tooltips(qtbot):
    form = Form(TrainConfig())
    qtbot.addWidget(form)
    assert "passes over the training picks".capitalize() in (
        form.editors["epochs"].toolTip()
    )


def test_arguments_of_the_command_line():
    config = DataConfig(data=["a", "b"], tilt_range=(-60, 60), invert=False)
    found = arguments(config)
    assert found[:4] == ["--data", "a", "--data", "b"]
    assert found[4:8] == ["--no-invert", "--tilt-range", "-60", "60"]
    assert "--box" not in found


def test_no_number_stands_beside_automatic(qtbot):
    edit = OptionalEdit(IntEdit(1, 9))
    qtbot.addWidget(edit)
    edit.show()
    number = edit.findChild(IntEdit)
    assert edit.value() is None
    assert not number.isVisible()
    edit.setValue(3)
    assert number.isVisible()
    assert edit.value() == 3
