"""The pause after a failure of the store."""

from __future__ import annotations

from services.runtime.cooldown import Cooldown, Ticket


def entered(cooldown: Cooldown, now_s: float) -> Ticket:
    ticket = cooldown.enter(now_s)
    assert ticket is not None
    return ticket


def failed_at(now_s: float) -> Cooldown:
    cooldown = Cooldown(pause_s=1.0)
    cooldown.failed(entered(cooldown, now_s), now_s)
    return cooldown


def test_a_well_store_is_asked_by_everyone() -> None:
    cooldown = Cooldown(pause_s=1.0)
    tickets = [entered(cooldown, 0.0) for _ in range(3)]
    for ticket in tickets:
        cooldown.succeeded(ticket)
    entered(cooldown, 0.0)


def test_after_a_failure_nobody_asks_until_the_pause_is_over() -> None:
    cooldown = failed_at(10.0)
    assert cooldown.enter(10.0) is None
    assert cooldown.enter(10.999) is None
    assert cooldown.enter(11.0) is not None


def test_after_the_pause_only_one_probe_asks() -> None:
    cooldown = failed_at(0.0)
    entered(cooldown, 1.0)
    assert cooldown.enter(1.0) is None
    assert cooldown.enter(99.0) is None


def test_a_probe_that_succeeds_ends_the_pause() -> None:
    cooldown = failed_at(0.0)
    cooldown.succeeded(entered(cooldown, 1.0))
    entered(cooldown, 1.0)
    entered(cooldown, 1.0)


def test_a_probe_that_fails_starts_another_pause() -> None:
    cooldown = failed_at(0.0)
    cooldown.failed(entered(cooldown, 1.0), 1.5)
    assert cooldown.enter(2.4) is None
    assert cooldown.enter(2.5) is not None


def test_a_probe_whose_caller_left_makes_room_for_the_next() -> None:
    cooldown = failed_at(0.0)
    cooldown.abandoned(entered(cooldown, 1.0))
    assert cooldown.enter(1.0) is not None


def test_results_from_before_a_change_of_state_count_for_nothing() -> None:
    cooldown = Cooldown(pause_s=1.0)
    slow, slower, failing = (entered(cooldown, 0.0) for _ in range(3))
    cooldown.failed(failing, 0.0)
    cooldown.succeeded(slow)
    assert cooldown.enter(0.5) is None
    cooldown.succeeded(entered(cooldown, 1.0))
    cooldown.failed(slower, 1.0)
    entered(cooldown, 1.0)


def test_only_failures_in_a_row_count_and_a_probe_needs_no_second_one() -> None:
    cooldown = Cooldown(pause_s=1.0, failures_max=3)
    for _ in range(2):
        cooldown.failed(entered(cooldown, 0.0), 0.0)
    cooldown.succeeded(entered(cooldown, 0.0))
    for _ in range(2):
        cooldown.failed(entered(cooldown, 0.0), 0.0)
    cooldown.failed(entered(cooldown, 0.0), 0.0)
    assert cooldown.enter(0.5) is None
    cooldown.failed(entered(cooldown, 1.0), 1.0)
    assert cooldown.enter(1.5) is None
    cooldown.succeeded(entered(cooldown, 2.0))
    for _ in range(2):
        cooldown.failed(entered(cooldown, 2.0), 2.0)
    entered(cooldown, 2.0)
