"""The rules and the scrape as objects of the Prometheus Operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loopwatch.assets.rules import about, groups
from loopwatch.assets.yaml_text import comment, dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loopwatch.assets.rules import RulesOptions

__all__ = ["POD_LABELS", "PORT_NAME", "KubernetesOptions", "pod_monitor", "prometheus_rule"]

# What a pod carries to be scraped, unless --pod-label says otherwise.
POD_LABELS: Final[Mapping[str, str]] = {"loopwatch": "enabled"}
PORT_NAME: Final = "loopwatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """Metadata of the objects. No namespace: that of `kubectl apply`."""

    name: str = "loopwatch"
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=lambda: POD_LABELS)

    def head(self, kind: str) -> dict[str, object]:
        """Return what an object begins with."""
        metadata: dict[str, object] = {"name": self.name}
        if self.namespace is not None:
            metadata["namespace"] = self.namespace
        if self.labels:
            metadata["labels"] = self.labels
        return {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": metadata}


def prometheus_rule(options: RulesOptions, kubernetes: KubernetesOptions) -> str:
    """Return the rules as a `PrometheusRule`."""
    rule = {**kubernetes.head("PrometheusRule"), "spec": {"groups": groups(options)}}
    return f"{comment(about(options))}\n{dump(rule)}"


_POD_MONITOR: Final = f"""\
Scrapes loopwatch's own port, which answers while the loop is blocked. In the pod:
  env:   LOOPWATCH_HTTP_PORT=9464 and LOOPWATCH_HTTP_HOST=0.0.0.0
  ports: {{name: {PORT_NAME}, containerPort: 9464}}
Several workers in a pod: LOOPWATCH_HTTP_PORT_COUNT, and a port and an endpoint for each of them.
The timeout is short on purpose: a scrape that gets no answer means that the GIL is held."""


def pod_monitor(kubernetes: KubernetesOptions) -> str:
    """Return a `PodMonitor` for the pods that carry `pod_labels`."""
    monitor = {
        **kubernetes.head("PodMonitor"),
        "spec": {
            "namespaceSelector": {"any": True},
            "selector": {"matchLabels": kubernetes.pod_labels},
            "jobLabel": "app.kubernetes.io/name",
            "podMetricsEndpoints": [
                {"port": PORT_NAME, "path": "/metrics", "interval": "15s", "scrapeTimeout": "5s"}
            ],
        },
    }
    return f"{comment(_POD_MONITOR)}\n{dump(monitor)}"
