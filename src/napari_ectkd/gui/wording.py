"""What the command line calls settings, in the words of the window."""

from __future__ import annotations

import re

_SHORT = {"snr": "SNR", "ctf": "CTF", "mtf": "MTF"}
_NAMES = {
    "refit": "Learn again from all",
    "balance": "Balance classes",
    "cutout": "Cut out neighbors",
    "compile": "Compile network",
    "split_seed": "Seed of the split",
    "patience": "Stop after idle",
    "members": "Networks",
}
"""Fields whose own name says little."""
_FLAG = re.compile(r"(?P<command>`[^`]*`)|(?<![^\s(])--(?:no-)?(?P<name>[a-z-]*[a-z])")


def words(name: str) -> str:
    """Return a field's name in words (`Soft weight`)."""
    if name in _NAMES:
        return _NAMES[name]
    text = " ".join(_SHORT.get(word, word) for word in name.split("_"))
    return text[:1].upper() + text[1:]


def in_window(text: str) -> str:
    """Return a message with its flags (`--learning-rate`) as the forms call them.

    Commands, between backticks, are left as they are.
    """
    return _FLAG.sub(
        lambda found: found["command"] or f"“{words(found['name'].replace('-', '_'))}”",
        text,
    )
