"""Write ``tests/client/public_api.txt``, which pins every public name of the SDK with its signature."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layertap
from layertap import blocks, comparison, errors, gradient_health, methods, profile, profiling, similarity, types, viz
from layertap import sklearn as for_sklearn

ROOT = Path(__file__).parent.parent
PIN = ROOT / "tests" / "client" / "public_api.txt"

PUBLIC: list[Any] = [
    *(getattr(layertap, name) for name in layertap.__all__ if name.endswith("Client")),
    layertap.Tls,
    *(layertap.Features, types.FeatureMap, types.Quantization, types.Timing, layertap.ExtractedItem),
    *(types.Preview, types.PreviewedFeature, types.SkippedLayer, types.ImagePadding, types.LayerStatistics),
    *(types.TargetValue, types.Attribution, methods.MethodSpec),
    *(gradient_health.gradient_health, gradient_health.LayerGradient),
    layertap.PreprocessingAssumedWarning,
    *(types.ModelInfo, types.ModelState, types.LayerInfo, types.TensorInfo, types.Layout, types.Batching),
    *(types.ReceptiveField, types.TokenGrid, types.ModelFact, types.WeightInfo),
    *(types.Tap, types.Block, layertap.parse_tap, layertap.format_tap),
    *(comparison.compare_images, comparison.compare_models, comparison.compare_layers),
    *(comparison.CkaMatrix, similarity.LayerSimilarity),
    *(profiling.profile_images, profile.Profile, profile.ChannelStatistics, profile.ProfiledTap, profile.FailedImage),
    *(for_sklearn.LayertapTransformer, *(getattr(viz, name) for name in viz.__all__)),
]
"""Public classes and functions, except blocks and errors, which are collected elsewhere. Add new public names here."""

INTRODUCTION = "# The public API. After an intended change, run `make generated` and add a line to CHANGELOG.md.\n"
"""First line of the pin."""


def public_api() -> str:
    """Return the pin, with one name on each line."""
    lines = [line for member in PUBLIC for line in api_of(member)]
    for member in error_classes():
        name = public_name(member)
        lines.append(f"{name}({member.__bases__[0].__name__}): {member.status} {member.reason}")
        lines += [f"{name}.{attribute}" for attribute, _ in own_attributes(member)]
    for name in sorted(blocks.__all__):
        member = getattr(blocks, name)
        lines.append(f"layertap.blocks.{name}{call_of(member) if inspect.isfunction(member) else ''}")
    return INTRODUCTION + "\n".join(lines) + "\n"


def api_of(member: Any) -> Iterator[str]:
    """Yield the lines of a class with its methods, an enum with its values, or a function."""
    name = public_name(member)
    if inspect.isclass(member) and issubclass(member, enum.Enum):
        yield from (f"{name}.{item.name} = {item.value!r}" for item in member)
    elif inspect.isclass(member) and issubclass(member, Warning):
        yield f"{name}({member.__bases__[0].__name__})"
    else:
        yield name + call_of(member)
    for attribute_name, attribute in own_attributes(member):
        yield f"{name}.{attribute_name}{'' if isinstance(attribute, property) else call_of(attribute)}"


def error_classes() -> list[type[errors.LayertapError]]:
    """Return Layertap's own error classes, without subclasses defined elsewhere."""
    return [member for member in errors.error_classes() if member.__module__ == errors.__name__]


def public_name(member: Any) -> str:
    """Return the shortest dotted name under which a user imports the member."""
    modules = (("layertap", layertap), ("layertap.viz", viz), ("layertap.types", types))
    found = [name for name, module in modules if getattr(module, member.__name__, None) is member]
    return f"{(found or [member.__module__])[0]}.{member.__name__}"


def own_attributes(member: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that the class or a private base of it defines, in source order."""
    if inspect.isclass(member) and not issubclass(member, enum.Enum):
        for name, attribute in vars(member).items():
            if not name.startswith("_") and (inspect.isfunction(attribute) or isinstance(attribute, property)):
                yield name, attribute
        for base in member.__bases__:
            if base.__module__.startswith("layertap._"):
                yield from own_attributes(base)


def call_of(function: Callable[..., Any]) -> str:
    """Return the signature as the source writes it."""
    parameters, returns = signature_of(function)
    return f"({', '.join(parameters)}){returns}"


def signature_of(function: Callable[..., Any]) -> tuple[list[str], str]:
    """Return the parameters and the return annotation, as the source writes them."""
    signature = inspect.signature(function)
    parameters: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if parameter.name != "self":
            parameters.append(remove_quotes(str(parameter)))
    result = signature.return_annotation
    return parameters, "" if inspect.isclass(function) or result in {signature.empty, "None"} else f" -> {result}"


def remove_quotes(parameter: str) -> str:
    """Return a parameter without the quotes around its annotation."""
    return re.sub(r""": (['"])(.*?)\1""", r": \2", parameter, count=1)


def main() -> None:
    """Write the pin."""
    PIN.write_text(public_api(), encoding="utf-8")


if __name__ == "__main__":
    main()
