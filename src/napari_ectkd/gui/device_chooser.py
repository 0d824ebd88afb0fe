"""A choice among the devices of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from napari_ectkd.devices.choice import Device, device_title, list_devices
from napari_ectkd.gui.choice_edit import ChoiceEdit

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

_SECONDS_BETWEEN_ASKING = 60.0
"""Free memory changes."""
_LONGEST_ANSWER = 120.0
"""Seconds; of a GPU that is broken the driver may never answer."""
_LIST_DEVICES = (
    "import json; from napari_ectkd.devices.choice import list_devices; "
    "print(json.dumps([vars(device) for device in list_devices()]))"
)


class DeviceChooser(ChoiceEdit):
    """Devices by name and free memory, found in a thread when it is shown.

    Looking for them imports torch, which takes seconds.
    """

    offered = Signal()

    def __init__(self) -> None:
        super().__init__([("auto", "the fastest")])
        self.devices: list[Device] = []
        self._asked_at = float("-inf")

    def showEvent(self, event: QShowEvent) -> None:
        """Look for devices, unless that was done a moment ago."""
        super().showEvent(event)
        if time.monotonic() - self._asked_at > _SECONDS_BETWEEN_ASKING:
            self.ask()

    def ask(self) -> None:
        """Look for devices, and how much memory is free on each."""
        from superqt.utils import create_worker

        self._asked_at = time.monotonic()
        worker = create_worker(ask_devices)
        worker.returned.connect(self.offer)
        worker.start()

    def ask_again(self) -> None:
        """Look again at what was looked at before: free memory changes."""
        if self.devices:
            self.ask()

    def offer(self, devices: list[Device]) -> None:
        """Offer these devices besides the fastest."""
        best = devices[0]
        choices = [("auto", f"the fastest ({best.title})")]
        for device in devices:
            memory = (
                ""
                if device.free_bytes is None
                else f", {device.free_bytes / 2**30:.0f} GiB free"
            )
            choices.append((device.name, f"{device.name}: {device.title}{memory}"))
        self.devices = devices
        self.setChoices(choices)
        self.offered.emit()


def ask_devices() -> list[Device]:
    """Return the devices of this machine.

    Asking CUDA takes some of its memory for as long as the process lives, and all
    threads wait for a GPU that wakes up or hangs: a process of its own asks, since
    napari may stay open for days.
    """
    import torch

    if torch.version.cuda or torch.version.hip:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _LIST_DEVICES],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_LONGEST_ANSWER,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            *_, answer = done.stdout.splitlines()
            return [Device(**facts) for facts in json.loads(answer)]
        except (subprocess.TimeoutExpired, OSError, ValueError):
            # Asked here, CUDA might hang here too.
            return [Device("cpu", device_title(torch.device("cpu")), None)]
    return list_devices()
