"""Attribution: how much each position contributed to a target, from runs on the images and on changed images."""

from layertap_server.inference.attribution.attributor import Attributor

__all__ = ["Attributor"]
