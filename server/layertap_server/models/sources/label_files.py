"""Files of class names, if they have as many as the model has outputs."""

from __future__ import annotations

import json

from layertap_server.models.sources.found import Beside, Found, SourceError, labels_of

NAMES = ("labels.txt", "classes.txt", "synset.txt", "imagenet_classes.txt", "class_names.txt", "labels.json")
"""Names of files of class names, the first that exists counts."""


def read(beside: Beside) -> Found | None:
    """Read the first file of class names, unless ``model.yaml`` names one."""
    if beside.has_labels:
        return None
    for name in NAMES:
        text = beside.text(name)
        if text is None:
            continue
        labels = _of_json(text) if name.endswith(".json") else tuple(text.rstrip("\n").split("\n"))
        if len(labels) not in beside.class_counts:
            raise SourceError(f"{name} has {len(labels)} class names, and no output of the model has as many")
        return Found(name, labels=tuple(label.removesuffix("\r") for label in labels))
    return None


def _of_json(text: str) -> tuple[str, ...]:
    """Return the class names of a JSON list or object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"labels.json is not JSON: {str(error).splitlines()[0]}") from error
    return labels_of(value, "labels.json")
