"""A made-up session of Claude Code, or of a program, request by request. Pure.

The figures follow what the real client does: a system prompt of some 20,000 tokens, each request
with the whole conversation before it, nearly all of that read from the cache, titles and sub-agents
with a small model, a summary where the context is full.
"""

import hashlib
import random
from collections.abc import Iterator

import msgspec

from schemas.client_facts import ClientFacts, Purpose
from schemas.events import Billing, UsageRecord
from schemas.usage import Usage
from services.demo import ids
from services.demo.people import HAIKU, OPUS, KeyPlan, Person

__all__ = ["SECOND_US", "Caller", "converse"]

SECOND_US = 1_000_000
_CONTEXT_MAX = 165_000
"""A conversation that is longer is summarised, as Claude Code does."""
_SHARED_PREFIX = 14_200
"""So much of the system prompt is the same in all sessions, and mostly in the cache."""
_TOKENS_PER_S = 72
_CACHE_5M_US = 300 * SECOND_US
_CACHE_1H_US = 3600 * SECOND_US
_THINKING_LONG = 0.16
_BETAS = "claude-code-20250219,context-management-2025-06-27,interleaved-thinking-2025-05-14"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: a virtual key, whose it is, and what its client says of itself.

    `account` and `device` are ids as the client tells them; the ledger knows their hashes, which
    are those that the proxy makes, so that history and what comes later are of one account.
    """

    person: Person
    plan: KeyPlan
    key_id: str
    device: str
    account: str
    version: str

    @property
    def device_hash(self) -> str:
        """What the ledger knows of the device."""
        return _hash(self.device)

    @property
    def account_hash(self) -> str:
        """What the ledger knows of the account."""
        return _hash(self.account)

    @property
    def seat(self) -> str:
        """What stands for the account where its quotas are told."""
        return _hash(f"tallygate seat\0account\0{self.account}")

    @property
    def billing(self) -> Billing:
        """Who pays."""
        return "subscription" if self.plan.seat else "api"

    @property
    def is_claude_code(self) -> bool:
        """Whether the client is Claude Code, and no program of the company's own."""
        return self.plan.style == "interactive"

    @property
    def user_agent(self) -> str:
        """The client's own word for itself."""
        if self.is_claude_code:
            return f"claude-cli/{self.version} (external, {self.plan.entrypoint})"
        return (
            "Anthropic/Python 2.4.0" if self.plan.entrypoint == "sdk-py" else "Anthropic/JS 1.9.2"
        )


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one request is, before it is a record."""

    model: str
    usage: Usage
    duration_us: int
    first_byte_us: int
    purpose: Purpose | None
    stop_reason: str
    messages: int
    agent_id: str | None = None


class _Session:
    """One conversation: what is in its context and in the cache, and what time it is."""

    def __init__(self, rng: random.Random, caller: Caller, model: str, start_us: int) -> None:
        self._rng = rng
        self._caller = caller
        self._model = model
        self._now_us = start_us
        self._session_id = ids.session_id(rng) if caller.is_claude_code else None
        self._base = (
            rng.randint(17_500, 26_000) if caller.is_claude_code else rng.randint(900, 4800)
        )
        tags = caller.plan.session_tags
        self._tag = rng.choice(tags) if tags else None
        self._context = 0
        self._cached = 0
        self._cached_until_us = 0
        self._messages = 1

    def requests(self, count: int) -> Iterator[UsageRecord]:
        """Yield the requests, in the order of their beginnings."""
        left = count
        if self._caller.is_claude_code and left > 1:
            yield self._record(self._small_turn("title", self._rng.randint(700, 1600), 24))
            left -= 1
        while left > 0:
            if self._is_agent_due() and left > 3:
                agents = min(left - 1, self._rng.randint(3, 8))
                yield from self._agent(agents)
                left -= agents
                continue
            yield self._record(self._main_turn(is_last=left == 1))
            left -= 1

    def _is_agent_due(self) -> bool:
        return self._caller.is_claude_code and self._context > 0 and self._rng.random() < 0.045

    def _main_turn(self, *, is_last: bool) -> _Turn:
        rng = self._rng
        added = self._base if self._context == 0 else _amount(rng, 1400, 1.0, 22_000)
        if self._context > _CONTEXT_MAX:
            # It was summarised: the summary is all that is left of it.
            self._context, self._cached, added = self._base, _SHARED_PREFIX, _amount(rng, 4200, 0.4)
            self._messages = 1
        before, self._context = self._context, self._context + added
        read = self._read_from_cache(before)
        fresh = rng.randint(3, 14) if self._caller.is_claude_code else rng.randint(40, 900)
        written = max(0, self._context - read - fresh)
        output = _amount(rng, 230, 0.9, 9000)
        if rng.random() < _THINKING_LONG:
            output += _amount(rng, 2100, 0.6, 14_000)
        usage = _cached_usage(self._caller, fresh, output, read, written)
        self._cached = self._context
        self._context += output
        self._messages += 2
        done = is_last or rng.random() < 0.24
        return _Turn(
            model=self._model,
            usage=usage,
            first_byte_us=_first_byte_us(rng, written, is_slow=self._model == OPUS),
            duration_us=int(output / _TOKENS_PER_S * rng.uniform(0.8, 1.4) * SECOND_US),
            purpose="main" if self._caller.is_claude_code else None,
            stop_reason="end_turn" if done else "tool_use",
            messages=self._messages,
        )

    def _read_from_cache(self, before: int) -> int:
        if self._now_us < self._cached_until_us:
            return min(self._cached, before)
        # Others of the company use the same beginning all day.
        is_warm = self._caller.is_claude_code and self._rng.random() < 0.9
        return min(_SHARED_PREFIX, self._context) if is_warm else 0

    def _small_turn(
        self,
        purpose: Purpose,
        input_tokens: int,
        output_tokens: int,
        *,
        agent_id: str | None = None,
    ) -> _Turn:
        rng = self._rng
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=_amount(rng, output_tokens, 0.4, 4000),
            service_tier="standard",
        )
        return _Turn(
            model=HAIKU,
            usage=usage,
            first_byte_us=int(rng.uniform(0.25, 0.8) * SECOND_US),
            duration_us=int(usage.output_tokens / 140 * SECOND_US),
            purpose=purpose,
            stop_reason="end_turn",
            messages=1,
            agent_id=agent_id,
        )

    def _agent(self, count: int) -> Iterator[UsageRecord]:
        """Yield the requests of a sub-agent, which has a small context of its own."""
        rng = self._rng
        agent_id = ids.hex_digits(rng, 16)
        context, cached = rng.randint(9000, 14_000), 0
        for index in range(count):
            fresh = rng.randint(3, 9)
            usage = _cached_usage(
                self._caller,
                fresh,
                _amount(rng, 260, 0.7, 3000),
                cached,
                context - cached - fresh,
            )
            cached = context
            context += usage.output_tokens + _amount(rng, 1900, 0.8, 16_000)
            yield self._record(
                _Turn(
                    model=HAIKU,
                    usage=usage,
                    first_byte_us=int(rng.uniform(0.3, 0.9) * SECOND_US),
                    duration_us=int(usage.output_tokens / 140 * SECOND_US),
                    purpose="agent",
                    stop_reason="end_turn" if index == count - 1 else "tool_use",
                    messages=1 + 2 * index,
                    agent_id=agent_id,
                )
            )

    def _record(self, turn: _Turn) -> UsageRecord:
        """Return the request, and go on to when the next one begins."""
        rng, caller = self._rng, self._caller
        started_at_us = self._now_us + rng.randrange(1000)
        first_byte_at_us = started_at_us + turn.first_byte_us
        ended_at_us = first_byte_at_us + turn.duration_us
        self._now_us = ended_at_us + self._pause_us(turn)
        ttl_us = _CACHE_1H_US if caller.plan.seat else _CACHE_5M_US
        if turn.purpose != "agent":
            self._cached_until_us = ended_at_us + ttl_us
        return UsageRecord(
            request_id=ids.request_id(rng, started_at_us),
            started_at_us=started_at_us,
            first_byte_at_us=first_byte_at_us,
            ended_at_us=ended_at_us,
            key_id=caller.key_id,
            key_alias=caller.plan.alias,
            user_id=caller.person.user_id,
            team_id=caller.person.team_id,
            model_name=turn.model,
            model=turn.model,
            response_model=turn.model,
            deployment=f"{turn.model}/0",
            billing=caller.billing,
            stream=caller.plan.style != "batch",
            session_id=self._session_id,
            user_agent=caller.user_agent,
            request_bytes=4 * (turn.usage.input_tokens + self._context) + rng.randrange(900),
            response_bytes=5 * turn.usage.output_tokens + rng.randrange(1200),
            usage=turn.usage,
            upstream_request_id=ids.upstream_request_id(rng),
            message_id=ids.message_id(rng),
            stop_reason=turn.stop_reason,
            client=self._client(turn),
        )

    def _pause_us(self, turn: _Turn) -> int:
        """Return what passes until the next request: a tool's work, or a person's thoughts."""
        rng = self._rng
        if not self._caller.is_claude_code:
            return int(rng.uniform(0.4, 4.0) * SECOND_US)
        if turn.purpose == "title" or turn.stop_reason == "tool_use":
            return int(min(90.0, rng.lognormvariate(0.6, 1.0)) * SECOND_US)
        return int(min(1500.0, rng.lognormvariate(4.2, 1.0)) * SECOND_US)

    def _client(self, turn: _Turn) -> ClientFacts:
        caller = self._caller
        if not caller.is_claude_code:
            name, _, version = caller.user_agent.partition(" ")[0].partition("/")
            return ClientFacts(
                name=name, version=version, max_tokens=4096, message_count=1, tags=self._tag
            )
        is_small = turn.purpose == "title"
        return ClientFacts(
            name="claude-cli",
            version=caller.version,
            entrypoint=caller.plan.entrypoint,
            purpose=turn.purpose,
            agent_id=turn.agent_id,
            device_hash=caller.device_hash,
            account_hash=caller.account_hash if caller.plan.seat else None,
            effort="high" if turn.model == OPUS else None,
            thinking=None if is_small or turn.model == HAIKU else "adaptive",
            betas=_BETAS,
            tool_count=0 if is_small else 21,
            message_count=turn.messages,
            max_tokens=512 if is_small else 32_000,
        )


def converse(
    rng: random.Random, caller: Caller, model: str, start_us: int, count: int
) -> Iterator[UsageRecord]:
    """Yield so many requests of one session, in the order of their beginnings; all succeed."""
    return _Session(rng, caller, model, start_us).requests(count)


def _amount(rng: random.Random, median: int, spread: float, maximum: int = 1_000_000) -> int:
    """Return a number of tokens: most are near the median, a few are many times it."""
    return max(1, min(maximum, int(median * rng.lognormvariate(0.0, spread))))


def _cached_usage(caller: Caller, fresh: int, output: int, read: int, written: int) -> Usage:
    """Return what a request used; those of a subscription keep their cache for an hour."""
    is_long = caller.plan.seat
    return Usage(
        input_tokens=fresh,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_1h_tokens=written if is_long else 0,
        cache_write_5m_tokens=0 if is_long else written,
        service_tier="standard",
    )


def _first_byte_us(rng: random.Random, written: int, *, is_slow: bool) -> int:
    """Return what passes until an answer begins: longer where much of the prompt is new."""
    base_s = rng.lognormvariate(0.1 if is_slow else -0.35, 0.35)
    return int((base_s + written / 60_000) * SECOND_US)
