"""The server's Prometheus metrics. No value of a label is a caller's text."""

from layertap_server.telemetry.metrics.service import Metrics

__all__ = ["Metrics"]
