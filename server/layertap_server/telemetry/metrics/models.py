"""The models that there are, and how loading them went; what is gone from the repository is told of no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layertap.types import ModelInfo, ModelState

STATES = (ModelState.READY, ModelState.LOADING, ModelState.FAILED, ModelState.UNLOADED)
OUTCOMES = ("ok", "failed")
LABELS = ["model", "version"]


class ModelCollector(Collector):
    """Asks for the models when it is scraped."""

    def __init__(self, infos: Callable[[], Sequence[ModelInfo]]) -> None:
        self._infos = infos
        self._seconds: dict[tuple[str, str], float] = {}
        self._loads: Counter[tuple[str, str]] = Counter()

    def loaded(self, model: ModelInfo, seconds: float) -> None:
        """A version was loaded, or failed to."""
        self._seconds[model.name, model.version] = seconds
        self._loads[model.name, "failed" if model.state is ModelState.FAILED else "ok"] += 1

    def collect(self) -> Iterator[Metric]:
        infos = self._infos()
        states = GaugeMetricFamily("layertap_models", "Models by state.", labels=["state"])
        for state in STATES:
            states.add_metric([state], sum(info.state is state for info in infos))
        ready = GaugeMetricFamily("layertap_model_ready", "Whether the model serves.", labels=LABELS)
        for info in infos:
            ready.add_metric([info.name, info.version], info.state is ModelState.READY)
        loads = CounterMetricFamily("layertap_model_loads", "Attempts to load.", labels=["model", "outcome"])
        for name in sorted({info.name for info in infos}):
            for outcome in OUTCOMES:
                loads.add_metric([name, outcome], self._loads[name, outcome])
        return iter((states, ready, loads, self.load_seconds("layertap_model_load_seconds")))

    def known(self) -> set[tuple[str, str]]:
        """Name and version of each."""
        return {(info.name, info.version) for info in self._infos()}

    def load_seconds(self, name: str) -> GaugeMetricFamily:
        """How long the last attempt took, under this name."""
        family = GaugeMetricFamily(name, "How long the last attempt to load took.", labels=LABELS)
        for info in self._infos():
            seconds = self._seconds.get((info.name, info.version))
            if seconds is not None:
                family.add_metric([info.name, info.version], seconds)
        return family
