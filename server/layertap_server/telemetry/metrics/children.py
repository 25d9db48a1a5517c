"""A metric's children by the values of its labels: prometheus_client's own look-up takes a lock and makes strings."""

from __future__ import annotations

from typing import Generic, TypeVar

from prometheus_client.metrics import MetricWrapperBase

Metric = TypeVar("Metric", bound=MetricWrapperBase)


class Children(Generic[Metric]):
    """The children of one metric that has labels."""

    def __init__(self, metric: Metric) -> None:
        self._metric: Metric = metric
        self._known: dict[tuple[str, ...], Metric] = {}

    def of(self, *values: str) -> Metric:
        """The child with these values, in the order of the labels; a new one begins at 0."""
        child = self._known.get(values)
        if child is None:
            child = self._known[values] = self._metric.labels(*values)
        return child
