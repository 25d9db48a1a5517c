"""The methods of the blocking client whose response may arrive in chunks: maps, applied blocks and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from layertap import _calls, _delivery
from layertap._rows import payloads_of, to_inputs
from layertap._sending import Sender
from layertap.images import ImageLike
from layertap.types import (
    ApplyRequest,
    Array,
    AttributeRequest,
    Attribution,
    Block,
    FeatureMap,
    Layout,
    Tap,
    Target,
    TargetChoice,
    WeightsRequest,
    as_sequence,
)


class ChunkedMethods(Sender):
    """Methods that make one call whose response may arrive in chunks."""

    def attribute(
        self,
        images: ImageLike | Iterable[ImageLike] | None = None,
        *,
        model: str,
        method: str = "grad_cam",
        layer: str = "",
        target: Tap | str = "",
        target_index: TargetChoice = "top",
        size: Literal["input", "layer"] = "input",
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        edits: Tap | str | Sequence[Tap | str] = (),
        timeout_seconds: float | None = None,
    ) -> Attribution:
        """Return maps of how much each position contributed to the target of each image, such as Grad-CAM.

        Args:
            images: as for `extract`.
            model: the model's name.
            method: a method with its parameters, such as ``"integrated_gradients(steps=64)"``;
                `layertap.methods.METHODS` lists them.
            layer: selector of the layer for methods that need one; if empty, ``stage:-1``.
            target: the target, as for `extract`.
            target_index: which number of the target's vector, as for `extract`.
            size: ``"input"`` for maps of the size of the image input, ``"layer"`` for maps of the layer's size.
            version: the model's version; if empty, the newest.
            inputs: values for the model's inputs that are not images, by input name, and for layers, by selector.
            edits: edits of the network, as for `extract`.
            timeout_seconds: this call's deadline in seconds.

        Raises:
            UnknownMethodError: there is no such method.
            NotDifferentiableError: the method needs a gradient that cannot be computed.
            TooExpensiveError: the method's runs exceed the server's limit for one request.
        """
        goal = Target.of(target, target_index)
        payloads = payloads_of(images)
        request = AttributeRequest(
            model, payloads, method, layer, goal, size, version, to_inputs(inputs), as_sequence(edits)
        )
        result = self._perform(_calls.attribute(request), timeout_seconds)
        self._assumptions.warn(model, result.assumed_preprocessing)
        return result

    def apply_blocks(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        gradient: Array | None = None,
        timeout_seconds: float | None = None,
    ) -> Array:
        """Apply a head to an array of your own, batch first; no model is needed.

        Args:
            array: an array N×C×H×W, N×T×C or N×C, or of the layout given by ``layout``.
            head: blocks as in a tap expression (``"relu | gap"``), or `Block`s.
            layout: the meaning of the axes; if None, it is derived from the number of axes.
            gradient: gradient with respect to the head's result, of its shape. If given, the gradient with respect to
                the array is returned: the vector-Jacobian product of the head.
            timeout_seconds: this call's deadline in seconds.
        """
        return self.apply_blocks_map(
            array, head, layout=layout, gradient=gradient, timeout_seconds=timeout_seconds
        ).array

    def apply_blocks_map(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        gradient: Array | None = None,
        timeout_seconds: float | None = None,
    ) -> FeatureMap:
        """Apply a head as `apply_blocks` does; return the array with its layout and, after ``quantize``, its scale."""
        request = ApplyRequest(array, head if isinstance(head, str) else tuple(head), layout, gradient)
        return self._run_delivery(_delivery.apply_blocks(request), timeout_seconds)

    def weights(
        self, model: str, layer: str, *, version: str = "", timeout_seconds: float | None = None
    ) -> dict[str, Array]:
        """Return the parameters of layers, such as filters and biases, as they are stored, by name.

        The server must run with ``--weights``, and a token needs the role ``weights``: this hands out the model.

        Args:
            model: the model's name.
            layer: selector of the layers; `Client.layers` lists their parameters.
            version: the model's version; if empty, the newest.
            timeout_seconds: this call's deadline in seconds.

        Raises:
            WeightsDisabledError: the operator does not allow it.
        """
        request = WeightsRequest(model, layer, version=version)
        return self._perform(_calls.weights(request), timeout_seconds)
