"""A form edits one frozen config; its fields and their limits make the widgets."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.editors import (
    BoolEdit,
    FloatEdit,
    IntEdit,
    OptionalEdit,
    PathEdit,
    PathsEdit,
    RangeEdit,
    ShapeEdit,
    TextEdit,
)
from napari_ectkd.gui.panel import folded
from napari_ectkd.gui.wording import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_UNITS = {
    "Å": "Å",
    "degrees": "°",
    "kV": "kV",
    "µm": "µm",
    "electrons per Å² and tilt": "e/Å²",
}
"""Units that a description may begin with, and how a number shows them."""
_MARGIN = 1e-9
"""How near an editor comes to a limit that is itself excluded."""


class Form(QWidget):
    """Edits one config.

    Parameters
    ----------
    config
        What to show first; its class says what there is to edit.
    fields
        The fields to show at once, in this order; the others are under `More settings`.
        All, if not given.
    editors
        Editors to use in place of those that the fields' types would get.
    hidden
        Fields with no editor, which keep their value.
    groups
        Fields that are folded away together, under a title of their own.
    """

    valueChanged = Signal(object)

    def __init__(
        self,
        config: BaseModel,
        fields: Sequence[str] | None = None,
        editors: Mapping[str, QWidget] | None = None,
        hidden: Sequence[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        known = type(config).model_fields
        plain = list(known) if fields is None else list(fields)
        self._config = config
        self.editors = {
            name: (editors or {}).get(name) or _editor(field)
            for name, field in known.items()
            if name not in hidden
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._rows([n for n in plain if n in self.editors]))
        grouped = {name for names in (groups or {}).values() for name in names}
        more = [n for n in self.editors if n not in plain and n not in grouped]
        for title, names in {**(groups or {}), "More settings": more}.items():
            if names:
                rows = self._rows([n for n in names if n in self.editors])
                self.more = folded(title, rows)
                layout.addWidget(self.more)
        layout.addStretch(1)  # room that is left is not put between the rows
        self.setValue(config)
        for editor in self.editors.values():
            editor.valueChanged.connect(self._changed)

    def value(self) -> BaseModel:
        """Return the config as it is shown.

        Raises
        ------
        ConfigError
            If the values do not go together.
        """
        values = {name: editor.value() for name, editor in self.editors.items()}
        try:
            return type(self._config).model_validate(
                {**dict(self._config), **values}, strict=False
            )
        except ValidationError as error:
            first = error.errors()[0]
            name = words(str(first["loc"][0])) if first["loc"] else "Settings"
            text = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{name}: {text}") from error

    def setValue(self, config: BaseModel) -> None:
        """Show another config of the same class."""
        self._config = config
        self.blockSignals(True)
        for name, editor in self.editors.items():
            editor.setValue(getattr(config, name))
        self.blockSignals(False)
        self._changed()

    def _changed(self) -> None:
        try:
            self.valueChanged.emit(self.value())
        except ConfigError:
            return  # half-way through an edit; `value` says what is wrong when asked

    def _rows(self, names: list[str]) -> QWidget:
        rows = QWidget()
        layout = QFormLayout(rows)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in names:
            editor = self.editors[name]
            layout.addRow(words(name), editor)
            text = type(self._config).model_fields[name].description or ""
            for widget in (editor, layout.labelForField(editor)):
                widget.setToolTip(_wrapped(text))
        return rows


def arguments(config: BaseModel) -> list[str]:
    """Return a config as arguments of the command line; None is left out."""
    found: list[str] = []
    for name, value in config:
        flag = name.replace("_", "-")
        if value is None or value == []:
            continue
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            for item in value:
                found += [f"--{flag}", str(item)]
        elif isinstance(value, tuple):
            found += [f"--{flag}", *(f"{item:g}" for item in value)]
        else:
            found += [f"--{flag}", str(value)]
    return found


def _editor(field: FieldInfo) -> QWidget:
    """Return the editor for a field's type and limits."""
    kind, is_optional = _without_none(field.annotation)
    if get_origin(kind) is Literal or (is_optional and kind is bool):
        options = (True, False) if kind is bool else get_args(kind)
        choices = [(o, {True: "yes", False: "no"}.get(o, str(o))) for o in options]
        automatic = [(None, "automatic")] if is_optional else []
        return ChoiceEdit([*automatic, *choices])
    editor = _plain_editor(kind, field)
    return OptionalEdit(editor) if is_optional else editor


def _plain_editor(kind: Any, field: FieldInfo) -> QWidget:
    limits = _limits(field)
    unit = _unit(field)
    if kind is bool:
        return BoolEdit()
    if kind is int:
        low, high = limits
        return IntEdit(int(low or 0), int(high if high is not None else 10**9), unit)
    if kind is float:
        low, high = limits
        is_share = low is not None and high is not None and high - low <= 1
        return FloatEdit(
            -1e9 if low is None else low,
            1e9 if high is None else high,
            unit,
            step=0.05 if is_share and high >= 0.5 and low == 0 else 0,
        )
    if kind is Path:
        return PathEdit()
    if kind == list[Path]:
        return PathsEdit()
    if kind == tuple[float, float]:
        return RangeEdit(unit)
    if kind == tuple[int, int, int]:
        return ShapeEdit()
    if kind is str:
        return TextEdit()
    raise TypeError(f"no editor for {kind}")


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Return the type of `T | None` as `(T, True)`."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [k for k in get_args(annotation) if k is not type(None)]
        if len(kinds) == 1:
            return kinds[0], True
    return annotation, False


def _limits(field: FieldInfo) -> tuple[float | None, float | None]:
    """Return the lowest and highest value that a field's metadata allow."""
    low = high = None
    for fact in field.metadata:
        match fact:
            case annotated_types.Ge(ge=value):
                low = value
            case annotated_types.Gt(gt=value):
                low = value + _MARGIN
            case annotated_types.Le(le=value):
                high = value
            case annotated_types.Lt(lt=value):
                high = value - _MARGIN
    return low, high


def _unit(field: FieldInfo) -> str:
    text = re.sub(r"[,;:(]", " ", field.description or "") + " "
    return next((u for start, u in _UNITS.items() if text.startswith(f"{start} ")), "")


def _wrapped(text: str) -> str:
    # Rich text, since Qt breaks lines in it alone.
    return f"<qt>{text[:1].upper()}{text[1:]}</qt>" if text else ""
