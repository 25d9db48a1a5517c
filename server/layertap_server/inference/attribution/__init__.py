"""Attribution: maps of what a target came from, computed by runs of the engine on the images and on changed images."""

from layertap_server.inference.attribution.attributor import Attributor

__all__ = ["Attributor"]
