"""Figures of the service, as Prometheus reads them."""

from __future__ import annotations

import prometheus_client as prometheus

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST


class Metrics:
    """Figures of one service.

    Attributes:
        requests: number of requests by method, route and status.
        seconds: time of requests by route.
        queue: number of requests that wait for the model.
        batch: number of requests that were answered together.
        reloads: number of reloads by outcome, "loaded" or "failed".
        run: the run that is served.
    """

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "maskgr_requests", "Requests.", ["method", "route", "status"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "maskgr_request_seconds", "Time of requests.", ["route"], buckets=SECONDS, registry=registry
        )
        self.queue = prometheus.Gauge("maskgr_queue", "Requests that wait for the model.", registry=registry)
        self.batch = prometheus.Histogram(
            "maskgr_batch", "Requests that were answered together.", buckets=SIZES, registry=registry
        )
        self.reloads = prometheus.Counter("maskgr_reloads", "Reloads.", ["outcome"], registry=registry)
        self.run = prometheus.Info("maskgr_run", "The run that is served.", registry=registry)
        prometheus.ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return prometheus.generate_latest(self.registry)
