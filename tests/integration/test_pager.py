"""From the process to the pager: an app, Prometheus, Alertmanager and a webhook, all of them real.

Five apps go wrong at the same time, each in its own way, and get well again. Rules are those that
`loopwatch rules` prints, with shorter waits (`--time-scale`); scrapes and evaluations are a
second apart. The delays are printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import start_child
from tests.servers import (
    Receiver,
    alertmanager,
    fetch,
    free_port,
    program,
    prometheus,
    receiver,
    run,
    wait_for,
)

pytestmark = pytest.mark.timeout(240)

# What goes wrong, and the alert that has to say so.
WRONG: Final = {
    "sleep": "EventLoopStuck",
    "regex": "EventLoopUnreachable",
    "leak": "EventLoopTasksHigh",
    "cpu": "EventLoopCpuHigh",
    "lag": "EventLoopLagHigh",
}

# Told when it begins and when it is over, on the clock that all processes of a machine share.
APP = """
import re

kind, port = sys.argv[1], int(sys.argv[2])

async def sleep():
    time.sleep(6)

async def regex():
    text = " " * 1000
    def trim():
        began = time.thread_time()
        re.sub(r"\\s+$", "", text + "!")
        return time.thread_time() - began
    # One call of some 8 s: its time grows with the square.
    while (took := trim()) < 0.05:
        text *= 2
    text = " " * int(len(text) * (8 / took) ** 0.5)
    trim()

async def leak():
    tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(1500)]
    await asyncio.sleep(14)
    for task in tasks:
        task.cancel()

async def cpu():
    # 60 % of a core, in turns that are no stalls.
    until = time.monotonic() + 40
    while time.monotonic() < until:
        spent = time.thread_time()
        while time.thread_time() - spent < 0.03:
            pass
        await asyncio.sleep(0.02)

async def lag():
    until = time.monotonic() + 30
    while time.monotonic() < until:
        time.sleep(0.15)
        await asyncio.sleep(0.05)

async def main():
    loopwatch.install(http_port=port, exporters=["prometheus"], hang_threshold_s=2)
    while not os.path.exists(f"{kind}.go"):
        await asyncio.sleep(0.1)
    print(time.monotonic(), flush=True)
    await globals()[kind]()
    print(time.monotonic(), flush=True)
    await asyncio.sleep(3600)

run(main())
"""


@dataclass
class Told:
    """What reached the webhook of one alert of one app: when it fired, when it was resolved."""

    firing_at: float
    labels: dict[str, str]
    annotations: dict[str, str]
    resolved_at: float | None = None


def told(hook: Receiver) -> dict[tuple[str, str], Told]:
    """Return what reached the webhook, by app and alert."""
    seen: dict[tuple[str, str], Told] = {}
    for request in list(hook.requests):
        for alert in json.loads(request.body)["alerts"]:
            labels = alert["labels"]
            key = (labels["job"], labels["alertname"])
            if alert["status"] == "firing":
                seen.setdefault(key, Told(request.at, labels, alert["annotations"]))
            elif key in seen and seen[key].resolved_at is None:
                seen[key].resolved_at = request.at
    return seen


@contextmanager
def apps(folder: Path) -> Iterator[dict[str, tuple[str, subprocess.Popen[str]]]]:
    """Run the five apps; give the address of each one's metrics, and the process."""
    started: dict[str, tuple[str, subprocess.Popen[str]]] = {}
    with ExitStack() as stack:
        for kind in WRONG:
            home = folder / kind
            home.mkdir()
            port = free_port()
            child = stack.enter_context(start_child(home, APP, kind, str(port)))
            stack.callback(child.kill)
            started[kind] = (f"127.0.0.1:{port}", child)
        for address, _ in started.values():
            wait_for("an app", lambda url=f"http://{address}/livez": fetch(url))
        yield started


def configuration(addresses: dict[str, str], pager: str) -> str:
    return json.dumps(
        {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": ["loopwatch.rules.yml"],
            "scrape_configs": [
                {"job_name": kind, "static_configs": [{"targets": [address]}]}
                for kind, address in addresses.items()
            ],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [pager.split("//")[1]]}]}]
            },
        }
    )


def routes(hook: str) -> str:
    return json.dumps(
        {
            "route": {
                "receiver": "pager",
                "group_by": ["job", "alertname"],
                "group_wait": "0s",
                "group_interval": "1s",
                "repeat_interval": "1h",
            },
            "receivers": [
                {"name": "pager", "webhook_configs": [{"url": hook, "send_resolved": True}]}
            ],
        }
    )


@pytest.mark.parametrize("newer", [False, True], ids=["bookworm", "newer"])
def test_each_kind_of_trouble_reaches_the_pager_and_resolves(tmp_path: Path, newer: bool) -> None:
    """The stuck loop is told before its block is over, and everything is well in the end."""
    program("prometheus", newer=newer)
    rules = run([sys.executable, "-m", "loopwatch", "rules", "--time-scale", "0.02"], tmp_path)
    assert rules.returncode == 0, rules.stderr
    home = tmp_path / "prometheus"
    home.mkdir()
    home.joinpath("loopwatch.rules.yml").write_text(rules.stdout)
    with ExitStack() as stack:
        hook = stack.enter_context(receiver())
        pager = stack.enter_context(
            alertmanager(tmp_path / "alertmanager", routes(hook.url), newer=newer)
        )
        running = stack.enter_context(apps(tmp_path))
        config = configuration({kind: address for kind, (address, _) in running.items()}, pager)
        server = stack.enter_context(prometheus(home, config, newer=newer))
        wait_for(
            "every app to be scraped twice",
            lambda: (
                len(server.query("count_over_time(loopwatch_build_info[1m]) > 1")) == len(WRONG)
            ),
        )
        # Some 2 s of a healthy loop first, so that what follows is a change.
        wait_for(
            "rates", lambda: len(server.query("rate(loopwatch_loop_cpu_seconds_total[5s])")) == 5
        )
        assert told(hook) == {}

        for kind in WRONG:
            (tmp_path / kind / f"{kind}.go").touch()
        spans: dict[str, tuple[float, float]] = {}
        for kind, (_, child) in running.items():
            assert child.stdout is not None
            spans[kind] = (float(child.stdout.readline()), float(child.stdout.readline()))
        wanted = set(WRONG.items())
        wait_for("every alert", lambda: wanted <= set(told(hook)), 60)
        wait_for(
            "all to be resolved",
            lambda: all(alert.resolved_at for alert in told(hook).values()) and not server.alerts(),
            90,
        )
        seen = told(hook)

    for kind, alert in WRONG.items():
        began, ended = spans[kind]
        got = seen[kind, alert]
        assert got.resolved_at is not None
        print(
            f"{alert}: {ended - began:.1f} s of trouble, told {got.firing_at - began:.1f} s after "
            f"its begin, resolved {got.resolved_at - ended:.1f} s after its end"
        )
        assert got.annotations["runbook_url"].endswith(f"/{alert}.md")
        assert got.annotations["summary"]
    assert seen["sleep", "EventLoopStuck"].firing_at < spans["sleep"][1], "told while it lasts"
    assert seen["regex", "EventLoopUnreachable"].firing_at < spans["regex"][1]
    # Nobody is woken up for somebody else's trouble.
    of_leak = {name for kind, name in seen if kind == "leak"}
    of_cpu = {name for kind, name in seen if kind == "cpu"}
    assert of_leak == {"EventLoopTasksHigh"}
    assert of_cpu == {"EventLoopCpuHigh"}
