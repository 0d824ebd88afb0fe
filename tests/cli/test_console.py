import pytest

from napari_ectkd.cli.console import Console
from napari_ectkd.events import EpochEnd, Noted, Progress, Saved


@pytest.mark.parametrize("text", ["two\nlines", "[red]no markup[/red]", "x" * 500])
def test_an_error_is_one_line_with_nothing_lost(capsys, text):
    Console().error(text)
    expected = "error: " + text.replace("\n", " ") + "\n"
    assert capsys.readouterr().err == expected


def test_events_are_lines_on_the_error_stream(capsys):
    metrics = {"loss": 1.25, "accuracy": 0.5, "val_loss": 2.0, "val_accuracy": 0.25}
    with Console(is_json=True) as console:
        console.show(Noted(text="careful", is_warning=True))
        console.show(Progress(stage="crop", done=1, total=2))  # no terminal, no bar
        console.show(
            EpochEnd(
                epoch=2,
                epochs=9,
                metrics=metrics | {"teacher_val_accuracy": 0.75},
                seconds_left=61.2,
            )
        )
        console.show(Saved(what="model", path="/a/[b].safetensors"))
        console.result({"n": 1})
    out, err = capsys.readouterr()
    assert out == '{"n": 1}\n'
    careful, epoch, saved = err.splitlines()
    assert careful == "warning: careful"
    assert epoch.split("  ") == [
        "epoch 2/9",
        "loss 1.250",
        "accuracy 0.500",
        "validation loss 2.000",
        "accuracy 0.250",
        "(teacher 0.750)",
        "61 s left",
    ]
    assert saved == "model: /a/[b].safetensors"


def test_a_result_is_printed_only_if_asked_for(capsys):
    Console().result({"n": 1})
    assert capsys.readouterr().out == ""
