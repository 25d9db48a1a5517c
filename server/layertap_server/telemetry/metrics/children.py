"""A cache of a metric's children by label values; prometheus_client's own look-up takes a lock and builds strings."""

from __future__ import annotations

from typing import Generic, TypeVar

from prometheus_client.metrics import MetricWrapperBase

Metric = TypeVar("Metric", bound=MetricWrapperBase)
"""Class of the metric."""


class Children(Generic[Metric]):
    """The children of one metric with labels."""

    def __init__(self, metric: Metric) -> None:
        """Look up the children of ``metric``."""
        self._metric: Metric = metric
        self._known: dict[tuple[str, ...], Metric] = {}

    def of(self, *values: str) -> Metric:
        """Return the child with these label values, in the order of the labels; create it at 0 if it is new."""
        child = self._known.get(values)
        if child is None:
            child = self._known[values] = self._metric.labels(*values)
        return child
