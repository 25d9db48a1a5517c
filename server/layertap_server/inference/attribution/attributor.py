"""`Attributor`, which runs a method of attribution on the images of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import BadParameterError, LayertapError
from layertap.expression import format_block, parse_method
from layertap.methods import METHODS, get
from layertap.types import AttributeRequest, Attribution, Block
from layertap_server.inference.attribution import ablation, attention, cams, gradients, perturbations
from layertap_server.inference.attribution.resampling import resize_maps
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import Subject
from layertap_server.inference.engine import Engine
from layertap_server.inference.response import assumed_preprocessing
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request.context import RequestContext

RUN: Mapping[str, Callable[[Subject, BoundBlock], Maps]] = {
    **dict.fromkeys(cams.WITH_GRADIENT, cams.explain_with_gradient),
    "eigen_cam": cams.eigen_cam,
    "score_cam": cams.score_cam,
    "ablation_cam": ablation.ablation_cam,
    "recipro_cam": ablation.recipro_cam,
    "saliency": gradients.saliency,
    "guided_backprop": gradients.guided_backprop,
    "input_x_gradient": gradients.input_x_gradient,
    "integrated_gradients": gradients.integrated_gradients,
    "smooth_grad": gradients.smooth_grad,
    "occlusion": perturbations.occlusion,
    "rise": perturbations.rise,
    "attention_rollout": attention.attention_rollout,
}
"""Python function that computes each attribution method of `layertap.methods`, by the method's name."""


@dataclass(frozen=True, slots=True)
class Attributor:
    """Attribution on loaded models; safe to call from any number of threads."""

    engine: Engine

    def attribute(self, model: LoadedModel, request: AttributeRequest, context: RequestContext) -> Attribution:
        """Return maps of how much each position contributed to the target of each image.

        Args:
            model: the model that the request names.
            request: the images, the method and the target.
            context: context of the request.

        Raises:
            LayertapError: the request is not valid, exceeds a limit or cannot be computed; see `layertap.errors`.
        """
        try:
            options = parse_method(request.method)
        except LayertapError as error:
            raise error.about_field("method") from None
        if request.layer and not get(options.name).needs_layer:
            names = ", ".join(spec.name for spec in METHODS if spec.needs_layer)
            message = f"{options.name} explains the image and takes no layer; the methods with a layer are {names}"
            raise BadParameterError(message, field="layer", method=options.name)
        subject = Subject(replace(self.engine, responses=ResponseCache(0)), model, request, context)
        maps = RUN[options.name](subject, options)
        values = maps.values
        if maps.layer and request.size == "input":
            height, width = subject.image_size
            self.engine.limits.check_response({"maps": 4 * len(values) * height * width})
            values = resize_maps(values, height, width)
        return Attribution(
            maps=np.ascontiguousarray(values, np.float32),
            method=format_block(
                Block(options.name, {key: value for key, value in options.values if value is not None})
            ),
            layer=maps.layer,
            target=subject.found.text if maps.targets else "",
            targets=maps.targets,
            missing=maps.missing,
            warning=maps.warning,
            model=model.info.name,
            version=model.info.version,
            assumed_preprocessing=assumed_preprocessing(model, request.images),
        )
