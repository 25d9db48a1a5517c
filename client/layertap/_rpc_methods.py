"""Methods of both clients. Generated from the table of RPCs by ``make generated``; do not edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from layertap._calls import Call, call_of
from layertap.blocks.spec import BlockSpec
from layertap.types import (
    GetModelRequest,
    LayerInfo,
    ListBlocksRequest,
    ListLayersRequest,
    ListModelsRequest,
    LoadModelRequest,
    ModelInfo,
    Preview,
    PreviewRequest,
    Tap,
    UnloadModelRequest,
    as_names,
    as_sequence,
)
from layertap.wire import rpcs

Reply = TypeVar("Reply")


class RpcMethods(ABC):
    """Methods of the blocking client that make one call and return its response."""

    @abstractmethod
    def _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        """Make a call and return its decoded response."""

    def preview(
        self,
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        image_count: int = 1,
        version: str = "",
        target: Tap | str = "",
        edits: Tap | str | Sequence[Tap | str] = (),
        feeds: str | Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> Preview:
        """Preview `extract`: return its results and cost for ``image_count`` images without running the model.

        ``feeds`` are selectors of the layers that `extract` will get values for in its ``inputs``.
        """
        request = PreviewRequest(
            model=model,
            taps=as_sequence(taps),
            image_count=image_count,
            version=version,
            target=target,
            edits=as_sequence(edits),
            feeds=as_names(feeds),
        )
        return self._call(call_of(rpcs.PREVIEW_EXTRACT, request), timeout_seconds)

    def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Return every model of the server, including those that failed to load."""
        request = ListModelsRequest()
        return self._call(call_of(rpcs.LIST_MODELS, request), timeout_seconds)

    def model(self, name: str, *, version: str = "", timeout_seconds: float | None = None) -> ModelInfo:
        """Return one model, with its class names."""
        request = GetModelRequest(name=name, version=version)
        return self._call(call_of(rpcs.GET_MODEL, request), timeout_seconds)

    def layers(
        self,
        model: str,
        selector: str = "",
        *,
        image_height: int = 0,
        image_width: int = 0,
        version: str = "",
        timeout_seconds: float | None = None,
    ) -> list[LayerInfo]:
        """Return the layers of a model in execution order; with a selector, only the layers that it matches."""
        request = ListLayersRequest(
            model=model, selector=selector, image_height=image_height, image_width=image_width, version=version
        )
        return self._call(call_of(rpcs.LIST_LAYERS, request), timeout_seconds).layers

    def blocks(self, name: str = "", *, timeout_seconds: float | None = None) -> list[BlockSpec]:
        """Return the server's block catalogue, or only the entry called ``name``."""
        request = ListBlocksRequest(name=name)
        return self._call(call_of(rpcs.LIST_BLOCKS, request), timeout_seconds)

    def load_model(self, name: str, *, timeout_seconds: float | None = None) -> ModelInfo:
        """Load or reload a model of the server's repository; the operator must have allowed it.

        Raises:
            ControlDisabledError: the operator has not allowed it.
            ModelFailedError: the model cannot be loaded; the version loaded before stays in service.
        """
        request = LoadModelRequest(name=name)
        return self._call(call_of(rpcs.LOAD_MODEL, request), timeout_seconds)

    def unload_model(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Take a model out of service until it is loaded again; raise the same errors as `load_model`."""
        request = UnloadModelRequest(name=name)
        self._call(call_of(rpcs.UNLOAD_MODEL, request), timeout_seconds)


class AsyncRpcMethods(ABC):
    """Methods of the asyncio client that make one call and return its response."""

    @abstractmethod
    async def _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        """Make a call and return its decoded response."""

    async def preview(
        self,
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        image_count: int = 1,
        version: str = "",
        target: Tap | str = "",
        edits: Tap | str | Sequence[Tap | str] = (),
        feeds: str | Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> Preview:
        """Preview `extract`: return its results and cost for ``image_count`` images without running the model.

        ``feeds`` are selectors of the layers that `extract` will get values for in its ``inputs``.
        """
        request = PreviewRequest(
            model=model,
            taps=as_sequence(taps),
            image_count=image_count,
            version=version,
            target=target,
            edits=as_sequence(edits),
            feeds=as_names(feeds),
        )
        return await self._call(call_of(rpcs.PREVIEW_EXTRACT, request), timeout_seconds)

    async def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Return every model of the server, including those that failed to load."""
        request = ListModelsRequest()
        return await self._call(call_of(rpcs.LIST_MODELS, request), timeout_seconds)

    async def model(self, name: str, *, version: str = "", timeout_seconds: float | None = None) -> ModelInfo:
        """Return one model, with its class names."""
        request = GetModelRequest(name=name, version=version)
        return await self._call(call_of(rpcs.GET_MODEL, request), timeout_seconds)

    async def layers(
        self,
        model: str,
        selector: str = "",
        *,
        image_height: int = 0,
        image_width: int = 0,
        version: str = "",
        timeout_seconds: float | None = None,
    ) -> list[LayerInfo]:
        """Return the layers of a model in execution order; with a selector, only the layers that it matches."""
        request = ListLayersRequest(
            model=model, selector=selector, image_height=image_height, image_width=image_width, version=version
        )
        return (await self._call(call_of(rpcs.LIST_LAYERS, request), timeout_seconds)).layers

    async def blocks(self, name: str = "", *, timeout_seconds: float | None = None) -> list[BlockSpec]:
        """Return the server's block catalogue, or only the entry called ``name``."""
        request = ListBlocksRequest(name=name)
        return await self._call(call_of(rpcs.LIST_BLOCKS, request), timeout_seconds)

    async def load_model(self, name: str, *, timeout_seconds: float | None = None) -> ModelInfo:
        """Load or reload a model of the server's repository; the operator must have allowed it.

        Raises:
            ControlDisabledError: the operator has not allowed it.
            ModelFailedError: the model cannot be loaded; the version loaded before stays in service.
        """
        request = LoadModelRequest(name=name)
        return await self._call(call_of(rpcs.LOAD_MODEL, request), timeout_seconds)

    async def unload_model(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Take a model out of service until it is loaded again; raise the same errors as `load_model`."""
        request = UnloadModelRequest(name=name)
        await self._call(call_of(rpcs.UNLOAD_MODEL, request), timeout_seconds)
