"""The rules in the hands of promtool, Prometheus, vmalert, amtool and Alertmanager."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from loopwatch.assets.alerts import GROUPS
from loopwatch.assets.promql import parse_selector
from loopwatch.cli import main
from loopwatch.errors import ConfigError
from tests.conftest import start_child
from tests.servers import alertmanager, fetch, free_port, program, prometheus, run, wait_for

ALERTS: Final = Path(__file__).parent.parent.parent / "alerts"
NAMES: Final = [alert.name for group in GROUPS for alert in group.alerts]

OPTIONS: Final = [
    [],
    ["--lag-threshold", "0.25", "--hang-threshold", "5"],
    ["--tasks-threshold", "1000000000", "--cpu-threshold", "0.7"],
    ["--selector", 'job="api"'],
    ["--selector", r'job=~"a\\.b|\"c\"",loop!="",namespace!~"x.*"'],
    ["--selector", 'job="api"', "--time-scale", "0.01", "--hang-threshold", "0.5"],
    ["--time-scale", "0.02", "--severity", "critical=page", "--severity", "warning=ticket"],
    ["--time-scale", "10", "--stalled-budget", "0.05", "--stalls-per-minute", "0.5"],
    ["--selector", r"""job=~`(?U)\d+é`,a="\u00e9\xc3\xa9\a",b=~'\\Q(\\E\\pL[[:alpha:]]\\z'"""],
    ["--unreachable-for", "30s", "--forget-after", "1h5m", "--heartbeat-age", "90"],
    ["--dashboard-uid", "loop=x-1", "--dashboard-uid", "overview=X_2"],
    ["--time-scale", "0.37", "--runbooks-url", "https://wiki.example.com/loops"],
]


def printed(capsys: pytest.CaptureFixture[str], options: Sequence[str]) -> str:
    assert main(["rules", *options]) == 0
    return capsys.readouterr().out


def check(file: Path) -> None:
    ran = run([program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", file.name],
              file.parent)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "SUCCESS: 19 rules found" in ran.stdout


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_promtool_finds_nothing(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the options, the rules are valid and lint has nothing to say, also as a `.spec`."""
    file = tmp_path / "rules.yml"
    file.write_text(printed(capsys, options))
    check(file)
    rule = yaml.safe_load(printed(capsys, ["--format", "prometheus-rule", *options]))
    file.write_text(yaml.safe_dump(rule["spec"], sort_keys=False))
    check(file)


# `other` had a stall of its own, and has another one later than that of `main`, which goes on.
TWO_LOOPS: Final = """
def work():
    async def main():
        loopwatch.install(loop_name="other", warm_up_s=0)
        while True:
            time.sleep(0.3)
            await asyncio.sleep(0.2)
    asyncio.run(main())

async def main():
    loopwatch.install(loop_name="main", http_port=int(sys.argv[1]), warm_up_s=0)
    threading.Thread(target=work, daemon=True).start()
    await asyncio.sleep(1)
    print("stuck", flush=True)
    time.sleep(5)  # the culprit
    print("back", flush=True)
    await asyncio.sleep(60)

run(main())
"""


def test_the_runbook_of_a_stuck_loop_names_that_loops_culprit(tmp_path: Path) -> None:
    """While it lasts and when it is over, with another loop in the process that stalls as well."""
    program("jq")
    page = (ALERTS.parent / "docs" / "runbooks" / "EventLoopStuck.md").read_text()
    while_it_lasts, afterwards = re.findall(r"^curl -s (.*) \| jq '(.*)'$", page, re.MULTILINE)
    address = f"127.0.0.1:{free_port()}"

    def answered(command: tuple[str, str]) -> Any:
        url, wanted = (text.replace("LOOP", "main") for text in command)
        ran = run(["jq", wanted], tmp_path, fetch(url.replace("INSTANCE", address)))
        assert ran.returncode == 0, ran.stderr
        found = json.loads(ran.stdout)
        return (
            found if found["culprit"] and (found.get("active_s") or found["duration_s"]) else None
        )

    child = start_child(tmp_path, TWO_LOOPS, address.split(":")[1])
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "stuck\n"
        found = wait_for("the stall", lambda: answered(while_it_lasts))
        assert (found["loop"], found["cause"]) == ("main", "blocking_call")
        assert found["culprit"]["source"].endswith("# the culprit")
        assert child.stdout.readline() == "back\n"
        wait_for("its end", lambda: (found := answered(afterwards)) and found["duration_s"] > 4)
        assert answered(afterwards)["culprit"]["source"].endswith("# the culprit")
    finally:
        child.kill()
        child.communicate()


# What Python's `re` and RE2 do not agree about, and what neither takes.
PATTERNS: Final = (
    *("a|b", "(a", "a)", "a)(b", "*a", "a**", "a*+", "a++", "a?+", "a{2}+", "a{2}?", "a??", "a???"),
    *(
        "a{1000}",
        "a{1001}",
        "a{1,1001}",
        "a{2,1}",
        "(a{100}){10}",
        "(a{100}){11}",
        "((a{600})b){2}",
    ),
    *("a{,3}", "a{x}", "a{", "^*", r"\b+", "()*", "(|a)*", "a|*", "|", "a||b", "(?i)*", "(?)a"),
    *("(?i)a", "(?i-s:a)", "(?U)a", "(?x)a", "(?a)a", "(?u)a", "(?L)a", "(?-)a", "(?i", "(?P<n>a)"),
    *("(?P<n>a)(?P=n)", r"(a)\1", r"(a)\8", r"(a)\12", r"\0", r"\101", "(?=a)", "(?!a)", "(?<=a)"),
    *("(?<!a)", "(?>a)", "(?#c)a", "(a)?(?(1)b|c)", r"a\Z", r"a\z", r"\Aa", r"\C", r"\d\s\w\D\S\W"),
    *(r"\Qa(b\Ec", r"\Q(", r"\Q\E*", r"a\Qbc\E*", r"\pL", r"\p{Greek}", r"\p{^Greek}", r"\PN"),
    *(
        r"\x41",
        r"\x{10FFFF}",
        r"\xZZ",
        r"\u00e9",
        r"\N{DIGIT ONE}",
        r"\e",
        r"\_",
        r"\-",
        r"\é",
        "é+",
    ),
    *("[[:alpha:]]+", "[[:foo:]]", "[[:^alpha:]]", "[a-z", "[z-a]", "[]a]", "[^]a]", "[]", r"[a\]"),
    *(
        r"[\d-z]",
        r"[\b]",
        r"[\z]",
        r"[\pL\x{41}]",
        "[a[b]",
        r"[\101]",
        r"[\1]",
        "[&&a]",
        "a\\",
        "[a\\",
    ),
)


def test_a_regular_expression_is_judged_as_prometheus_judges_it(tmp_path: Path) -> None:
    """A selector is refused for what promtool refuses in it, and for nothing else."""
    quoted = [json.dumps(pattern, ensure_ascii=False) for pattern in PATTERNS]
    groups = [
        {"name": f"g{n}", "rules": [{"record": f"r{n}", "expr": f"up{{job=~{pattern}}}"}]}
        for n, pattern in enumerate(quoted)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    ran = run([program("promtool"), "check", "rules", "--lint=none", "rules.yml"], tmp_path)
    refused = {int(n) for n in re.findall(r'group "g(\d+)"', ran.stdout + ran.stderr)}
    assert 30 < len(refused) < len(PATTERNS) - 30
    for n, pattern in enumerate(quoted):
        try:
            parse_selector(f"job=~{pattern}")
            taken = True
        except ConfigError:
            taken = False
        assert taken == (n not in refused), pattern


def test_queries_in_runbooks_are_valid(tmp_path: Path) -> None:
    """What a runbook says to ask Prometheus for, Prometheus understands."""
    blocks = [
        block
        for page in (ALERTS.parent / "docs" / "runbooks").glob("*.md")
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    queries = [line for b in blocks for line in b.splitlines() if "{job=" in line]
    assert len(queries) > 10
    records = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": records}]}))
    ran = run([program("promtool"), "check", "rules", file.name], tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_vmalert_takes_them_too(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """VictoriaMetrics' own rule engine reads expressions and templates."""
    (tmp_path / "rules.yml").write_text(printed(capsys, options))
    ran = run([program("vmalert", newer=True), "-dryRun", "-rule=rules.yml"], tmp_path)
    assert ran.returncode == 0, ran.stderr


def run_cases(folder: Path) -> subprocess.CompletedProcess[str]:
    return run([program("promtool"), "test", "rules", "loopwatch.tests.yml"], folder)


def test_the_cases_hold() -> None:
    """Every alert fires, does not fire just below its limit, and resolves."""
    ran = run_cases(ALERTS)
    assert ran.returncode == 0, ran.stdout + ran.stderr


OF_SIBLINGS: Final = 'max without (loop, pid) (loopwatch_heartbeat_timestamp_seconds{pid!=""})'
LATE: Final = ((" > 10\n", " > 1000\n"), (" > 10\n", " > 9\n"))

# Alert -> what is broken in its rule, one at a time: limits too high and too low, parts left out.
BROKEN: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "EventLoopStuck": (
        (">=", ">= 2 *"),
        (">=", ">= 0.9 *"),
        (">=", ">"),
        ("loopwatch_hang_threshold_seconds", "10"),
    ),
    "EventLoopUnreachable": (
        ("(up == 0)", "(up == 2)"),
        ("(up == 0)", "(up >= 0)"),
        ('{pid!=""}', '{pid="none"}'),
        ("cluster, namespace, ", ""),
        (OF_SIBLINGS, f"timestamp({OF_SIBLINGS})"),
        ("[1h]", "[1m]"),
        ("[1h]", "[2h]"),
        *LATE,
        (">= loopwatch_hang_threshold_seconds", "> 0"),
    ),
    "EventLoopWatchdogDead": (
        *LATE,
        (">= loopwatch_hang_threshold_seconds", "> 0"),
        ("timestamp(loopwatch_heartbeat_timestamp_seconds)", "time()"),
        ("unless", "and"),
        ("unless", "or"),
    ),
    "EventLoopStalledTimeFastBurn": (
        ("14.4 *", "15 *"),
        ("14.4 *", "14.2 *"),
        ("rate5m > 14.4", "rate5m >= 0"),
        ("rate1h > 14.4", "rate1h >= 0"),
    ),
    "EventLoopStalledTimeSlowBurn": (
        ("6 *", "6.4 *"),
        ("6 *", "5.8 *"),
        ("rate30m > 6", "rate30m >= 0"),
        ("rate6h > 6", "rate6h >= 0"),
    ),
    "EventLoopStallsFrequent": (("> 6", "> 7.1"), ("> 6", "> 5.9"), ("* 60", "* 1")),
    "EventLoopLagHigh": (
        ("> loop", "> 2 * loop"),
        ("> loop", "> 0.5 * loop"),
        ("loopwatch_lag_threshold_seconds", "0.1"),
    ),
    "EventLoopTasksHigh": (
        ("> loop", "> 1.1 * loop"),
        ("> loop", ">= loop"),
        ("> loopwatch_tasks_threshold", "> 1000"),
    ),
    "EventLoopTasksGrowing": (
        ("4 * 3600", "1 * 3600"),
        ("4 * 3600", "12 * 3600"),
        ("predict_linear(loopwatch_tasks[1h], 4 * 3600) > ", "loopwatch_tasks > "),
        ("offset 45m", "offset 15m"),
        (" offset 30m)\n", " offset 30m) + 5 * 15\n"),
        ("  > min_over_time", "  > -1e9 * min_over_time"),
    ),
    "EventLoopCpuHigh": (
        ("> loop", "> 1.2 * loop"),
        ("> loop", "> 0.9 * loop"),
        ("loopwatch_cpu_threshold_ratio", "0.5"),
    ),
    "EventLoopExecutorSaturated": (
        ("> 0", "> 3"),
        ("> 0", ">= 0"),
        ("[5m]) > 0", "[4m]) > 0"),
        ("[5m]) > 0", "[6m]) > 0"),
        ("offset 5m", "offset 1m"),
    ),
}


def test_every_alert_is_broken() -> None:
    """A new alert is broken on purpose as well."""
    assert list(BROKEN) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_rule_fails_its_cases(name: str, tmp_path: Path) -> None:
    """The cases of an alert notice a wrong limit, wait, window or severity in its rule."""
    # PyYAML takes `0x40` for 64; for promtool it is 41 samples of 0.
    text = (ALERTS / "loopwatch.tests.yml").read_text()
    cases = yaml.safe_load(re.sub(r"values: (.*)", r'values: "\1"', text))
    cases["tests"] = [g for g in cases["tests"] if g["name"].split(",")[0] == name]
    cases["rule_files"] = ["rules.yml"]
    if all(g["interval"].endswith("m") for g in cases["tests"]):
        # Hours of samples a minute apart: four times as fast, and what is expected is the same.
        cases["evaluation_interval"] = "1m"
    (tmp_path / "loopwatch.tests.yml").write_text(yaml.safe_dump(cases))
    group = next(g for g in rules()["groups"] if any(r.get("alert") == name for r in g["rules"]))
    group["rules"] = [r for r in group["rules"] if r.get("alert") in (None, name)]
    rule = group["rules"][-1]

    def fails() -> bool:
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
        ran = run_cases(tmp_path)
        # Broken in meaning, not in grammar: promtool must have run the cases.
        assert "FAILED:\n" in ran.stdout + ran.stderr or ran.returncode == 0, ran.stderr
        assert "parse error" not in ran.stdout + ran.stderr, ran.stdout + ran.stderr
        return ran.returncode != 0

    assert not fails()
    whole = dict(rule)
    changes: list[dict[str, Any]] = [{"expr": broken(whole["expr"], *b)} for b in BROKEN[name]]
    changes += [{"for": "0s"}] if whole["for"] != "0s" else [{"for": "15s"}]
    changes += [{"for": "1h"}, {"keep_firing_for": "15s"}, {"keep_firing_for": "1h"}]
    changes += [{"labels": {"severity": "none"}}]
    unnoticed = []
    for change in changes:
        rule.update(whole)
        rule.update(change)
        if not fails():
            unnoticed.append(change)
    assert unnoticed == []


def broken(expr: str, old: str, new: str) -> str:
    assert old in expr, f"{old!r} is not in {expr!r}"
    return expr.replace(old, new)


def rules() -> Any:
    return yaml.safe_load((ALERTS / "loopwatch.rules.yml").read_text())


def firing(tmp_path: Path, series: dict[str, str], at: str) -> list[str]:
    """Return what fires with the rules in `rules.yml`, as promtool sees it: alert and instance."""
    cases = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {"eval_time": at, "expr": 'ALERTS{alertstate="firing"}', "exp_samples": []}
                ],
            }
        ],
    }
    (tmp_path / "loopwatch.tests.yml").write_text(yaml.safe_dump(cases))
    ran = run_cases(tmp_path)
    found = re.findall(r'alertname="(\w+)"[^}]*instance="(\w+)"', ran.stdout + ran.stderr)
    assert bool(found) == bool(ran.returncode), ran.stdout + ran.stderr
    return sorted(" ".join(pair) for pair in found)


def test_a_literal_threshold_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a limit, the rules compare with it, whatever a process says of its own."""
    options = ["--hang-threshold", "5", "--tasks-threshold", "50", "--cpu-threshold", "0.25"]
    labels = 'job="api",instance="a",loop="main"'
    series = {
        f"loopwatch_stall_active_seconds{{{labels}}}": "6x80",
        f"loopwatch_hang_threshold_seconds{{{labels}}}": "10x80",
        f"loopwatch_tasks{{{labels}}}": "60x80",
        f"loopwatch_tasks_threshold{{{labels}}}": "1000x80",
        f"loopwatch_loop_cpu_seconds_total{{{labels}}}": "0+6x80",
        f"loopwatch_cpu_threshold_ratio{{{labels}}}": "0.5x80",
    }
    (tmp_path / "rules.yml").write_text(printed(capsys, []))
    assert firing(tmp_path, series, "20m") == []
    (tmp_path / "rules.yml").write_text(printed(capsys, options))
    assert firing(tmp_path, series, "20m") == [
        "EventLoopCpuHigh a",
        "EventLoopStuck a",
        "EventLoopTasksHigh a",
    ]


def test_a_selector_leaves_others_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rules for one job tell nothing of another, not even that it is down."""
    series = {}
    for job in ("api", "web"):
        labels = f'job="{job}",instance="{job}"'
        series[f"up{{{labels}}}"] = "1x4 0x40"
        series[f'loopwatch_heartbeat_timestamp_seconds{{{labels},loop="main"}}'] = "0+15x4 stale"
        series[f'loopwatch_tasks{{{labels},loop="main"}}'] = "9999x40"
        series[f'loopwatch_tasks_threshold{{{labels},loop="main"}}'] = "1000x40"
    (tmp_path / "rules.yml").write_text(printed(capsys, []))
    found = firing(tmp_path, series, "6m")
    assert found == [
        f"EventLoop{w} {j}" for w in ("TasksHigh", "Unreachable") for j in ("api", "web")
    ]
    (tmp_path / "rules.yml").write_text(printed(capsys, ["--selector", 'job="web"']))
    assert firing(tmp_path, series, "6m") == ["EventLoopTasksHigh web", "EventLoopUnreachable web"]


def test_old_ports_of_a_pool_are_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a reload on other ports the alert is over when `--forget-after` says so."""
    series = {}
    for instance, up, heartbeat in (
        ("old", "1x20 0x200", "0+15x20 stale"),
        ("new", "0x18 1x200", "_x18 285+15x200"),
    ):
        labels = f'job="app",instance="{instance}"'
        series[f"up{{{labels}}}"] = up
        series[f'loopwatch_heartbeat_timestamp_seconds{{{labels},loop="main"}}'] = heartbeat
    (tmp_path / "rules.yml").write_text(printed(capsys, []))
    assert firing(tmp_path, series, "15m") == ["EventLoopUnreachable old"]
    (tmp_path / "rules.yml").write_text(printed(capsys, ["--forget-after", "5m"]))
    assert firing(tmp_path, series, "8m") == ["EventLoopUnreachable old"]
    assert firing(tmp_path, series, "15m") == []


def test_a_restart_may_take_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that is away for a minute pages nobody, one for two minutes with the option."""
    labels = 'job="app",instance="a"'
    up, heartbeat = f"up{{{labels}}}", f'loopwatch_heartbeat_timestamp_seconds{{{labels},loop="m"}}'
    minute = {up: "1x20 0x3 1x20", heartbeat: "0+15x20 stale _x3 375+15x20"}
    two = {up: "1x20 0x7 1x20", heartbeat: "0+15x20 stale _x7 435+15x20"}
    (tmp_path / "rules.yml").write_text(printed(capsys, []))
    assert firing(tmp_path, minute, "6m30s") == []
    assert firing(tmp_path, two, "7m15s") == ["EventLoopUnreachable a"]
    (tmp_path / "rules.yml").write_text(printed(capsys, ["--unreachable-for", "3m"]))
    assert firing(tmp_path, two, "7m15s") == []


def test_exports_of_once_a_minute_are_no_dead_watchdog(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through a collector without `send_timestamps`, samples are up to a minute old."""
    labels = 'job="app",instance="a",loop="main"'
    minutes = " ".join(f"{at} {at} {at} {at}" for at in range(-12, 1200, 60))
    series = {
        f"loopwatch_heartbeat_timestamp_seconds{{{labels}}}": minutes,
        f"loopwatch_hang_threshold_seconds{{{labels}}}": "10x80",
    }
    (tmp_path / "rules.yml").write_text(printed(capsys, []))
    assert firing(tmp_path, series, "10m") == ["EventLoopWatchdogDead a"]
    (tmp_path / "rules.yml").write_text(printed(capsys, ["--heartbeat-age", "90"]))
    assert firing(tmp_path, series, "10m") == []


@pytest.mark.parametrize("newer", [False, True], ids=["installed", "newer"])
def test_prometheus_evaluates_them(
    newer: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real server loads the rules and evaluates each without an error."""
    (tmp_path / "rules.yml").write_text(printed(capsys, ["--time-scale", "0.02"]))
    config = "global: {evaluation_interval: 200ms}\nrule_files: [rules.yml]\n"
    with prometheus(tmp_path, config, newer=newer) as server:

        def evaluated() -> list[dict[str, Any]]:
            found = [rule for g in server.get("rules")["groups"] for rule in g["rules"]]
            return found if all(rule["health"] != "unknown" for rule in found) else []

        found = wait_for("every rule to be evaluated", evaluated)
    assert [rule["health"] for rule in found] == ["ok"] * 19


@pytest.mark.parametrize("newer", [False, True], ids=["installed", "newer"])
@pytest.mark.parametrize(
    ("severity", "alert", "goes_to"),
    [
        ("critical", "EventLoopStuck", "pager"),
        ("warning", "EventLoopLagHigh", "tickets"),
        ("critical", "DiskFull", "team-chat"),
        ("info", "EventLoopLagHigh", "team-chat"),
    ],
)
def test_routes(severity: str, alert: str, goes_to: str, newer: bool) -> None:
    """Critical alerts of ours go to the pager, warnings to the tickets, the rest to the chat."""
    amtool = program("amtool", newer=newer)
    ran = run([amtool, "check-config", "alertmanager.example.yml"], ALERTS)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    labels = [f"severity={severity}", f"alertname={alert}"]
    ran = run(
        [amtool, "config", "routes", "test", "--config.file=alertmanager.example.yml",
         f"--verify.receivers={goes_to}", *labels],
        ALERTS,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout.strip()) == (0, goes_to), ran.stderr


LOOP: Final = {"job": "api", "instance": "a:1", "loop": "main"}


# The same as it comes over OTLP.
SHOP: Final = {"job": "", "instance": "", "service_name": "shop", "service_instance_id": "u-1"}


def alert(name: str, **labels: str) -> dict[str, Any]:
    return {"labels": {"alertname": f"EventLoop{name}", **LOOP, **labels}}


def told_of(labels: dict[str, str]) -> str:
    return f"{labels['alertname']} {labels.get('instance') or labels['service_name']}"


# What is known at the same time, and who of them is told; a loop is named by its instance.
INHIBITED: Final = {
    "stuck": (
        [alert("Stuck"), *(alert(n.removeprefix("EventLoop")) for n in NAMES[2:])],
        {"EventLoopStuck a:1"},
    ),
    "stuck elsewhere": (
        [alert("Stuck"), alert("LagHigh", instance="b:1"), alert("LagHigh", loop="other")],
        {"EventLoopStuck a:1", "EventLoopLagHigh b:1", "EventLoopLagHigh a:1"},
    ),
    "unreachable": (
        [alert("Unreachable", loop=""), alert("Stuck"), alert("LagHigh", loop="other", pid="7"),
         alert("Stuck", instance="b:1")],
        {"EventLoopUnreachable a:1", "EventLoopStuck b:1"},
    ),
    "one worker": (
        [alert("Unreachable", pid="7"), alert("WatchdogDead", pid="7"), alert("CpuHigh", pid="8")],
        {"EventLoopUnreachable a:1", "EventLoopCpuHigh a:1"},
    ),
    "burns fast": (
        [alert("StalledTimeFastBurn"), alert("StalledTimeSlowBurn"), alert("LagHigh"),
         alert("StallsFrequent"), alert("TasksGrowing")],
        {"EventLoopStalledTimeFastBurn a:1", "EventLoopTasksGrowing a:1"},
    ),
    "stalled time of all workers": (
        [alert("Stuck", pid="7"), alert("StalledTimeFastBurn"), alert("TasksHigh")],
        {"EventLoopStuck a:1", "EventLoopTasksHigh a:1"},
    ),
    "burns fast, of all workers": (
        [alert("StalledTimeFastBurn"), alert("LagHigh", pid="7"), alert("LagHigh", loop="other")],
        {"EventLoopStalledTimeFastBurn a:1", "EventLoopLagHigh a:1"},
    ),
    "a leak at the limit": (
        [alert("TasksHigh"), alert("TasksGrowing"), alert("TasksGrowing", instance="b:1")],
        {"EventLoopTasksHigh a:1", "EventLoopTasksGrowing b:1"},
    ),
    "another service over OTLP": (
        [alert("Stuck", **SHOP), alert("LagHigh", **SHOP),
         alert("LagHigh", **{**SHOP, "service_name": "reports"}),
         alert("CpuHigh", **{**SHOP, "service_instance_id": "u-2"})],
        {"EventLoopStuck shop", "EventLoopLagHigh reports", "EventLoopCpuHigh shop"},
    ),
    "another cluster and namespace": (
        [alert("Unreachable", loop="", cluster="eu", namespace="n"),
         alert("LagHigh", cluster="us", namespace="n"), alert("CpuHigh", cluster="eu"),
         alert("TasksHigh", cluster="eu", namespace="n")],
        {"EventLoopUnreachable a:1", "EventLoopLagHigh a:1", "EventLoopCpuHigh a:1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("newer", [False, True], ids=["installed", "newer"])
def test_inhibitions(newer: bool, tmp_path: Path) -> None:
    """A real Alertmanager with the example keeps quiet about what follows from something worse."""
    config = (ALERTS / "alertmanager.example.yml").read_text()
    for case, (alerts, told) in INHIBITED.items():
        with alertmanager(tmp_path / case, config, newer=newer) as url:
            # A label that is empty is none.
            fetch(
                f"{url}/api/v2/alerts",
                json.dumps(alerts).encode(),
                {"Content-Type": "application/json"},
            )

            # Of alerts that come together, one may be active before the worse one is known.
            wait_for(f"{told} and no others in {case}", partial(only, told, url, len(alerts)), 5)


def only(told: set[str], url: str, count: int) -> bool:
    """Return whether these are told, once every alert has a state."""
    found: list[dict[str, Any]] = json.loads(fetch(f"{url}/api/v2/alerts"))
    states = [a["status"]["state"] for a in found]
    if len(found) < count or "unprocessed" in states:
        return False
    pairs = zip(states, found, strict=True)
    return {told_of(a["labels"]) for state, a in pairs if state == "active"} == told
