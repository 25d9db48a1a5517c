"""Logs, metrics, traces and the HTTP port that serves metrics and readiness."""
