"""Parsing of ``source`` in ``model.yaml`` to a `Network`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from layertap import blocks
from layertap._nearest import did_you_mean, nearest
from layertap.blocks import BlockKind, BlockSpec
from layertap.errors import LayertapError
from layertap.expression import parse_layers
from layertap.types import Block, Value
from layertap_server.config.yaml_document import ManifestError, Section, items_of
from layertap_server.models.network.composites import COMPOSITES
from layertap_server.models.network.layers import INPUT, Layer, Network, One, Parallel, Residual, Sequential, Work

NETWORK_KEYS = ("defaults", "layers", "outputs", "weights", "channels", "precision")
"""Keys of ``source`` that configure a network."""
PLACEHOLDERS = ("activation", "norm", "pool")
"""Defaults that layers refer to with a ``$``. All other defaults are values of the parameter with the same name."""
_PLACEHOLDERS = {f"${name}" for name in PLACEHOLDERS}
"""Placeholders as they are written in layers."""
MOST_NESTED = 16
"""Maximum depth of nested layers."""


def read_network(source: Section) -> Network:
    """Parse the section ``source`` of a ``model.yaml``.

    Raises:
        ManifestError: The section is not valid; the message gives the line and the layer.
    """
    if "onnx" in source.values:
        raise source.error("onnx", "source must have either onnx or layers, got both")
    weights = source.text("weights")
    if weights and Path(weights).name != weights:
        raise source.error("weights", f"weights must name a file in the model's own folder, not {weights!r}")
    defaults = source.section("defaults")
    placeholders, parameters = _defaults(defaults) if defaults else ({}, {})
    layers = _Reader(source.file).layers(source, "layers")
    outputs = source.texts("outputs") or (layers[-1].name,)
    names = [layer.name for layer in layers]
    for output in outputs:
        if output not in names:
            raise source.error(
                "outputs", f"outputs: there is no layer {output!r}{did_you_mean(nearest(output, names))}"
            )
    return Network(
        layers=layers,
        outputs=outputs,
        where=source.where("layers"),
        placeholders=placeholders,
        parameters=parameters,
        weights=weights,
        channels=source.integer("channels", 3, minimum=1),
        precision=source.choice("precision", ("float32", "float16"), "float32"),
    )


def spec_of(name: str) -> BlockSpec:
    """Return the specification of a block of the catalogue or of a composite block.

    Raises:
        UnknownBlockError: The block does not exist.
    """
    return COMPOSITES[name].spec if name in COMPOSITES else blocks.get(name)


def takes_defaults(spec: BlockSpec) -> bool:
    """Return whether defaults such as ``padding: same`` apply to a block: to convolutions and pools."""
    return spec.kind in {BlockKind.CONVOLUTION, BlockKind.POOLING}


def _defaults(section: Section) -> tuple[dict[str, str], dict[str, Value]]:
    """Return the placeholders and the default parameters of ``defaults``."""
    known = {
        parameter.name: parameter
        for spec in (*blocks.CATALOGUE, *(composite.spec for composite in COMPOSITES.values()))
        if takes_defaults(spec)
        for parameter in spec.parameters
    }
    section.check_keys(*PLACEHOLDERS, *known)
    placeholders = {name: section.text(name) for name in PLACEHOLDERS if name in section.values}
    parameters = {name: _value(section, name) for name in section.values if name not in PLACEHOLDERS}
    for name, value in parameters.items():
        try:
            known[name].check(value)
        except ValueError as error:
            raise section.error(name, f"{name} must be {error}, got {value!r}") from None
    return placeholders, parameters


def _value(section: Section, key: str) -> Value:
    """Return the value of a parameter, with YAML's lists as tuples."""
    try:
        return Block("", {key: section.values[key]}).parameters[key]
    except TypeError as error:
        raise section.error(key, str(error)) from None


def chain(text: str, where: str) -> Work:
    """Parse a head: one block, or several blocks as layers with the names of their blocks, for ``$norm`` norm.

    Raises:
        ManifestError: The text does not follow the grammar, or names a block that does not exist.
    """
    try:
        parsed = parse_layers(text, spec_of)
        names = [_kind(One(block)) for block in parsed]
    except LayertapError as error:
        raise ManifestError(f"{where}: {text!r}: {error.message}") from error
    if len(parsed) == 1:
        return One(parsed[0])
    return Sequential(
        tuple(_name_layers(Layer(name, One(block), where) for name, block in zip(names, parsed, strict=True)))
    )


class _Reader:
    """Parser of lists of layers, which can contain lists of layers."""

    def __init__(self, file: str) -> None:
        """Parse layers of ``file``, whose name is part of messages."""
        self._file = file
        self._works: Mapping[str, Callable[[Section, str, int], Work]] = {
            "residual": self._residual,
            "parallel": self._parallel,
            "sequential": self._sequential,
            **dict.fromkeys(COMPOSITES, self._composite),
        }

    def layers(self, section: Section, key: str, depth: int = 0) -> tuple[Layer, ...]:
        """Return the layers that a key of ``model.yaml`` holds, which is one layer or a list of layers."""
        return self._layer_list(section.values.get(key), section.where(key), depth)

    def _layer_list(self, value: object, where: str, depth: int) -> tuple[Layer, ...]:
        """Parse a list of layers; raise `ManifestError` if it is empty, nested too deep, or a name is not unique."""
        if depth > MOST_NESTED:
            raise ManifestError(f"{where}: layers can be nested at most {MOST_NESTED} levels deep")
        items = items_of(value, where) if value else []
        layers = [self._layer(item, place, depth + 1) for item, place in items]
        if not layers:
            raise ManifestError(f"{where}: expected at least one layer, got none")
        taken = {INPUT}
        for layer in layers:
            if layer.name in taken:
                raise ManifestError(f"{layer.where}: the name {layer.name!r} is taken; layer names must be unique")
            taken |= {layer.name} - {""}
        return tuple(_name_layers(layers))

    def _layer(self, item: object, where: str, depth: int) -> Layer:
        """Parse one layer: a head, a list of layers, or a mapping of a name to either or to details."""
        if isinstance(item, str):
            return Layer("", chain(item, where), where)
        if isinstance(item, list):
            return Layer("", Sequential(self._layer_list(item, where, depth)), where)
        if not isinstance(item, dict) or len(item) != 1:
            raise ManifestError(f"{where}: expected a layer as 'name: head', got {item!r}")
        section = Section(self._file, item)
        ((name, value),) = item.items()
        where = section.where(name)
        if isinstance(value, str):
            return Layer(name, chain(value, where), where)
        if isinstance(value, list):
            return Layer(name, Sequential(self._layer_list(value, where, depth)), where)
        if name in self._works:
            return Layer("", self._works[name](section, name, depth), where)
        return self._detailed_layer(name, section, depth)

    def _detailed_layer(self, name: str, outer: Section, depth: int) -> Layer:
        """Parse a layer of the form ``name: {from: …, join: …, head: …}``.

        A composite can take the place of ``head``. A layer with ``from`` needs neither.
        """
        section = outer.section(name)
        if section is None:
            raise outer.error(name, f"the layer {name!r} is empty; give it a head")
        section.check_keys("from", "join", "head", *self._works)
        inputs = tuple(str(item) for item, _ in items_of(section.values.get("from"), section.where("from")))
        join = section.choice("join", ("add", "concat"), "add")
        given = [key for key in section.values if key == "head" or key in self._works]
        if len(given) > 1 or not (given or inputs):
            raise outer.error(name, f"the layer {name!r} needs one of head, {', '.join(self._works)}")
        work: Work = One(Block("identity"))
        for key in given:
            is_head = key == "head"
            work = chain(section.text(key), section.where(key)) if is_head else self._works[key](section, key, depth)
        return Layer(name, work, outer.where(name), inputs, join)

    def _sequential(self, section: Section, key: str, depth: int) -> Work:
        """Parse a list of layers as one layer."""
        return Sequential(self.layers(section, key, depth))

    def _residual(self, section: Section, key: str, depth: int) -> Work:
        """Parse a residual with ``layers`` and ``shortcut``."""
        inner = _inside(section, key, "layers")
        inner.check_keys("layers", "shortcut")
        shortcut = self.layers(inner, "shortcut", depth) if "shortcut" in inner.values else ()
        return Residual(self.layers(inner, "layers", depth), shortcut)

    def _parallel(self, section: Section, key: str, depth: int) -> Work:
        """Parse a parallel with ``branches`` and ``join``."""
        inner = _inside(section, key, "branches")
        inner.check_keys("branches", "join")
        return Parallel(self.layers(inner, "branches", depth), inner.choice("join", ("concat", "add"), "concat"))

    def _composite(self, section: Section, key: str, _depth: int) -> Work:
        """Parse the parameters of a composite block."""
        inner = section.section(key)
        return One(Block(key, {name: _value(inner, name) for name in inner.values} if inner else {}))


def _inside(section: Section, key: str, needed: str) -> Section:
    """Return the section of a key; raise `ManifestError` if it is empty."""
    inner = section.section(key)
    if inner is None:
        raise section.error(key, f"{key} needs {needed}")
    return inner


def _name_layers(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Name the layers without a name by their block, with a number from 2 on if the name is taken."""
    taken: set[str] = set()
    for layer in layers:
        base = layer.name or _kind(layer.work)
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        yield replace(layer, name=name)


def _kind(work: Work) -> str:
    """Return the name of a layer without a name: its block, or its kind."""
    if not isinstance(work, One):
        return type(work).__name__.lower()
    return work.block.name.removeprefix("$") if work.block.name in _PLACEHOLDERS else spec_of(work.block.name).name
