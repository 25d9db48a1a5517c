"""Find channels that are never active: statistics of every activation over a few photographs.

The server computes the statistics inside the network, so no maps are transferred. Needs scikit-image and scikit-learn.
"""

from __future__ import annotations

from _photographs import photographs
from _server import server_address
from layertap import Client

MODEL = "efficientnet_lite0"


def main() -> None:
    """Print the layers with dead or mostly zero channels."""
    pictures = photographs()
    with server_address() as address, Client(address) as client:
        statistics = client.inspect(pictures.values(), model=MODEL)
        channels = {layer.name: layer.channels or 0 for layer in client.layers(MODEL, "all:activations")}

    print(f"{MODEL} over {len(pictures)} photographs; layers with dead channels or more than 60 % zeros\n")
    print(f"{'layer':<30}{'channels':>9}{'dead':>6}{'zeros':>8}{'saturated':>11}{'mean':>8}{'max':>9}")
    for layer in statistics:
        if layer.dead_channels or layer.zero_fraction > 0.6:
            print(
                f"{layer.layer:<30}{channels[layer.layer]:>9}{layer.dead_channels:>6}{layer.zero_fraction:>8.0%}"
                f"{layer.saturated_fraction:>11.0%}{layer.mean:>8.2f}{layer.max:>9.2f}"
            )
    dead, total = sum(layer.dead_channels for layer in statistics), sum(channels.values())
    print(f"\ndead channels: {dead} of {total} ({dead / total:.1%})")
    print("A channel that is dead over so few photographs may still be active for others.")


if __name__ == "__main__":
    main()
