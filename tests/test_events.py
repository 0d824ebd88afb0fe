import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.events import (
    Cancel,
    Cancelled,
    CancelledError,
    EpochEnd,
    Failed,
    Finished,
    Noted,
    Progress,
    Saved,
    parse_event,
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
floats = st.floats(allow_nan=False, allow_infinity=False)
events = st.one_of(
    st.builds(
        Progress,
        stage=words,
        done=st.integers(0),
        total=st.integers(0),
        seconds_left=st.none() | floats,
    ),
    st.builds(
        EpochEnd,
        epoch=st.integers(1),
        epochs=st.integers(1),
        metrics=st.dictionaries(words, floats),
        seconds_left=st.none() | floats,
    ),
    st.builds(Noted, text=words, is_warning=st.booleans()),
    st.builds(Saved, what=words, path=words),
    st.builds(Finished, result=st.dictionaries(words, floats | words | st.none())),
    st.builds(Failed, message=words, details=words),
    st.builds(Cancelled),
)


@given(events)
def test_an_event_is_one_line_and_comes_back(event):
    line = event.line()
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["kind"] == event.kind
    assert parse_event(line) == event
    assert parse_event(line.encode()) == event
    assert type(parse_event(line)) is type(event)


@given(events, st.data())
def test_half_a_line_is_no_event(event, data):
    line = event.line()
    cut = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(ValueError, match="validation error"):
        parse_event(line[:cut])


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "1",
        '{"kind": "other"}',
        '{"kind": "saved", "what": "x"}',
        '{"kind": "cancelled", "more": 1}',
    ],
)
def test_other_json_is_no_event(line):
    with pytest.raises(ValueError, match="validation error"):
        parse_event(line)


def test_events_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Noted(text="a").text = "b"


def test_cancel_is_asked_for_and_then_stands(tmp_path):
    cancel = Cancel()
    cancel.check()
    cancel.request()
    assert cancel.is_requested
    with pytest.raises(CancelledError):
        cancel.check()


def test_a_file_is_a_request_too(tmp_path):
    cancel = Cancel(tmp_path / "cancel")
    cancel.check()
    (tmp_path / "cancel").touch()
    with pytest.raises(CancelledError):
        cancel.check()
    (tmp_path / "cancel").unlink()  # asked is asked
    assert cancel.is_requested
