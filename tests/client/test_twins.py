"""Test that the two clients have the same methods, with the same parameters and return types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from layertap import AsyncClient, Client

METHODS = sorted(name for name in dir(Client) if not name.startswith("_"))


def signature(method: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a method."""
    return inspect.signature(method)


def test_neither_has_a_method_that_the_other_lacks() -> None:
    """Check that both clients have the same methods."""
    assert sorted(name for name in dir(AsyncClient) if not name.startswith("_")) == METHODS


@pytest.mark.parametrize("name", ["__init__", *METHODS])
def test_parameters_and_answers_are_the_same(name: str) -> None:
    """Check that a method has the same parameters and return type in both clients."""
    ours, twins = signature(getattr(Client, name)), signature(getattr(AsyncClient, name))
    assert list(ours.parameters) == list(twins.parameters)
    for parameter, twin in zip(ours.parameters.values(), twins.parameters.values(), strict=True):
        assert (parameter.kind, parameter.default) == (twin.kind, twin.default)
        kinds, twin_kinds = (set(str(one.annotation).split(" | ")) for one in (parameter, twin))
        assert kinds <= twin_kinds  # the asyncio client also accepts asynchronous iterables
    assert str(twins.return_annotation).removeprefix("Async") == str(ours.return_annotation)
