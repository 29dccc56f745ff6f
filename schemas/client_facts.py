"""What a request tells of the client that made it, and of what it is for."""

from typing import Annotated, Literal

import msgspec

__all__ = [
    "BETAS_MAX",
    "COUNT_MAX",
    "TAGS_CHARACTERS_MAX",
    "TAGS_MAX",
    "TEXT_MAX",
    "USER_MAX",
    "ClientFacts",
    "Purpose",
]

TEXT_MAX = 128
"""A text of the client's is cut to so many characters."""
BETAS_MAX = 1024
"""The list of betas is cut to so many characters."""
USER_MAX = 256
"""The id or address of an end user that is longer is not kept: cut, it could be another's."""
TAGS_MAX = 20
"""A request has so many tags at most; others are not kept. A tag is `TEXT_MAX` long at most."""
TAGS_CHARACTERS_MAX = TAGS_MAX * (TEXT_MAX + 1)
COUNT_MAX = 10**15
"""A number of the client's above this is not believed, and not kept."""

Purpose = Literal["main", "agent", "title", "quota_probe", "count_tokens"]

_Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
_User = Annotated[str, msgspec.Meta(max_length=USER_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class ClientFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a request says of its client; nothing of it is checked, what is not told is None.

    `name` and `version` are those of the user agent. `purpose` is told of Claude Code's requests:
    `main` (a conversation's own, with tools), `agent` (a sub-agent's), `title` (of a session),
    `quota_probe`, `count_tokens`. `device_hash` and `account_hash` stand for the device and the
    account that `metadata.user_id` names. `betas` are those of `anthropic-beta`, sorted, with
    commas between them. `end_user_id` and `end_user_email` are whom a gateway in front names, told
    of keys with `names_end_users` alone. `tags` are those of LiteLLM's header `x-litellm-tags`,
    sorted, with commas between them.
    """

    name: _Text | None = None
    version: _Text | None = None
    entrypoint: _Text | None = None
    purpose: Purpose | None = None
    agent_id: _Text | None = None
    parent_agent_id: _Text | None = None
    device_hash: _Text | None = None
    account_hash: _Text | None = None
    effort: _Text | None = None
    thinking: _Text | None = None
    betas: Annotated[str, msgspec.Meta(max_length=BETAS_MAX)] | None = None
    tool_count: _Count | None = None
    message_count: _Count | None = None
    max_tokens: _Count | None = None
    end_user_id: _User | None = None
    end_user_email: _User | None = None
    tags: Annotated[str, msgspec.Meta(max_length=TAGS_CHARACTERS_MAX)] | None = None
