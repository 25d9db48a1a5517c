"""The methods of attribution: what they compute, their parameters, and the papers that introduced them."""

from __future__ import annotations

from dataclasses import dataclass

from layertap._nearest import did_you_mean, nearest
from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import Signature
from layertap.errors import UnknownMethodError

BASELINES = ("zero", "black", "white", "grey")
"""Images that stand for the absence of a picture: 0 after the preprocessing, or a colour before it."""


@dataclass(frozen=True, slots=True)
class MethodSpec(Signature):
    """A method of attribution."""

    name: str
    summary: str
    """What the method computes."""
    formula: str
    """Formula of the map; y is the target, x the image input, A the layer's values, g the gradient."""
    source: str
    """Publication that introduced the method."""
    parameters: tuple[Parameter, ...] = ()
    needs_layer: bool = False
    """Whether the map has the positions of a layer; otherwise it has those of the image input."""
    needs_gradient: bool = True
    """Whether the method needs gradients, so that every operator on the way must have a rule."""


def _integer(name: str, default: int, minimum: int, maximum: int, doc: str) -> Parameter:
    """Return a parameter that is an integer."""
    return Parameter(name, ParameterType.INTEGER, default=default, minimum=minimum, maximum=maximum, doc=doc)


def _number(name: str, default: float, minimum: float, maximum: float, doc: str) -> Parameter:
    """Return a parameter that is a number."""
    return Parameter(name, ParameterType.NUMBER, default=default, minimum=minimum, maximum=maximum, doc=doc)


def _baseline(name: str, doc: str) -> Parameter:
    """Return a parameter that is one of `BASELINES`."""
    return Parameter(name, ParameterType.WORD, default="zero", choices=BASELINES, doc=doc)


_SEED = _integer("seed", 0, 0, 2**31 - 1, "seed of the random numbers; the same seed gives the same map")

METHODS = (
    MethodSpec(
        "grad_cam",
        "Weight the channels of a layer by the means of their gradients.",
        "relu(Σ_c mean(g_c)·A_c)",
        "Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391",
        needs_layer=True,
    ),
    MethodSpec(
        "grad_cam_plus_plus",
        "Weight the channels of a layer by a weighted mean of their positive gradients.",
        "relu(Σ_c w_c·A_c), w_c = Σ relu(g_c)·g_c² / (2·g_c² + ΣA_c·g_c³)",
        "Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063",
        needs_layer=True,
    ),
    MethodSpec(
        "x_grad_cam",
        "Weight the channels of a layer by the means of their gradients, weighted by their values.",
        "relu(Σ_c w_c·A_c), w_c = Σ g_c·A_c / Σ A_c",
        "Fu et al. 2020, https://arxiv.org/abs/2008.02312",
        needs_layer=True,
    ),
    MethodSpec(
        "layer_cam",
        "Weight each position of each channel of a layer by its positive gradient.",
        "relu(Σ_c relu(g_c)·A_c)",
        "Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943",
        needs_layer=True,
    ),
    MethodSpec(
        "hires_cam",
        "Weight each position of each channel of a layer by its gradient.",
        "relu(Σ_c g_c·A_c)",
        "Draelos and Carin 2020, https://arxiv.org/abs/2011.08891",
        needs_layer=True,
    ),
    MethodSpec(
        "eigen_cam",
        "Project the values of a layer onto their first principal component; the target has no influence.",
        "A·v, v the first right singular vector of the centred positions × channels of A",
        "Muhammad and Yeasin 2020, https://arxiv.org/abs/2008.00299",
        needs_layer=True,
        needs_gradient=False,
    ),
    MethodSpec(
        "score_cam",
        "Weight the channels of a layer by the target of the image that each channel masks.",
        "relu(Σ_c softmax_c(y(x∘m_c))·A_c), m_c = A_c at the size of the image, scaled to 0…1",
        "Wang et al. 2020, https://arxiv.org/abs/1910.01279",
        needs_layer=True,
        needs_gradient=False,
    ),
    MethodSpec(
        "ablation_cam",
        "Weight the channels of a layer by how much the target falls when the channel is set to 0.",
        "relu(Σ_c w_c·A_c), w_c = (y - y(A with A_c = 0)) / |y|",
        "Desai and Ramaswamy 2020, https://doi.org/10.1109/WACV45572.2020.9093360",
        needs_layer=True,
        needs_gradient=False,
    ),
    MethodSpec(
        "recipro_cam",
        "Return the target when only one position of the layer and its neighbours are kept, for each position.",
        "y(A∘k_p), k_p the binomial kernel 3×3 around the position p",
        "Byun and Lee 2022, https://arxiv.org/abs/2209.14074",
        needs_layer=True,
        needs_gradient=False,
    ),
    MethodSpec(
        "saliency",
        "Return the largest magnitude of the gradient among the channels of the image.",
        "max_c |g_c|",
        "Simonyan et al. 2014, https://arxiv.org/abs/1312.6034",
    ),
    MethodSpec(
        "guided_backprop",
        "Return saliency with a gradient for which relu passes positive values only.",
        "max_c |g_c|, where the gradient of relu(a) is relu(g)·[a > 0]",
        "Springenberg et al. 2015, https://arxiv.org/abs/1412.6806",
    ),
    MethodSpec(
        "input_x_gradient",
        "Return the product of the image and its gradient, summed over the channels.",
        "Σ_c x_c·g_c",
        "Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713",
    ),
    MethodSpec(
        "integrated_gradients",
        "Integrate the gradient on the line from a baseline to the image, by the trapezoidal rule.",
        "Σ_c (x_c - b_c)·Σ_k w_k·g_c(b + k/steps·(x - b)), w_k = 1/steps, half of it at both ends",
        "Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365",
        parameters=(
            _integer("steps", 32, 1, 1024, "number of steps; doubled until the tolerance or most_steps is reached"),
            _integer("most_steps", 128, 1, 4096, "maximum number of steps"),
            _number("tolerance", 0.05, 0, 1, "accepted share of y(x) - y(b) that the map's sum lacks"),
            _baseline("baseline", "the image b"),
        ),
    ),
    MethodSpec(
        "smooth_grad",
        "Return the mean magnitude of the gradient over noisy copies of the image, largest among its channels.",
        "max_c |mean_k g_c(x + std·(max x - min x)·n_k)|",
        "Smilkov et al. 2017, https://arxiv.org/abs/1706.03825",
        parameters=(
            _integer("samples", 16, 1, 1024, "number of noisy copies"),
            _number("std", 0.15, 0, 10, "standard deviation of the noise, as a fraction of the image's range"),
            _SEED,
        ),
    ),
    MethodSpec(
        "occlusion",
        "Return by how much the target falls when a window of the image is covered, as a mean over the windows.",
        "mean over the windows w that cover a pixel of y(x) - y(x covered at w)",
        "Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901",
        parameters=(
            _integer("window", 32, 1, 4096, "height and width of the window in pixels of the image input"),
            _integer("stride", 16, 1, 4096, "distance between windows in pixels"),
            _baseline("fill", "what covers the window"),
        ),
        needs_gradient=False,
    ),
    MethodSpec(
        "rise",
        "Return the mean of random masks, weighted by the target of the image that each mask covers.",
        "Σ_k y(x∘m_k)·m_k / Σ_k m_k, minus the mean of y(x∘m_k)",
        "Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421",
        parameters=(
            _integer("masks", 256, 1, 8192, "number of masks"),
            _integer("cells", 7, 1, 64, "rows and columns of a mask before it is enlarged"),
            _number("keep", 0.5, 0.01, 0.99, "probability that a cell shows the image"),
            _baseline("fill", "what covers the image"),
            _SEED,
        ),
        needs_gradient=False,
    ),
    MethodSpec(
        "attention_rollout",
        "Multiply the attention of all layers, with the residual connection; the target has no influence.",
        "Π_l ½(I + mean_heads P_l), the class token's row, or the mean over rows without a class token",
        "Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928",
        needs_gradient=False,
    ),
)
"""All methods."""

_BY_NAME = {spec.name: spec for spec in METHODS}
"""Methods by name."""


def get(name: str) -> MethodSpec:
    """Return the method with this name.

    Raises:
        UnknownMethodError: there is none; its suggestions are similar names.
    """
    spec = _BY_NAME.get(name)
    if spec is None:
        suggestions = nearest(name, _BY_NAME)
        message = f"there is no method {name!r}{did_you_mean(suggestions)}; the methods are {', '.join(_BY_NAME)}"
        raise UnknownMethodError(message, method=name, suggestions=suggestions)
    return spec
