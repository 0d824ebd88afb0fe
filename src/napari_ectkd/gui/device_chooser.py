"""A choice among the devices of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from napari_ectkd.devices import list_devices
from napari_ectkd.gui.choice_edit import ChoiceEdit

if TYPE_CHECKING:
    from napari_ectkd.devices import Device


class DeviceChooser(ChoiceEdit):
    """Devices by name and free memory, found in a thread when it is first shown.

    Looking for them imports torch, which takes seconds.
    """

    offered = Signal()

    def __init__(self) -> None:
        super().__init__([("auto", "the fastest")])
        self.devices: list[Device] = []
        self._is_asked = False

    def showEvent(self, event: object) -> None:
        """Look for devices the first time."""
        super().showEvent(event)
        if not self._is_asked:
            self._is_asked = True
            self._find()

    def _find(self) -> None:
        from superqt.utils import create_worker

        worker = create_worker(_devices)
        worker.returned.connect(self.offer)
        worker.start()

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


def _devices() -> list[Device]:
    return list_devices()
