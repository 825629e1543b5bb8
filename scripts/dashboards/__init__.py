"""Builds the Grafana dashboards with grafana-foundation-sdk: `python -m scripts.dashboards`.

Only this package needs the SDK; the JSON is committed, and a contract test says when it is stale.
"""
