"""A choice among values whose titles may be longer than the box."""

import pytest
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QToolTip

from napari_ectkd.gui.choice_edit import ChoiceEdit

LONG = "train-3: 4 × residual_small <of June>, 87 %, cancelled"


@pytest.fixture
def choice(qtbot):
    choice = ChoiceEdit([("short", "A"), ("long", LONG)])
    choice.setToolTip("<qt>Runs of this project</qt>")
    qtbot.addWidget(choice)
    choice.resize(150, choice.sizeHint().height())
    with qtbot.waitExposed(choice):
        choice.show()
    yield choice
    choice.hidePopup()
    QToolTip.hideText()


def hover(choice):
    point = QPoint(10, 5)
    event = QHelpEvent(QEvent.Type.ToolTip, point, choice.mapToGlobal(point))
    QApplication.sendEvent(choice, event)


def test_a_title_that_is_cut_off_is_said_whole_by_the_tooltip(qtbot, choice):
    choice.setValue("long")
    hover(choice)
    qtbot.waitUntil(lambda: "4 × residual_small &lt;of June&gt;" in QToolTip.text())
    assert "Runs of this project" in QToolTip.text()
    choice.setValue("short")
    hover(choice)
    qtbot.waitUntil(lambda: QToolTip.text() == "<qt>Runs of this project</qt>")


def test_the_list_is_as_wide_as_its_longest_title(choice):
    choice.showPopup()
    needed = choice.fontMetrics().horizontalAdvance(LONG)
    assert choice.width() < needed < choice.view().viewport().width()


def test_a_choice_says_why_it_is_empty_and_takes_the_first_that_comes(qtbot):
    choice = ChoiceEdit([])
    qtbot.addWidget(choice)
    choice.setNothing("none yet")
    assert choice.value() is None
    assert choice.placeholderText() == "none yet"
    choice.setChoices([("a", "A"), ("b", "B")])
    assert choice.value() == "a"
    choice.setValue("b")
    choice.setChoices([("c", "C"), ("b", "B")])
    assert choice.value() == "b"
