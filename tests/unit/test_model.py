"""The record as programs outside read it."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from tests.unit.factories import ledger, stall

RECORD_KEYS = [
    "schema", "id", "phase", "started_at", "duration_s", "loop", "loop_impl", "pid", "thread",
    "sensor", "cause", "confidence", "allowed", "culprit", "entry", "task", "request", "advice",
    "evidence", "other_thread", "samples", "fingerprint",
    "victims", "suppressed",
]  # fmt: skip


def test_the_record_has_the_keys_of_the_contract_in_order() -> None:
    """Schema loopwatch.stall/1: every key is there, absent knowledge is null."""
    record = stall().to_dict()
    assert list(record) == RECORD_KEYS
    assert record["schema"] == "loopwatch.stall/1"
    assert record["started_at"] == "2026-11-21T07:30:03.250000Z"
    assert list(record["culprit"]) == ["function", "file", "line", "call", "source", "in_app"]
    assert list(record["evidence"]) == [
        "wall_s", "cpu_s", "gc_s", "runqueue_wait_s", "throttled_s", "wait", "wait_detail",
        "samples", "process_cpu_s", "overslept_s",
    ]  # fmt: skip
    assert list(record["samples"][0]) == ["at_s", "count", "source", "frames"]
    assert list(record["samples"][0]["frames"][0]) == ["function", "file", "line", "in_app"]
    assert record["request"] is record["advice"] is record["allowed"] is None
    assert json.loads(json.dumps(record)) == record


def test_a_record_without_knowledge_is_still_a_record() -> None:
    """No sample, no task: null, and it serializes."""
    record = stall(culprit=None, entry=None, task=None, samples=()).to_dict()
    assert record["culprit"] is record["entry"] is record["task"] is None
    assert json.loads(json.dumps(record)) == record


def test_records_are_frozen() -> None:
    """Whoever gets a record cannot change it for others."""
    with pytest.raises(FrozenInstanceError):
        stall().duration_s = 1.0  # type: ignore[misc]


def test_a_snapshot_is_plain_json() -> None:
    """What /api/snapshot serves."""
    now = ledger().snapshot().to_dict()
    assert json.loads(json.dumps(now)) == now
    assert now["thresholds"]["tasks"] == 1000
