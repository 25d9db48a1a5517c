"""Find the layers that a request feeds, and check that something reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from layertap.errors import BadFeedError
from layertap_server.graph import INPUT, Feed, ModelGraph, computed_layers
from layertap_server.planning.selectors import Selectors


def find_feeds(selectors: Selectors, names: Iterable[str]) -> dict[str, str]:
    """Return the layers that a request feeds, by the name under which it gives the values.

    Args:
        selectors: the index of the layers.
        names: selectors of single layers.

    Raises:
        BadFeedError: a name stands for several layers, for gradients or for an input; or two stand for one layer.
        UnknownLayerError, AmbiguousLayerError, NotTappableError: a name is no valid selector.
    """
    found: dict[str, str] = {}
    for name in names:
        selection = selectors.find_tapped(name)
        if selection.is_gradient or not selection.single:
            what = "gradients" if selection.is_gradient else f"{len(selection.layers)} layers"
            raise BadFeedError(f"expected one layer to feed, got {name!r}, which names {what}", field="inputs")
        layer = selection.layers[0]
        if layer.op_type == INPUT:
            message = f"{name!r} is the model's input {layer.name!r}; give its values under that name"
            raise BadFeedError(message, field="inputs", input=layer.name)
        for other, fed in found.items():
            if fed == layer.name:
                message = f"{other!r} and {name!r} in inputs are one layer, {fed!r}; feed it once"
                raise BadFeedError(message, field="inputs", layer=fed)
        found[name] = layer.name
    return found


def check_feeds_read(feeds: Iterable[Feed], layers: Collection[str], graph: ModelGraph) -> None:
    """Check that each feed is read.

    Args:
        feeds: the feeds.
        layers: layers that the plan computes.
        graph: the model with the feeds.

    Raises:
        BadFeedError: no tap reads the layer of a feed.
    """
    computed = computed_layers(graph, layers)
    for feed in feeds:
        if feed.layer not in computed:
            message = (
                f"no tap reads {feed.layer!r}: the taps are before it, or other feeds replace all that is computed "
                "from it; leave the feed out"
            )
            raise BadFeedError(message, field="inputs", layer=feed.layer)
