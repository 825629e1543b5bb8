"""`loopwatch rules`: options in, text out; what is wrong is told in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from loopwatch.assets import alertmanager, kubernetes, rules
from loopwatch.assets.alerts import GROUPS
from loopwatch.assets.promql import Matcher
from loopwatch.assets.rules import RulesOptions
from loopwatch.cli import main


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["rules", *argv]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def expressions(text: str) -> dict[str, str]:
    """Return the expression of each alert and of each recorded series."""
    found = yaml.safe_load(text)
    groups = found["groups"] if "groups" in found else found["spec"]["groups"]
    return {r.get("alert") or r["record"]: r["expr"] for g in groups for r in g["rules"]}


def alerts(text: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(text)["groups"]
    return {r["alert"]: r for g in groups for r in g["rules"] if "alert" in r}


def test_the_table_says_what_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    """With default options an expression in the table is the one in the file, numbers aside."""
    shown = expressions(printed(capsys))
    for group in GROUPS:
        for row in (*group.recordings, *group.alerts):
            numbers = {"HEARTBEAT_AGE": "10", "STALLED_BUDGET": "0.01", "STALLS_PER_MINUTE": "6"}
            numbers["FORGET_AFTER"] = "1h"
            expected = row.expr
            for name, number in numbers.items():
                expected = expected.replace(name, number)
            assert shown[row.name] == expected


def test_literal_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    """A threshold that is given stands in the rules; the others stay those in force."""
    options = ("--lag-threshold", "0.25", "--tasks-threshold", "5000", "--stalls-per-minute", "1.5")
    shown = expressions(printed(capsys, *options, "--stalled-budget", "0.005"))
    assert shown["EventLoopLagHigh"] == "loop:loopwatch_lag_seconds:p99_5m > 0.25"
    assert shown["EventLoopTasksHigh"] == "loopwatch_tasks > 5000"
    assert shown["EventLoopTasksGrowing"].startswith(
        "predict_linear(loopwatch_tasks[1h], 4 * 3600) > 5000\n"
    )
    assert shown["EventLoopStallsFrequent"] == "loop:loopwatch_stalls:rate5m * 60 > 1.5"
    assert "rate1h > 14.4 * 0.005\nand" in shown["EventLoopStalledTimeFastBurn"]
    assert shown["EventLoopStuck"].endswith(">= loopwatch_hang_threshold_seconds")
    assert shown["EventLoopCpuHigh"].endswith("> loopwatch_cpu_threshold_ratio")
    all_given = expressions(
        printed(capsys, *options, "--hang-threshold", "5", "--cpu-threshold", "0.7")
    )
    assert not [expr for expr in all_given.values() if "_threshold" in expr]


def test_a_selector_is_in_every_series(capsys: pytest.CaptureFixture[str]) -> None:
    """Raw and recorded series carry all matchers, and `up` those that it can have."""
    shown = expressions(printed(capsys, "--selector", """ job = "api", loop!~'x|y', """))
    every = '{job="api",loop!~"x|y"}'
    assert shown["EventLoopStuck"] == (
        f"loopwatch_stall_active_seconds{every} >= loopwatch_hang_threshold_seconds{every}"
    )
    assert shown["loop:loopwatch_lag_seconds:p99_5m"] == (
        f"histogram_quantile(0.99, rate(loopwatch_lag_seconds_bucket{every}[5m]))"
    )
    assert f"rate1h{every} > 14.4" in shown["EventLoopStalledTimeFastBurn"]
    unreachable = shown["EventLoopUnreachable"]
    assert unreachable.startswith('(up{job="api"} == 0)\n')
    assert 'seconds{job="api",loop!~"x|y",pid!=""})' in unreachable
    for expr in shown.values():
        assert expr.count("loopwatch_") == expr.count("loop!~")


@pytest.mark.parametrize("selector", ['loop="main"', 'pid!="7"', 'service_name="shop"'])
def test_a_selector_without_labels_of_targets_leaves_up_alone(
    selector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`up` has no loop and no service: the join with the heartbeat still narrows it."""
    shown = expressions(printed(capsys, "--selector", selector))
    assert shown["EventLoopUnreachable"].startswith("(up == 0)\n")


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ("", "is empty"),
        ("{}", "is empty"),
        ("job", "cannot be read from 'job' on"),
        ("job=api", "cannot be read from 'job=api' on"),
        ('job=="api"', "cannot be read"),
        ('job="api" instance="x"', "cannot be read"),
        ('job="api",,instance="x"', "cannot be read from ',instance=\"x\"' on"),
        ('job="api', "cannot be read"),
        ('1job="api"', "cannot be read"),
        ('cause="cpu"', "has the label 'cause', which only some of the metrics have"),
        ('le="0.1"', "has the label 'le'"),
        (r'job=~"a\d"', r"has the unknown escape '\d'"),
        ('job=~"api("', "has a regular expression that misses a )"),
        ('job=~"*"', "has a regular expression that has nothing before the repetition '*'"),
        ('job=~"(?!api).*"', "uses look-around"),
        (r'job=~"(a)\\1"', r"has the escape '\\1'"),
        ('job=~"(?P<n>a)(?P=n)"', "uses a backreference"),
        ('job=~"a++"', "has the repetition '+' of a repetition"),
        ('job=~"(?>a)"', "uses an atomic group"),
        ('job=~"a{1001}"', "1000 times are the most"),
        ('job=~"(?#all)a"', "uses a comment"),
        ('job=~"(a)?(?(1)b|c)"', "uses a conditional"),
        ('__name__="up"', "has the label '__name__'"),
        ('job="a\x07"', "has a control character"),
        ("job=`a\nb`", "has a control character"),
        ('job="a\u2028b"', "has a control character"),
        (r'job="\xff"', "has an escape that is no character"),
        (r'job="\ud800"', "has an escape that is no character"),
    ],
)
def test_a_wrong_selector(selector: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told in one line what is wrong with it and how one looks, with code 2."""
    assert main(["rules", "--selector", selector]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert why in shown.err
    assert """like 'job="api",namespace=~"shop|pay"'""" in shown.err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--format", "json"], "--format: invalid choice: 'json'"),
        (["--lag-threshold", "0"], "use a number of seconds from 0.005 to 3600"),
        (["--lag-threshold", "120"], "use less than 120"),
        (["--lag-threshold", "nan"], "'nan'"),
        (["--hang-threshold", "soon"], "'soon'"),
        (["--tasks-threshold", "1.5"], "use a whole number from 1 to 1000000000"),
        (["--cpu-threshold", "50"], "use a ratio above 0 and at most 1"),
        (["--stalled-budget", "0.1"], "use a ratio above 0 and at most 0.05"),
        (["--stalls-per-minute", "0"], "use a number above 0 and at most 600"),
        (["--severity", "fatal=page"], "use critical=NAME or warning=NAME"),
        (["--severity", "critical="], "use critical=NAME or warning=NAME"),
        (["--runbooks-url", "example.com"], "use an http or https address"),
        (["--runbooks-url", "https://example.com/?page="], "use an http or https address"),
        (["--runbooks-url", "https://[x"], "use an http or https address"),
        (["--unreachable-for", "75"], "use a duration like 30s or 1h30m"),
        (["--unreachable-for", "1m1h"], "use a duration like 30s or 1h30m"),
        (["--forget-after", ""], "use a duration like 30s or 1h30m"),
        (["--heartbeat-age", "4"], "use seconds from 5 to 3600"),
        (["--dashboard-uid", "main=x"], "use overview=UID or loop=UID"),
        (["--dashboard-uid", "loop=a/b"], "use overview=UID or loop=UID"),
        (["--time-scale", "0"], "use a number from 0.01 to 10"),
        (["--time-scale", "0.009"], "use a number from 0.01 to 10"),
        (["--name", "Loop_Watch"], "use small letters, digits, - and ."),
        (["--namespace", "a.b"], "use at most 63 small letters, digits and -"),
        (["--namespace", "a" * 64], "use at most 63 small letters, digits and -"),
        (["--label", "release"], "use KEY=VALUE"),
        (["--label", "a b=c"], "use KEY=VALUE"),
        (["--label", f"{'a' * 64}=c"], "use KEY=VALUE"),
        (["--label", f"{'a' * 254}/b=c"], "use KEY=VALUE"),
        (["--pod-label", "app=a b"], "use KEY=VALUE"),
    ],
)
def test_bad_usage(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that cannot be is told in one line with what can, with code 2."""
    assert main(["rules", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert named in shown.err
    assert shown.err.endswith("; see loopwatch rules --help\n")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--namespace", "x"], "--namespace changes nothing in --format plain"),
        (["--format", "prometheus-rule", "--pod-label", "a=b"], "use --format pod-monitor"),
        (["--format", "pod-monitor", "--selector", 'a="b"'], "use --format plain or prometheus-"),
        (["--format", "alertmanager", "--lag-threshold", "1"], "--lag-threshold changes nothing"),
    ],
)
def test_an_option_that_changes_nothing(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused in one line rather than ignored, with code 2."""
    assert main(["rules", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert named in shown.err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--lag-threshold", "20"], "hang_threshold_s=10.0 is below stall_threshold_s=20.0"),
        (["--hang-threshold", "0.05"], "hang_threshold_s=0.05 is below stall_threshold_s=0.1"),
        (["--forget-after", "1m"], "forget-after 1m is not longer than unreachable-for 1m15s"),
        (["--severity", "critical=a", "--severity", "critical=b"], "--severity critical has two"),
        (["--dashboard-uid", "loop=a", "--dashboard-uid", "loop=b"], "loop has two values"),
        (["--format", "pod-monitor", "--label", "a=b", "--label", "a=c"], "--label a has two"),
        (["--format", "pod-monitor", "--pod-label", "a=b", "--pod-label", "a=b"], "--pod-label a"),
    ],
)
def test_values_that_do_not_go_together(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are named in one line, with code 2, rather than one of them lost."""
    assert main(["rules", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert named in shown.err


def test_waits_and_limits_of_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """How long a process may be silent, is remembered, and a watchdog may not look."""
    argv = ["--unreachable-for", "3m", "--forget-after", "1h30m", "--heartbeat-age", "90"]
    text = printed(capsys, *argv, "--dashboard-uid", "loop=team-loop")
    rule = alerts(text)["EventLoopUnreachable"]
    assert rule["for"] == "3m"
    assert "last_over_time(loopwatch_heartbeat_timestamp_seconds[1h30m])" in rule["expr"]
    assert rule["expr"].count("> 90\n") == 1
    assert alerts(text)["EventLoopWatchdogDead"]["expr"].count("> 90\n") == 2
    assert alerts(text)["EventLoopStuck"]["annotations"]["dashboard"].startswith("/d/team-loop?")
    assert rule["annotations"]["dashboard"].startswith("/d/loopwatch-overview?")
    scaled = alerts(printed(capsys, *argv, "--time-scale", "0.1"))["EventLoopUnreachable"]
    assert scaled["for"] == "18s"
    assert "[9m]" in scaled["expr"]


def test_output_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--output` writes what is printed otherwise, in UTF-8, and prints nothing; - is stdout."""
    file = tmp_path / "rules.yml"
    argv = ["--selector", 'job="é"']
    assert main(["rules", *argv, "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    text = printed(capsys, *argv)
    assert file.read_text(encoding="utf-8") == text
    assert printed(capsys, *argv, "--output", "-") == text
    assert "--output" not in text


def test_what_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It failed, in one line that names the file and the option."""
    assert main(["rules", "--output", str(tmp_path / "no" / "rules.yml")]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "rules.yml (No such file or directory): choose another --output" in shown.err


def command(*argv: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    args = [sys.executable, "-m", "loopwatch", *argv]
    return subprocess.run(args, stderr=subprocess.PIPE, check=False, **kwargs)


@pytest.mark.parametrize("name", ["rules", "dashboard"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_one_line(name: str) -> None:
    """What was buffered does not fail once more at exit: one line, code 1."""
    with Path("/dev/full").open("wb") as full:
        ran = command(name, stdout=full)
    assert ran.returncode == 1
    assert ran.stderr.decode() == (
        "loopwatch: error: cannot write stdout (No space left on device): choose another --output\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_is_printed_is_utf_8(encoding: str) -> None:
    """Prometheus reads UTF-8 alone, whatever the locale of who prints the rules."""
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = command("rules", "--selector", 'job="é"', stdout=subprocess.PIPE, env=env)
    assert (ran.returncode, ran.stderr) == (0, b"")
    shown = expressions(ran.stdout.decode("utf-8"))
    assert shown["EventLoopTasksHigh"].startswith('loopwatch_tasks{job="é"} > ')


def test_severities_and_runbooks_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Each alert carries your word for its severity and an address below yours."""
    shown = alerts(
        printed(capsys, "--severity", "critical=page", "--runbooks-url", "https://wiki/loops/")
    )
    assert shown["EventLoopStuck"]["labels"] == {"severity": "page"}
    assert shown["EventLoopLagHigh"]["labels"] == {"severity": "warning"}
    for name, rule in shown.items():
        assert rule["annotations"]["runbook_url"] == f"https://wiki/loops/{name}.md"


@pytest.mark.parametrize(
    ("scale", "stuck", "unreachable", "lag", "windows"),
    [
        ("1", ("0s", "1m"), ("1m15s", "1m"), ("10m", "10m"), ("5m", "30m", "1h", "6h")),
        ("0.05", ("0s", "3s"), ("4s", "3s"), ("30s", "30s"), ("15s", "1m30s", "3m", "18m")),
        ("0.02", ("0s", "1s"), ("2s", "1s"), ("12s", "12s"), ("6s", "36s", "1m12s", "7m12s")),
        ("0.01", ("0s", "1s"), ("1s", "1s"), ("6s", "6s"), ("5s", "18s", "36s", "3m36s")),
        ("2", ("0s", "2m"), ("2m30s", "2m"), ("20m", "20m"), ("10m", "1h", "2h", "12h")),
    ],
)
def test_time_scale(
    scale: str,
    stuck: tuple[str, str],
    unreachable: tuple[str, str],
    lag: tuple[str, str],
    windows: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Waits and windows shrink together, names of recorded series with them; 5 s are the least."""
    text = printed(capsys, "--time-scale", scale)
    shown = alerts(text)
    waits = {name: (rule["for"], rule["keep_firing_for"]) for name, rule in shown.items()}
    assert waits["EventLoopStuck"] == stuck
    assert waits["EventLoopUnreachable"] == unreachable
    assert waits["EventLoopLagHigh"] == lag
    exprs = expressions(text)
    for window in windows:
        assert exprs[f"loop:loopwatch_stall_seconds:rate{window}"] == (
            f"sum without (cause, pid) (rate(loopwatch_stall_seconds_total[{window}]))\n"
            f"  / avg_over_time(loop:loopwatch_workers:count[{window}])"
        )
    recorded = {name for name in exprs if ":" in name}
    assert len(recorded) == sum(len(group.recordings) for group in GROUPS)
    for name, expr in exprs.items():
        read = set(re.findall(r"loop:[\w:]+", expr))
        assert read <= recorded, f"{name} reads what nobody records"


def test_the_head_says_how_to_get_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line in the head of a file prints that file, and it says what it needs."""
    head = printed(capsys).partition("groups:")[0]
    assert "Prometheus 2.42 and newer (older ones refuse keep_firing_for)" in head
    assert "one lost scrape tells nobody up to a scrape_interval of 1m." in head
    argv = ["--time-scale", "0.05", "--severity", "critical=page", "--severity", "warning=ticket"]
    text = printed(capsys, *argv, "--selector", 'job=~"a b|c"', "--lag-threshold", "0.25")
    assert text.splitlines()[2] == (
        "#   loopwatch rules --selector 'job=~\"a b|c\"' --lag-threshold 0.25 "
        "--severity critical=page --severity warning=ticket --time-scale 0.05"
    )
    assert "lag" not in text.splitlines()[3]
    same = ["--lag-threshold", "0.25", "--selector", 'job=~"a b|c"', *argv]
    assert printed(capsys, *same) == text


def test_kubernetes_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """The rules in a PrometheusRule are those of the plain file; metadata is as asked for."""
    argv = ["--name", "loops", "--namespace", "monitoring", "--label", "release=prom", "--label"]
    argv += ["example.com/team=pay"]
    labels = {"release": "prom", "example.com/team": "pay"}
    metadata = {"name": "loops", "namespace": "monitoring", "labels": labels}
    rule = yaml.safe_load(printed(capsys, "--format", "prometheus-rule", *argv))
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["metadata"] == metadata
    assert rule["spec"] == yaml.safe_load(printed(capsys))
    argv += ["--format", "pod-monitor", "--pod-label", "app=api"]
    monitor = yaml.safe_load(printed(capsys, *argv))
    assert (monitor["kind"], monitor["metadata"]) == ("PodMonitor", metadata)
    assert monitor["spec"]["selector"] == {"matchLabels": {"app": "api"}}
    assert yaml.safe_load(printed(capsys, "--format", "pod-monitor"))["metadata"] == {
        "name": "loopwatch"
    }


def test_alertmanager_knows_the_severities(capsys: pytest.CaptureFixture[str]) -> None:
    """Renamed in the rules, they are renamed in the routes; time scales too."""
    argv = ["--format", "alertmanager", "--severity", "critical=page", "--time-scale", "0.02"]
    pager, tickets = yaml.safe_load(printed(capsys, *argv))["route"]["routes"]
    assert pager["matchers"][0] == 'severity="page"'
    assert tickets["matchers"][0] == 'severity="warning"'
    assert (pager["group_wait"], pager["group_interval"]) == ("0s", "1s")


def test_options_as_a_library() -> None:
    """What the command prints can be had without it."""
    options = RulesOptions(selector=(Matcher("job", "=", 'a"b\\c\n'),))
    rule = yaml.safe_load(kubernetes.prometheus_rule(options, kubernetes.KubernetesOptions()))
    assert rule["spec"] == yaml.safe_load(rules.plain(options))
    assert r'{job="a\"b\\c\n"}' in rules.plain(options)
    assert yaml.safe_load(alertmanager.example(options))["route"]["receiver"] == "team-chat"


def test_no_third_party_is_needed() -> None:
    """Every format comes out of the standard library alone, so no extra can be missing."""
    script = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.partition('.')[0]\n"
        "        if top != 'loopwatch' and top not in sys.stdlib_module_names:\n"
        "            raise ImportError(name)\n"
        "from loopwatch.cli import main\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "for form in ('plain', 'prometheus-rule', 'pod-monitor', 'alertmanager'):\n"
        "    assert main(['rules', '--format', form]) == 0\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("EventLoopStuck") > 2
