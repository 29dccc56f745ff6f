"""When a wait is spoken of."""

from services.runtime.waiting import TOLD_AFTER_S, TOLD_EVERY_S, WaitTeller


def test_wait_is_told_late_and_seldom() -> None:
    # Given a wait that goes on, when it is asked about each second, then it is told first after
    # TOLD_AFTER_S and from then on once in TOLD_EVERY_S.
    now_s = 100.0
    teller = WaitTeller(lambda: now_s)
    told = []
    for second in range(130):
        now_s = 100.0 + second
        if teller.is_due():
            told.append(second)
    assert told == [TOLD_AFTER_S, TOLD_AFTER_S + TOLD_EVERY_S, TOLD_AFTER_S + 2 * TOLD_EVERY_S]
