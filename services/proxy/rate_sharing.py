"""Rate limits of many workers: what each tells the others, and what it makes of their word.

Every worker has every limit's standing in memory: its own doing at once, that of the others as it
hears of it, some 100 ms later. Of what the others have not heard of yet it begins no more than its
share of what is left (services.proxy.rate_tally); a request beyond that waits a moment for their
word. So no minute has more than the limit and one request for each further worker, whatever the
network delays. docs/rate-limits.md has the rules for people, docs/adr/0032 the reasons.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import deque

import msgspec

from schemas.rates import RATE_STANDINGS_MAX, RateNews, RateStanding
from schemas.streams import RATES_SUBJECT
from services.proxy.rate_tally import Tally, TallyName
from services.proxy.rates import Rates
from services.runtime.bus import Bus, BusUnavailable
from services.runtime.tasks import end_tasks

__all__ = ["SILENT_TICKS", "TICK_S", "Sharing", "share_for_ever"]

log = logging.getLogger(__name__)

TICK_S = 0.1
"""What changed is told so often."""
URGENT_S_MIN = 0.005
"""Between two messages that do not wait for the tick there is at least so much time."""
_BEAT_TICKS = 10
"""A worker that has nothing to tell says so after so many ticks."""
SILENT_TICKS = 35
"""One that was not heard for so many ticks is gone. Ticks are this worker's own: where it stands
still itself, nobody is gone for that."""
_ECHO_TICKS = 15
"""A worker that does not hear itself for so many ticks is cut off."""
_FORGET_TICKS = 600
SENT_MAX = 1000
"""Of so many messages it is remembered what they told, until all have heard of it. What was told in
an older one counts as not heard of until it changes again."""
PEERS_MAX = 255
"""So many other workers are known at most; further ones are not counted."""

_decoder = msgspec.json.Decoder(RateNews)
_encoder = msgspec.json.Encoder()


class _Peer:
    """What was heard of another worker, and what it has heard.

    `latest` is its last message, `run_from` the first of those that came without a gap before it,
    `known` that up to which all of its standings are known here. Of this worker's own messages it
    knows those up to `confirms`. `standings` are what it counted and holds of each limit.
    """

    __slots__ = (
        "confirms",
        "is_behind",
        "known",
        "latest",
        "run_from",
        "silent_ticks",
        "standings",
    )

    def __init__(self) -> None:
        self.latest = 0
        self.run_from = 0
        self.known = 0
        self.confirms = 0
        self.is_behind = True
        self.silent_ticks = 0
        self.standings: dict[TallyName, tuple[int, int]] = {}

    def follows(self, news: RateNews) -> None:
        """Note a message, and whether all standings are known with it."""
        if news.sequence != self.latest + 1 or not self.run_from:
            self.run_from = news.sequence
            self.is_behind = True
        self.latest = news.sequence
        if news.whole_from and self.run_from <= news.whole_from:
            self.is_behind = False
        if not self.is_behind:
            self.known = news.sequence


class Sharing:
    """The word of one worker and of the others. Pure: whoever has a network carries the messages.

    `hear` takes in each message, this worker's own ones too; `tick` is called every TICK_S and
    returns what is to be sent, as does `messages` at other times.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self.worker = secrets.token_hex(8)
        self._sequence = 0
        self._peers: dict[str, _Peer] = {}
        # What was told in which message and is not known to all others yet: where it stood then.
        self._sent: deque[tuple[int, list[tuple[Tally, int]]]] = deque(maxlen=SENT_MAX)
        self._is_whole_due = False
        self._is_answer_due = True
        self._ticks = 0
        self._quiet_ticks = 0
        self._echo_ticks = _ECHO_TICKS

    # ------------------------------------------------------------------------------ telling

    def tick(self, *, is_connected: bool) -> list[bytes]:
        """Let the time go on; return what is to be sent now."""
        rates = self._rates
        self._ticks += 1
        self._quiet_ticks += 1
        self._echo_ticks += 1
        if not is_connected:
            self._echo_ticks = max(self._echo_ticks, _ECHO_TICKS + 1)
        is_cut_off = self._echo_ticks > _ECHO_TICKS
        if rates.is_cut_off and not is_cut_off:
            self._is_whole_due = True
        rates.is_cut_off = is_cut_off
        if not is_cut_off:
            # Nobody is gone because this worker hears nothing at all.
            self._age()
        if self._ticks % _FORGET_TICKS == 0:
            self._forget()
        if not is_connected:
            return []
        is_due = self._is_answer_due or self._is_whole_due or bool(self._peers and rates.changed)
        return self.messages() if is_due or self._quiet_ticks >= _BEAT_TICKS else []

    def messages(self, *, is_urgent: bool = False) -> list[bytes]:
        """Return messages with all that changed since the last ones, or with nothing but a beat."""
        rates = self._rates
        now_s = rates.now_s()
        whole_from = 0
        if self._is_whole_due:
            whole_from = self._sequence + 1
            for tally in rates.tallies():
                tally.level(now_s)
                if tally.own or tally.held:
                    tally.change()
        told = rates.changed.copy() if self._peers else []
        for tally in rates.changed:
            tally.is_changed = False
        rates.changed.clear()
        self._is_whole_due = self._is_answer_due = False
        self._quiet_ticks = 0
        payloads: list[bytes] = []
        for start in range(0, max(1, len(told)), RATE_STANDINGS_MAX):
            part = told[start : start + RATE_STANDINGS_MAX]
            is_last = start + RATE_STANDINGS_MAX >= len(told)
            self._sequence += 1
            self._sent.append((self._sequence, [(tally, tally.started) for tally in part]))
            news = RateNews(
                self.worker,
                self._sequence,
                {name: peer.known for name, peer in self._peers.items()},
                tuple(_standing(tally, now_s) for tally in part),
                whole_from if is_last else 0,
                is_urgent,
                tuple(name for name, peer in self._peers.items() if peer.is_behind),
            )
            payloads.append(_encoder.encode(news))
        return payloads

    # ------------------------------------------------------------------------------ hearing

    def hear(self, payload: bytes) -> bool:
        """Take in a message; return whether an answer is wanted at once.

        One that cannot be read is logged and changes nothing.
        """
        try:
            news = _decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("another worker's word on rate limits cannot be read: %s", error)
            return False
        if news.worker == self.worker:
            self._echo_ticks = 0
            return False
        peer = self._peers.get(news.worker)
        is_new = peer is None
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                return False
            # It knows nothing of this one's doing.
            peer = self._peers[news.worker] = _Peer()
            self._rates.workers = 1 + len(self._peers)
            self._is_whole_due = True
        peer.silent_ticks = 0
        peer.follows(news)
        self._take(peer, news)
        peer.confirms = max(peer.confirms, news.heard.get(self.worker, 0))
        self._confirm()
        if self.worker in news.asked_anew:
            self._is_whole_due = True
        self._is_answer_due |= bool(news.standings) or peer.is_behind
        return news.is_urgent or is_new

    def _take(self, peer: _Peer, news: RateNews) -> None:
        now_s = self._rates.now_s()
        for each in news.standings:
            name: TallyName = (each.scope, each.scope_id, each.what, each.model)
            tally = self._rates.tally(name)
            counted, held = peer.standings.get(name, (0, 0))
            # What was counted longer ago than a minute is of no interest.
            tally.heard(now_s, min(max(0, each.counted - counted), each.recent))
            tally.others_hold += each.held - held
            peer.standings[name] = (each.counted, each.held)

    def _confirm(self) -> None:
        """Note what all others have heard of by now."""
        known = min((peer.confirms for peer in self._peers.values()), default=self._sequence)
        is_news = False
        while self._sent and self._sent[0][0] <= known:
            for tally, started in self._sent.popleft()[1]:
                tally.confirmed = max(tally.confirmed, started)
                is_news = True
        if is_news:
            self._rates.wake()

    # ----------------------------------------------------------------------- coming and going

    def _age(self) -> None:
        """Count as gone who was silent for too long. What it used counts to the minute's end."""
        gone = []
        for name, peer in self._peers.items():
            peer.silent_ticks += 1
            if peer.silent_ticks > SILENT_TICKS:
                gone.append(name)
        for name in gone:
            for tally_name, (_, held) in self._peers.pop(name).standings.items():
                if held:
                    self._rates.tally(tally_name).others_hold -= held
        if gone:
            self._rates.workers = 1 + len(self._peers)
            self._confirm()
            self._rates.wake()

    def _forget(self) -> None:
        """Forget tallies that count nothing, and what was heard of them."""
        self._rates.forget()
        for peer in self._peers.values():
            known = {name: self._rates.knows(name) for name in peer.standings}
            peer.standings = {name: each for name, each in peer.standings.items() if known[name]}


def _standing(tally: Tally, now_s: float) -> RateStanding:
    tally.level(now_s)
    return RateStanding(*tally.name, tally.counted, tally.own, tally.held)


async def share_for_ever(sharing: Sharing, rates: Rates, bus: Bus) -> None:
    """Carry the messages for as long as the process lives."""

    async def say(payloads: list[bytes]) -> None:
        # What cannot be said now would be old when it could: a later message says it anew.
        with contextlib.suppress(BusUnavailable):
            for payload in payloads:
                await bus.tell(RATES_SUBJECT, payload)

    async def hear() -> None:
        async for payload in bus.hear(RATES_SUBJECT):
            # Where something was missed the numbers of the messages tell it.
            if payload is not None and sharing.hear(payload):
                await say(sharing.messages())

    async def say_urgent() -> None:
        while True:
            await rates.word_wanted.wait()
            rates.word_wanted.clear()
            await say(sharing.messages(is_urgent=True))
            await asyncio.sleep(URGENT_S_MIN)

    async def beat() -> None:
        while True:
            await say(sharing.tick(is_connected=bus.is_connected))
            await asyncio.sleep(TICK_S)

    # No task group: it cancels each task once, which a library may lose (services.runtime.tasks).
    tasks = [asyncio.create_task(each()) for each in (hear, say_urgent, beat)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            await task
    finally:
        await end_tasks(*tasks)
