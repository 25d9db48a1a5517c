"""Write ``deploy/grafana/dashboards/layertap.json``: rows of panels with Prometheus queries (``make generated``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards" / "layertap.json"
"""Path of the dashboard."""
SOURCE = {"type": "prometheus", "uid": "prometheus"}
"""Grafana's data source."""
WIDTH, HEIGHT = 24, 8
"""Width of the dashboard and height of a panel, in Grafana's grid units."""
HERE = 'instance=~"$instance"'
"""Label filter for the servers chosen in the dashboard."""
SERVERS = 'job="layertap"'
"""Label filter that excludes Prometheus's own process, which exports the same metric names."""


@dataclass(frozen=True)
class Panel:
    """One panel of the dashboard."""

    title: str
    """Title."""
    unit: str
    """Grafana's unit of the values."""
    queries: dict[str, str]
    """Prometheus expression by legend."""
    width: int = 8
    """Width in 24ths of the dashboard."""
    is_figure: bool = False
    """Whether to show one large number instead of a curve."""


def rate(metric: str, by: str = "", labels: str = "") -> str:
    """Return the query of a counter's rate per second, summed by labels."""
    grouped = f"sum by ({by}) " if by else "sum "
    selector = f"{HERE}, {labels}" if labels else HERE
    return f"{grouped}(rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(q: float, metric: str, by: str = "", labels: str = "") -> str:
    """Return the query of a histogram's quantile."""
    buckets = rate(f"{metric}_bucket", f"le, {by}" if by else "le", labels)
    return f"histogram_quantile({q}, {buckets})"


def gauge(metric: str, labels: str = "") -> str:
    """Return the query of a gauge."""
    return f"{metric}{{{HERE}, {labels}}}" if labels else f"{metric}{{{HERE}}}"


REQUESTS, SECONDS = "layertap_requests_total", "layertap_request_seconds"
EXTRACT = 'method="Extract"'
ERRORS = 'status!~"OK|CANCELLED"'
ROWS: dict[str, list[Panel]] = {
    "Now": [
        Panel("Models that serve", "short", {"": f"sum({gauge('layertap_model_ready')})"}, 4, is_figure=True),
        Panel("Requests", "reqps", {"": rate(REQUESTS)}, 4, is_figure=True),
        Panel("Failed", "percentunit", {"": f"{rate(REQUESTS, labels=ERRORS)} / {rate(REQUESTS)}"}, 4, is_figure=True),
        Panel("Extract, p99", "s", {"": quantile(0.99, SECONDS, labels=EXTRACT)}, 4, is_figure=True),
        Panel("Waiting", "short", {"": f"sum({gauge('layertap_requests_waiting')})"}, 4, is_figure=True),
        Panel(
            "Memory of its limit",
            "percentunit",
            {"": f"max({gauge('process_resident_memory_bytes', SERVERS)} / {gauge('layertap_memory_limit_bytes')})"},
            4,
            is_figure=True,
        ),
    ],
    "Requests": [
        Panel("Requests by method", "reqps", {"{{method}}": rate(REQUESTS, "method")}),
        Panel("Requests by status", "reqps", {"{{status}}": rate(REQUESTS, "status")}),
        Panel("Requests by model", "reqps", {"{{model}}": rate(REQUESTS, "model")}),
        Panel(
            "Extract: how long callers wait",
            "s",
            {f"p{q * 100:.0f}": quantile(q, SECONDS, labels=EXTRACT) for q in (0.5, 0.95, 0.99)},
        ),
        Panel("Images", "short", {"{{model}}": rate("layertap_images_total", "model")}),
        Panel("Items of streams", "short", {"{{status}}": rate("layertap_stream_items_total", "status")}),
        Panel("Errors by reason", "short", {"{{reason}}": rate("layertap_errors_total", "reason")}, 12),
        Panel(
            "Images that cannot be decoded", "short", {"{{cause}}": rate("layertap_decode_failures_total", "cause")}, 12
        ),
    ],
    "Stages": [
        Panel(
            "Where time goes: seconds of each stage a second",
            "s",
            {"{{stage}}": rate("layertap_stage_seconds_sum", "stage")},
            12,
        ),
        Panel("Stages, p95", "s", {"{{stage}}": quantile(0.95, "layertap_stage_seconds", "stage")}, 12),
    ],
    "Queues and runs": [
        Panel(
            "Requests",
            "short",
            {
                "admitted": f"sum({gauge('layertap_requests_admitted')})",
                "waiting": f"sum({gauge('layertap_requests_waiting')})",
                "may wait": f"sum({gauge('layertap_requests_waiting_limit')})",
                "open streams": f"sum({gauge('layertap_streams')})",
            },
        ),
        Panel(
            "Runs",
            "short",
            {"in flight": f"sum({gauge('layertap_runs')})", "waiting": f"sum({gauge('layertap_runs_waiting')})"},
        ),
        Panel(
            "Images a run",
            "short",
            {
                "{{model}}": f"{rate('layertap_batch_images_sum', 'model')} / {rate('layertap_batch_images_count', 'model')}"
            },
        ),
    ],
    "Caches": [
        Panel("Plans", "short", {"{{event}}": rate("layertap_plan_cache_total", "event")}),
        Panel(
            "Memory of plans",
            "bytes",
            {"taken": gauge("layertap_plan_bytes"), "budget": gauge("layertap_plan_budget_bytes")},
        ),
        Panel("Compiled plans", "short", {"{{instance}}": gauge("layertap_plans")}),
        Panel("Kept answers", "short", {"{{event}}": rate("layertap_response_cache_total", "event")}, 12),
        Panel("Memory of kept answers", "bytes", {"{{instance}}": gauge("layertap_response_cache_bytes")}, 12),
    ],
    "Bytes": [
        Panel("In", "Bps", {"{{method}}": rate("layertap_request_bytes_total", "method")}),
        Panel("Out", "Bps", {"{{method}}": rate("layertap_response_bytes_total", "method")}),
        Panel("Through shared memory", "Bps", {"": rate("layertap_shared_memory_bytes_total")}),
    ],
    "Models": [
        Panel("By state", "short", {"{{state}}": f"sum by (state) ({gauge('layertap_models')})"}),
        Panel(
            "Serving", "short", {"{{model}} {{version}}": f"sum by (model, version) ({gauge('layertap_model_ready')})"}
        ),
        Panel(
            "Last load",
            "s",
            {"{{model}} {{version}}": f"max by (model, version) ({gauge('layertap_model_load_seconds')})"},
        ),
        Panel(
            "Loads",
            "short",
            {"{{model}} {{outcome}}": f"sum by (model, outcome) ({gauge('layertap_model_loads_total')})"},
            WIDTH,
        ),
    ],
    "Process": [
        Panel(
            "Memory",
            "bytes",
            {
                "{{instance}}": gauge("process_resident_memory_bytes", SERVERS),
                "limit": f"max({gauge('layertap_memory_limit_bytes')})",
            },
        ),
        Panel("Cores", "short", {"{{instance}}": rate("process_cpu_seconds_total", "instance", SERVERS)}),
        Panel(
            "Open files",
            "short",
            {
                "{{instance}}": gauge("process_open_fds", SERVERS),
                "limit": f"max({gauge('process_max_fds', SERVERS)})",
            },
        ),
        Panel("Up for", "s", {"{{instance}}": f"time() - {gauge('process_start_time_seconds', SERVERS)}"}, 12),
        Panel(
            "Version and device",
            "short",
            {"{{version}} on {{device}}": f"sum by (version, device) ({gauge('layertap_info')})"},
            12,
        ),
    ],
    "Device": [
        Panel(
            "Memory",
            "bytes",
            {
                "{{instance}} {{device}}": gauge("layertap_device_memory_used_bytes"),
                "{{instance}} {{device}} has": gauge("layertap_device_memory_total_bytes"),
            },
            6,
        ),
        Panel("Load", "percentunit", {"{{instance}} {{device}}": gauge("layertap_device_utilization_ratio")}, 6),
        Panel("Power", "watt", {"{{instance}} {{device}}": gauge("layertap_device_power_watts")}, 6),
        Panel("Temperature", "celsius", {"{{instance}} {{device}}": gauge("layertap_device_temperature_celsius")}, 6),
    ],
}
"""Panels of each row."""


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    instance = {
        "name": "instance",
        "label": "Server",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(layertap_info, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "layertap",
        "title": "Layertap",
        "tags": ["layertap"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [instance]},
        "panels": list(layout_panels()),
    }


def layout_panels() -> Iterator[dict[str, Any]]:
    """Yield the heading and the panels of each row, placed from left to right and top to bottom."""
    number, y = 0, 0
    for heading, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": heading,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }
        x, y = 0, y + 1
        height = HEIGHT // 2 if panels[0].is_figure else HEIGHT
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            number += 1
            yield as_json(panel, number, {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
        y += height


def as_json(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """Return one panel as Grafana imports it."""
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend or "__auto"}
        for index, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": "stat" if panel.is_figure else "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {} if panel.is_figure else {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }


def text() -> str:
    """Return the dashboard as JSON."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.parent.mkdir(parents=True, exist_ok=True)
    DASHBOARD.write_text(text(), encoding="utf-8")
    print(f"wrote {DASHBOARD}")
