import mrcfile
import numpy as np
import pytest

from napari_ectkd.gui.filter_form import FilterForm


@pytest.fixture
def form(qtbot, session, some_picks):
    session.set_picks("tomo", some_picks())
    form = FilterForm(session)
    qtbot.addWidget(form)
    return form


def write_mask(path, shape, value=1):
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.full(shape, value, np.int8))
    return path


def test_a_mask_that_cannot_be_used_leaves_the_earlier_one(form, session, tmp_path):
    shape = session.current.shape
    form.set_mask(write_mask(tmp_path / "good.mrc", shape))
    assert form.said.text() == "Mask: good.mrc"
    form.set_mask(write_mask(tmp_path / "other.mrc", (4, 5, 6)))
    assert "other.mrc has 4 × 5 × 6 voxels" in form.said.text()
    (tmp_path / "text.mrc").write_text("no volume")
    form.set_mask(tmp_path / "text.mrc")
    assert "text.mrc: not a readable MRC file" in form.said.text()
    assert session.overlay.masks["tomo"].path.name == "good.mrc"
    assert not form.no_mask_button.isHidden()
    form.no_mask_button.click()
    assert form.said.isHidden()
    assert session.overlay.masks == {}


def test_a_mask_that_hides_every_pick_is_said(form, session, tmp_path):
    shape = session.current.shape
    form.set_mask(write_mask(tmp_path / "empty.mrc", shape, 0))
    assert "no pick lies where it is above 0" in form.said.text()
    session.set_overlay(min_confidence=0.3)
    assert "no pick lies" in form.said.text()
    form.set_mask(write_mask(tmp_path / "full.mrc", shape))
    assert form.said.text() == "Mask: full.mrc"
