"""What an operator watches, as Prometheus metrics. No label's value comes from a caller's text."""

from layertap_server.telemetry.metrics.service import Metrics

__all__ = ["Metrics"]
