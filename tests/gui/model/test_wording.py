import pytest

from napari_ectkd.gui.wording import in_window, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "take a lower --learning-rate, or less",
            "take a lower “Learning rate”, or less",
        ),
        ("(--device cpu)", "(“Device” cpu)"),
        (
            "shown more often (--balance 0.5)",
            "shown more often (“Balance classes” 0.5)",
        ),
        ("`dask --nthreads 1` or --seed 2", "`dask --nthreads 1` or “Seed” 2"),
        ("--no-rotations", "“Rotations”"),
        ("path/--x-y.star stays, 3 -- 4", "path/--x-y.star stays, 3 -- 4"),
        ("/home/my--data/run", "/home/my--data/run"),
    ],
)
def test_flags_are_said_as_the_forms_call_them(text, expected):
    assert in_window(text) == expected


def test_a_field_in_words():
    assert words("soft_weight") == "Soft weight"
    assert words("snr_spread") == "SNR spread"
