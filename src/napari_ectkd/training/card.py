"""The model card: what a model is, what it was made from, and how good it is.

After Mitchell et al. (2019), arXiv:1810.03993, cut to what a run knows of itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ectkd.evaluation.calibration import in_words
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.checkpoint import Calibration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material

SETTINGS_HEADING = "## Settings"
"""Comes before the settings as JSON, the last part of a card."""
_ENSEMBLE = (
    *("members", "best_member", "generation"),
    *("val_accuracy", "member_val_accuracy"),
)
_TRAINING = ("best_epoch", "seconds", "is_refit")


def make_card(
    run: Run,
    info: CheckpointInfo,
    material: Material,
    result: dict[str, Any],
    settings: dict[str, Any],
    environment: dict[str, Any],
    repeatability: str,
) -> dict[str, Any]:
    """Return a model card as JSON values.

    Parameters
    ----------
    run
        Its folder's name is the model's.
    info
        Of the checkpoint.
    material
        What it learned from and was validated on.
    result
        Of the run, with its report where there was a validation part.
    settings
        The run's own.
    environment, repeatability
        From `provenance`.
    """
    split, data = material.split, material.data
    counts = {
        name: [int((data.label[part] == name).sum()) for part in _parts(material)]
        for name in material.classes
    }
    return {
        "name": run.path.name,
        "model": info.model,
        "trained_by": info.trained_by,
        "software": info.software,
        "license": info.license,
        "input": {
            "box": info.box,
            "voxel_size": info.voxel_size,
            "tilt_range": info.tilt_range,
            "is_inverted": info.is_inverted,
            "normalization": info.normalization.mode,
        },
        "classes": info.classes,
        "parameters": result["parameters"],
        "macs": result["macs"],
        "data": {
            "fingerprint": material.fingerprint,
            "labels": {
                name: {"training": n[0], "validation": n[1]}
                for name, n in counts.items()
            },
            "unlabeled": material.n_unlabeled,
            "split": split.how,
        },
        "teachers": [Path(path).name for path in settings.get("teachers", [])],
        "settings": _of_learning(settings),
        "training": {k: result[k] for k in _TRAINING if k in result},
        "metrics": {k: v for k, v in result.items() if k.startswith("val_")},
        "calibration": result.get("calibration"),
        "report": result.get("report"),
        "environment": environment,
        "repeatability": repeatability,
    }


def write_ensemble_card(run: Run, result: dict[str, Any]) -> None:
    """Write an ensemble's card: that of its best member, and what all are together.

    Its settings are those of the run; those of the member are kept beside them.

    Raises
    ------
    WriteError
        If a file cannot be written.
    """
    best = run.member(result["best_member"])
    card = json.loads(best.card_path.with_suffix(".json").read_text())
    card["name"] = run.path.name
    if run.config_path.exists():  # an earlier generation's are its successor's
        card["settings_of_member"] = card["settings"]
        card["settings"] = _of_learning(run.config())
    card["training"]["seconds"] = result["seconds"]
    card["ensemble"] = {key: result[key] for key in _ENSEMBLE if key in result}
    write_card(run, card)


def _of_learning(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings but for where it works, which is nobody's business."""
    return {key: value for key, value in settings.items() if key != "where"}


def write_card(run: Run, card: dict[str, Any]) -> None:
    """Write a model card into a run's folder, as JSON and as Markdown.

    Raises
    ------
    WriteError
        If a file cannot be written.
    """
    with atomic_path(run.card_path) as temporary:
        temporary.write_text("\n".join(_markdown(card)) + "\n", encoding="utf-8")
    with atomic_path(run.card_path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _parts(material: Material) -> tuple[Any, Any]:
    return material.split.training, material.split.validation


def _markdown(card: dict[str, Any]) -> Iterator[str]:
    seen, metrics = card["input"], card["metrics"]
    tilts = seen["tilt_range"]
    yield f"# {card['name']}"
    yield ""
    verb = "distilled" if card["trained_by"] == "distill" else "trained"
    yield (
        f"`{card['model']}`, {card['parameters']:,} parameters, "
        f"{card['macs'] / 1e6:,.1f} million multiply-accumulates a subtomogram, {verb} "
        f"by napari-ectkd {card['software']}."
    )
    yield ""
    yield (
        f"It takes subtomograms of {seen['box']}³ voxels of {seen['voxel_size']:g} Å, "
        f"protein bright, normalized by {seen['normalization']}, "
        + (f"tilted from {tilts[0]:g}° to {tilts[1]:g}°" if tilts else "tilts unknown")
        + f", and tells {len(card['classes'])} classes apart."
    )
    yield from ("", "## How good it is", "")
    if ensemble := card.get("ensemble"):
        text = (
            f"It is member {ensemble['best_member']} of an ensemble of "
            f"{ensemble['members']}, which together are a teacher"
        )
        if "generation" in ensemble:
            text += f" of generation {ensemble['generation']}"
        if "val_accuracy" in ensemble:
            text += (
                f": over the rotations that keep the missing wedge they are right on "
                f"{ensemble['val_accuracy']:.1%} of the validation part"
            )
        yield from (f"{text}. What follows is of this member alone.", "")
    if metrics:
        yield (
            f"On the validation part ({card['data']['split']}): accuracy "
            f"{metrics['val_accuracy']:.1%}, macro F1 {metrics['val_macro_f1']:.3f}, "
            f"loss {metrics['val_loss']:.3f}. The weights were chosen for their loss "
            "there (epoch "
            f"{card['training']['best_epoch']}), so that on new data expect a little "
            "less; on another microscope, sample or tilt range, test before you trust."
        )
        if card["training"].get("is_refit"):
            yield (
                "The model to use then learned once more, from all labels, the "
                "validation part too; the figures are of the one that had not seen it."
            )
    else:
        yield "There was no validation part: nothing says how good it is."
    if card["calibration"]:
        sentence = in_words(Calibration.model_validate(card["calibration"]))
        yield from ("", f"Its confidence is {sentence}.")
    else:
        yield from ("", "Its confidence was never calibrated.")
    yield from ("", "## Classes", "")
    yield "| class | labels, training | labels, validation | precision | recall |"
    yield "|---|---|---|---|---|"
    scores = (card["report"] or {"classes": {}})["classes"]
    for name, n in card["data"]["labels"].items():
        found = scores.get(name)
        figures = (
            f"{found['precision']:.3f} | {found['recall']:.3f}"
            if found and found["support"]
            else "– | –"
        )
        yield f"| {name} | {n['training']} | {n['validation']} | {figures} |"
    yield from ("", "## How it was made", "")
    where = card["environment"]
    # The whole of it is in the JSON; here it would make a window wide.
    if card["teachers"]:
        yield f"- Teachers: {', '.join(card['teachers'])}"
    if card["data"]["unlabeled"]:
        yield f"- Unlabeled subtomograms: {card['data']['unlabeled']:,}"
    yield f"- License of the weights: {card['license']}"
    yield f"- Data fingerprint: `{card['data']['fingerprint'][:16]}…`"
    yield f"- Device: {where['device_name']} ({where['device']})"
    yield f"- Threads: {where['threads']}"
    yield f"- Time: {card['training'].get('seconds', 0):.0f} s"
    yield "- " + ", ".join(f"{k} {v}" for k, v in where["packages"].items())
    yield f"- {card['repeatability']}"
    yield from ("", SETTINGS_HEADING, "", "```json")
    yield json.dumps(card["settings"], indent=1)
    yield "```"
