"""`loopwatch report` on logs of real processes, on a real terminal, in a real browser."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopwatch.model import Culprit, Frame, Sample
from tests.conftest import start_child
from tests.unit.factories import stall

WORKER = """
    import pathlib
    import loopwatch

    log, held = sys.argv[1], sys.argv[2]

    def slow(seconds):
        time.sleep(seconds)

    def slower(seconds):
        time.sleep(seconds)

    async def main():
        settings = dict(
            stall_threshold_s=0.05, stall_log=log, stall_log_max_bytes=3000, stall_log_backups=50,
            like_stalls_per_minute=1000, stalls_per_minute=1000,
        )
        async with loopwatch.install(**settings) as agent:
            for _ in range(4):
                slow(0.1)
                await asyncio.sleep(0.02)
            slower(0.15)
            await asyncio.sleep(0.02)
            if held == "held":
                threading.Thread(target=told, args=(agent,), daemon=True).start()
                slow(60)
            await asyncio.sleep(0.1)

    def is_written(identity):
        # The other worker may rotate it away at any moment.
        for each in pathlib.Path(log).parent.glob("stalls.jsonl*"):
            try:
                if identity in each.read_text():
                    return True
            except FileNotFoundError:
                pass
        return False

    def told(agent):
        while not (agent.stalls and agent.snapshot().active_stall):
            time.sleep(0.01)
        while not is_written(agent.snapshot().active_stall.id):
            time.sleep(0.01)
        print(json.dumps([stall.to_dict() for stall in agent.stalls]), flush=True)

    run(main())
    """


def report(*argv: object, code: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "loopwatch", "report", *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rotated logs of two workers that shared a file; one was killed in a stall."""
    folder = tmp_path_factory.mktemp("logs")
    log = folder / "stalls.jsonl"
    folders = [folder / name for name in ("one", "two")]
    for each in folders:
        each.mkdir()
    with (
        start_child(folders[0], WORKER, str(log), "held") as held,
        start_child(folders[1], WORKER, str(log), "free") as free,
    ):
        assert free.wait(30) == 0, free.stderr.read() if free.stderr else ""
        assert held.stdout is not None
        assert json.loads(held.stdout.readline())
        held.send_signal(signal.SIGKILL)
    with log.open("ab") as file:
        file.write(b'{"schema":"loopwatch.stall/1","id":"to')
    files = sorted(folder.glob("stalls.jsonl*"))
    assert len(files) > 3
    oldest = files.pop()
    packed = oldest.with_name(f"{oldest.name}.gz")
    packed.write_bytes(gzip.compress(oldest.read_bytes()))
    oldest.unlink()
    return [*files, packed]


def stalls_in(logs: list[Path]) -> list[dict[str, Any]]:
    """Return the last record of each stall, by reading everything into memory."""
    texts = [
        gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
        for log in logs
    ]
    lines = [line for text in texts for line in text.splitlines() if line.endswith(b"}")]
    records = [json.loads(line) for line in lines]
    last: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["phase"] == "final" or record["id"] not in last:
            last[record["id"]] = record
    return list(last.values())


def test_stalls_of_real_workers_are_counted_once(logs: list[Path]) -> None:
    """Across rotated and packed files, whatever their order; the one killed in a stall is told."""
    stalls = stalls_in(logs)
    told: dict[str, Any] = json.loads(report(*logs, "--json"))
    assert told["stalls"] == len(stalls) >= 11
    assert told["unfinished"] == sum(each["phase"] == "ongoing" for each in stalls) == 1
    for group in told["groups"]:
        like = [each for each in stalls if each["fingerprint"] == group["fingerprint"]]
        assert group["count"] == len(like)
        assert group["total_s"] == pytest.approx(sum(each["duration_s"] for each in like))
        assert group["worst_s"] == max(each["duration_s"] for each in like)
        assert group["first_seen"] == min(each["started_at"] for each in like)
        assert group["last_seen"] == max(each["started_at"] for each in like)
        assert group["workers"] == len({each["pid"] for each in like})
        assert group["flame"]["value"] == group["total_s"]
    slept = next(g for g in told["groups"] if (g["culprit"] or {}).get("call") == "time.sleep")
    assert (slept["cause"], slept["workers"]) == ("blocking_call", 2)
    assert slept["advice"].startswith("use asyncio.sleep")
    again = json.loads(report(*reversed(logs), "--json"))
    assert again["groups"] == told["groups"]


def test_the_table_of_real_workers(logs: list[Path]) -> None:
    """What people see, and the exit code that fails a build."""
    shown = report(*logs, "--fail-over", "80ms", code=1)
    assert "called time.sleep" in shown
    assert "1 stall without an end" in shown


def test_the_progress_of_a_long_reading(tmp_path: Path) -> None:
    """A terminal sees it, and the table stays as it is."""
    log = tmp_path / "long.jsonl"
    record = json.dumps(stall().to_dict())
    pad = " " * 20_000
    log.write_text("".join(f"{record}{pad}\n" for _ in range(1200)))
    ours, theirs = pty.openpty()
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "loopwatch", "report", str(log)],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            check=True,
            timeout=60,
        )
        seen = os.read(ours, 100_000).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert "reading" in seen
    assert re.search(r"(2\d\.\d)/\1 MB", seen)
    assert ran.stdout.decode().splitlines()[-1].startswith("1 stall of 1 fingerprint")


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """`| head` ends it without a traceback."""
    log = tmp_path / "log"
    log.write_text(
        "".join(
            json.dumps(stall(id=str(n), fingerprint=str(n)).to_dict()) + "\n" for n in range(2000)
        )
    )
    command = f"{sys.executable} -m loopwatch report {log} --json | head -c 10"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert ran.stdout == '{"schema":'
    assert ran.stderr == ""


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = "</script><script>document.title='pwned'</script><img src=x onerror=document.title='x'>"


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """The first graph is drawn, frame by frame; what names say as markup does nothing."""
    frames = (Frame(EVIL, "app.py", 4, in_app=True), Frame("lib.run", "lib.py", 9, in_app=False))
    culprit = Culprit(EVIL, "app.py", 4, EVIL, EVIL, in_app=True)
    sample = Sample(0.1, 2, "watchdog", frames)
    record = stall(culprit=culprit, samples=(sample,), duration_s=1.5)
    log, page = tmp_path / "log", tmp_path / "page.html"
    log.write_text(json.dumps(record.to_dict()))
    report(log, "--html", page)
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000")
    ran = subprocess.run(
        [
            str(BROWSER),
            *options,
            f"--user-data-dir={tmp_path}/profile",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "<title>Stalls · loopwatch report</title>" in ran.stdout
    assert ran.stdout.count('class="flame-frame') == 3
    assert "unknown: 1.5 s" in ran.stdout
    assert "<img" not in ran.stdout
    assert ran.stdout.count("<script") == 2
