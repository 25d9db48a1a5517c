"""The gauges of a server, whose values are read from its parts at each scrape."""

from __future__ import annotations

from layertap import __version__
from layertap_server.app import Parts
from layertap_server.models.repository import Repository
from layertap_server.runtime.cgroup import available_memory_bytes


def add_gauges(parts: Parts, repository: Repository) -> None:
    """Add the metrics whose values are read from the parts at each scrape."""
    settings, metrics, computation = parts.settings, parts.metrics, parts.computation
    device = computation.runtime.device
    metrics.add_info(version=__version__, device=device)
    metrics.watch_models(repository.infos)
    if device != "CPU":
        metrics.watch_devices()
    if settings.triton_metrics:
        metrics.add_triton_names()
    _add_caches(parts)
    _add_load(parts)
    tokens = parts.entry.tokens
    metrics.add_gauge(
        "layertap_tokens_stale",
        "1 if the tokens file is unusable and its former tokens remain valid, else 0.",
        lambda: tokens.is_stale if tokens else 0,
    )
    metrics.add_gauge(
        "layertap_memory_limit_bytes",
        "Memory limit of the process: its container's or the machine's.",
        available_memory_bytes,
    )


def _add_caches(parts: Parts) -> None:
    """Add the gauges of the plan store and the response cache."""
    settings, computation = parts.settings, parts.computation
    store, responses, add = computation.store, computation.responses, parts.metrics.add_gauge
    add("layertap_plans", "Compiled plans in the cache.", lambda: len(store))
    add("layertap_plan_bytes", "Estimated memory of the compiled plans.", lambda: store.used_bytes)
    add("layertap_plan_budget_bytes", "Maximum memory of the compiled plans.", lambda: settings.plan_cache_bytes)
    add("layertap_plan_threads", "Threads of the compiled plans.", lambda: store.used_threads)
    add("layertap_plan_threads_budget", "Maximum threads of the compiled plans.", lambda: computation.plan_threads)
    add("layertap_response_cache_bytes", "Bytes of the cached responses.", lambda: responses.used_bytes)


def _add_load(parts: Parts) -> None:
    """Add the gauges of requests, streams and runs in progress."""
    dispatcher, batcher, add = parts.dispatcher, parts.computation.batcher, parts.metrics.add_gauge
    waiting = parts.settings.max_waiting
    add("layertap_requests_admitted", "Requests for features that wait or run.", lambda: dispatcher.admitted)
    add("layertap_requests_waiting", "Requests for features that wait for a worker.", lambda: dispatcher.waiting)
    add("layertap_requests_waiting_limit", "Maximum requests that may wait for a worker.", lambda: waiting)
    add("layertap_streams", "Open streams.", lambda: dispatcher.streams)
    add("layertap_runs", "Runs of models in progress.", lambda: batcher.running)
    add("layertap_runs_waiting", "Parts of requests that wait for a run.", lambda: batcher.waiting)
