"""Describe the totals of models as the Open Inference Protocol does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layertap_server.request.totals import Totals
from layertap_server.rpc.oip.messages import message_class

ModelStatisticsResponse = message_class("ModelStatisticsResponse")


def describe_statistics(models: Sequence[tuple[str, str]], totals: Mapping[tuple[str, str], Totals]) -> Any:
    """Return the statistics of these models, by name and version."""
    response = ModelStatisticsResponse()
    for name, version in models:
        of = totals.get((name, version), Totals())
        model = response.model_stats.add(
            name=name,
            version=version,
            last_inference=of.last_ms,
            inference_count=of.images,
            execution_count=of.runs,
        )
        _add_durations(model.inference_stats, of)
        for size, count in sorted(of.batches.items()):
            model.batch_stats.add(batch_size=size).compute_infer.count = count
    return response


def _add_durations(message: Any, of: Totals) -> None:
    """Fill in the counts and durations of requests."""
    message.success.count, message.success.ns = of.success, round(of.request_us * 1000)
    message.fail.count, message.fail.ns = sum(of.failures.values()), round(of.failed_us * 1000)
    for name, microseconds in of.durations_us.items():
        duration = getattr(message, name)
        duration.count, duration.ns = of.success, round(microseconds * 1000)
