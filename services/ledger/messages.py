"""Reads a message of the stream USAGE: a batch of events, a change of prices, a repricing. Pure."""

import msgspec

from schemas.events import (
    EVENT_BYTES_MAX,
    UsageEvent,
    decode_price_event,
    decode_reprice_event,
    decode_usage_event,
)
from schemas.prices import PriceChange, Repricing
from schemas.streams import PRICE_SUBJECTS, REPRICE_SUBJECT, price_subject
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook, PriceBookError
from services.runtime.price_checks import OVERLAYS_MAX

__all__ = [
    "UNREADABLE",
    "Entry",
    "Message",
    "entries_of",
    "is_about_prices",
    "raw_entries",
    "read_message",
]

TIME_US_MAX = 253_402_300_799_999_999
"""The end of the year 9999."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_events_decoder = msgspec.json.Decoder(list[UsageEvent])
_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])

Entry = UsageEvent | str
"""An event, or in words why it cannot be read."""
Message = list[Entry] | PriceChange | Repricing | str
"""A batch, a change of prices, a repricing, or in words why it is none of them."""


def read_message(message: StreamMessage) -> Message:
    """Return what a message says, or why that cannot be read."""
    if message.subject in PRICE_SUBJECTS:
        return _price_change(message.subject, message.payload)
    if message.subject == REPRICE_SUBJECT:
        return _repricing(message.payload)
    return entries_of(message.payload)


def _price_change(subject: str, payload: bytes) -> PriceChange | str:
    """Return a change of prices, or why it cannot be one."""
    try:
        change = decode_price_event(payload).data
    except UNREADABLE as error:
        return f"not a change of prices: {error}"
    if subject != price_subject(change.kind):
        return f"a change of {change.kind!r} prices on the subject {subject}"
    if (change.book is not None) != (change.kind == "book"):
        return "a change of prices without a book, or with one in the wrong place"
    if len(payload) > EVENT_BYTES_MAX or len(change.overlays) > OVERLAYS_MAX:
        return "a change of prices that is larger than any may be"
    if change.book is not None:
        try:
            PriceBook(change.book.version, change.book.models)
        except PriceBookError as error:
            return f"a price book that contradicts itself: {error}"
    return change


def _repricing(payload: bytes) -> Repricing | str:
    """Return a repricing, or why it cannot be one."""
    try:
        repricing = decode_reprice_event(payload).data
    except UNREADABLE as error:
        return f"not a repricing: {error}"
    bounds = (repricing.from_us, repricing.repriced_at_us, repricing.to_us or 0)
    if not all(0 <= bound <= TIME_US_MAX for bound in bounds):
        return "a repricing of a time that no calendar has"
    if len(payload) > EVENT_BYTES_MAX or len(repricing.overlays) > OVERLAYS_MAX:
        return "a repricing that is larger than any may be"
    return repricing


def entries_of(payload: bytes) -> list[Entry] | str:
    """Return the events of a message, each or why it cannot be read; or why all of it cannot."""
    try:
        return list(_events_decoder.decode(payload))
    except UNREADABLE:
        # One of them, or all: found out one by one.
        pass
    try:
        raws = _batch_decoder.decode(payload)
    except UNREADABLE as error:
        return f"not a batch: {error}"
    return [_entry(raw) for raw in raws]


def _entry(raw: msgspec.Raw) -> Entry:
    try:
        return decode_usage_event(raw)
    except UNREADABLE as error:
        return str(error)


def is_about_prices(payload: bytes) -> bool:
    """Tell whether a payload can be read as a change of prices, or as a repricing.

    For one of which it is not known by which subject it came.
    """
    changes = (_price_change(subject, payload) for subject in sorted(PRICE_SUBJECTS))
    return any(isinstance(each, PriceChange) for each in changes) or isinstance(
        _repricing(payload), Repricing
    )


def raw_entries(payload: bytes) -> list[msgspec.Raw]:
    """Return the events of a batch as they are. Raises what UNREADABLE lists."""
    return _batch_decoder.decode(payload)
