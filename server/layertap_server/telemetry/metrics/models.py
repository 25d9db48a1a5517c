"""Metrics of the models in the repository and of their loading. A removed model disappears from the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layertap.types import ModelInfo, ModelState

STATES = (ModelState.READY, ModelState.LOADING, ModelState.FAILED, ModelState.UNLOADED)
"""Values of the label ``state``."""
OUTCOMES = ("ok", "failed")
"""Values of the label ``outcome``."""
LABELS = ["model", "version"]
"""Labels of the metrics of one version of a model."""


class ModelCollector(Collector):
    """Collector that reads the models from the repository at each scrape."""

    def __init__(self, infos: Callable[[], Sequence[ModelInfo]]) -> None:
        """Report the models that ``infos`` returns."""
        self._infos = infos
        self._seconds: dict[tuple[str, str], float] = {}
        """Duration of the last load by model and version, in seconds."""
        self._loads: Counter[tuple[str, str]] = Counter()
        """Number of loads by model and outcome."""

    def count_load(self, model: ModelInfo, seconds: float) -> None:
        """Count an attempt to load a version, successful or failed, and its duration."""
        self._seconds[model.name, model.version] = seconds
        self._loads[model.name, "failed" if model.state is ModelState.FAILED else "ok"] += 1

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the models that exist now."""
        infos = self._infos()
        states = GaugeMetricFamily("layertap_models", "Versions of models by state.", labels=["state"])
        for state in STATES:
            states.add_metric([state], sum(info.state is state for info in infos))
        ready = GaugeMetricFamily("layertap_model_ready", "1 if the model is ready, else 0.", labels=LABELS)
        for info in infos:
            ready.add_metric([info.name, info.version], info.state is ModelState.READY)
        loads = CounterMetricFamily("layertap_model_loads", "Attempts to load a model.", labels=["model", "outcome"])
        for name in sorted({info.name for info in infos}):
            for outcome in OUTCOMES:
                loads.add_metric([name, outcome], self._loads[name, outcome])
        return iter((states, ready, loads, self.load_seconds("layertap_model_load_seconds")))

    def current_versions(self) -> set[tuple[str, str]]:
        """Return the name and version of each model that exists now."""
        return {(info.name, info.version) for info in self._infos()}

    def load_seconds(self, name: str) -> GaugeMetricFamily:
        """Return the duration of the last attempt to load each model, as a metric of this name."""
        family = GaugeMetricFamily(name, "Duration of the last attempt to load the model.", labels=LABELS)
        for info in self._infos():
            seconds = self._seconds.get((info.name, info.version))
            if seconds is not None:
                family.add_metric([info.name, info.version], seconds)
        return family
