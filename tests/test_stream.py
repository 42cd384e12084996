"""Items through threads: order does not matter, failures are data, signals end a run cleanly."""

import os
import signal
import threading
import time
from dataclasses import dataclass

import pytest

from fusecli.errors import InputError
from fusecli.outcome import Outcome, RunReport
from fusecli.report import Reporter
from fusecli.run import stream


@dataclass(frozen=True)
class Item:
    key: str


def run(items, work, **options) -> RunReport:
    reporter = Reporter(progress="none", quiet=True)
    return stream.run(
        items, work, report=RunReport("fuse", "fused", "out"), reporter=reporter, **options
    )


def items(count: int) -> list[Item]:
    return [Item(f"{number:04d}") for number in range(count)]


@pytest.mark.parametrize("threads", [1, 4])
def test_every_item_is_worked_on_once(threads: int) -> None:
    seen: list[str] = []

    def work(item: Item) -> Outcome:
        seen.append(item.key)
        return Outcome(item.key, ms={"run": 1.5})

    report = run(items(50), work, total=50, threads=threads)
    assert sorted(seen) == [item.key for item in items(50)]
    assert (report.found, report.done, report.failed) == (50, 50, 0)
    assert report.ms == {"run": 75.0}
    assert report.exit_code == 0


def test_a_failing_item_is_recorded_and_the_run_goes_on() -> None:
    def work(item: Item) -> Outcome:
        if item.key == "0003":
            raise InputError("cannot decode it", code="read.decode")
        if item.key == "0005":
            raise ValueError("surprise")
        return Outcome(item.key)

    report = run(items(8), work, total=8, threads=3)
    assert (report.done, report.failed, report.exit_code) == (6, 2, 3)
    codes = {failure["key"]: failure["code"] for failure in report.as_dict()["failures"]}
    assert codes == {"0003": "read.decode", "0005": "internal"}


def test_when_all_fail_the_exit_code_says_so() -> None:
    def work(item: Item) -> Outcome:
        raise OSError(28, "No space left on device", "/disk/full.png")

    report = run(items(3), work, total=3, threads=2)
    assert report.exit_code == 4
    assert "No space left on device: /disk/full.png" in report.failures[0]["message"]


def test_fail_fast_starts_no_further_item() -> None:
    started: list[str] = []

    def work(item: Item) -> Outcome:
        started.append(item.key)
        raise InputError("no", code="read.decode")

    report = run(items(500), work, total=500, threads=2, fail_fast=True)
    assert len(started) < 20
    assert report.found == 500


def test_items_are_read_only_as_threads_come_free() -> None:
    """A list longer than memory must not be read ahead of the work."""
    lead, done = [], []

    def endless():
        for item in items(200):
            lead.append(len(lead) - len(done))
            yield item

    def work(item: Item) -> Outcome:
        time.sleep(0.001)
        done.append(item.key)
        return Outcome(item.key)

    report = run(endless(), work, threads=3)
    assert report.found == report.done == 200
    assert max(lead) <= 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_items_in_flight_finish(number: int) -> None:
    begun, ended = [], []

    def work(item: Item) -> Outcome:
        begun.append(item.key)
        if len(begun) == 5:
            os.kill(os.getpid(), number)
        time.sleep(0.01)
        ended.append(item.key)
        return Outcome(item.key)

    before = signal.getsignal(number)
    report = run(items(1000), work, total=1000, threads=2)
    assert report.exit_code == 128 + number
    assert sorted(begun) == sorted(ended)
    assert 5 <= len(ended) < 100
    assert report.done == len(ended)
    assert signal.getsignal(number) is before


def test_it_also_runs_outside_the_main_thread() -> None:
    reports: list[RunReport] = []

    def elsewhere() -> None:
        reports.append(run(items(5), lambda item: Outcome(item.key), total=5))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert reports[0].done == 5
