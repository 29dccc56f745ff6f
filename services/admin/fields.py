"""LiteLLM's fields of keys, teams and users: which mean something here, and which do not.

A field without a meaning here is refused by its name, so that nobody believes in a limit that is
not enforced. Its empty value (null, false, "", [], {}, 0) asks for nothing and is accepted.
"""

from difflib import get_close_matches

import msgspec

from schemas.errors import BadRequest

__all__ = [
    "KEY_FIELDS_WITHOUT_MEANING",
    "MEMBER_FIELDS_WITHOUT_MEANING",
    "OWNER_FIELDS_WITHOUT_MEANING",
    "refuse_unknown_fields",
]

_RATE = (
    "rate limits are rpm_limit, tpm_limit, max_parallel_requests, model_rpm_limit and "
    "model_tpm_limit, of keys, teams and users"
)
_SEVERAL = "budgets are set on keys, teams and users: max_budget with budget_duration"
_GUARD = "guardrails are named one by one, in guardrails; those with default_on hold for all"
_ORGANISATION = "keys belong to a user and a team in this version"
_ROUTES = (
    "what a virtual key may do follows from the user_role of its user and, for SQL, from its "
    "`analyst`"
)

KEY_FIELDS_WITHOUT_MEANING: dict[str, str] = {
    "access_group_ids": "list the models of the key in models",
    "agent_id": _ORGANISATION,
    "allowed_cache_controls": "the gateway does not cache responses",
    "allowed_passthrough_routes": _ROUTES,
    "allowed_vector_store_indexes": _ROUTES,
    "auto_rotate": "keys are not rotated by themselves in this version",
    "budget_fallbacks": "a spent budget refuses requests, it does not reroute them",
    "budget_id": _SEVERAL,
    "config": "a key has no configuration of its own",
    "disable_global_guardrails": _GUARD,
    "enable_prompt_caching": "requests pass unchanged: the client asks for caching itself",
    "end_user_budget_id": _SEVERAL,
    "enforced_params": "requests pass unchanged and unchecked but for the model",
    "mcp_rpm_limit": _RATE,
    "new_key": "a new key is random, and in the answer alone; choose one with key in /key/generate",
    "new_master_key": "the master key is set in the configuration",
    "object_permission": _ROUTES,
    "organization_id": _ORGANISATION,
    "permissions": _ROUTES,
    "policies": _GUARD,
    "project_id": _ORGANISATION,
    "prompts": "prompts are not stored here",
    "rotation_interval": "keys are not rotated by themselves in this version",
    "router_settings": "deployments are chosen by the configuration",
    "rpm_limit_type": _RATE,
    "send_invite_email": "no mail is sent by this version",
    "spend": "spend is computed from events; POST /key/reset_spend lets it count anew",
    "tag_rpm_limit": _RATE,
    "throttle_on_budget_exceeded": "a spent budget refuses requests, it does not slow them",
    "tpd_limit": _RATE,
    "tpm_limit_type": _RATE,
}

_KEYS = "keys belong to a team and a user by their own team_id and user_id: set those"
_ALIASES = "aliases of models are set on the keys, and for all in router_settings.model_group_alias"
_NO_BUDGET = "budgets are set on keys, teams and users: max_budget with budget_duration"
_ROLES = "what members may do follows from their role in the team, admin or user"
_MAIL = "no mail is sent by this version"

OWNER_FIELDS_WITHOUT_MEANING: dict[str, str] = {
    **{
        name: reason
        for name, reason in KEY_FIELDS_WITHOUT_MEANING.items()
        if reason in (_RATE, _GUARD, _ROUTES, _ORGANISATION)
    },
    "aliases": _ALIASES,
    "budget_id": _NO_BUDGET,
    "invite_user": _MAIL,
    "members": "members are given in members_with_roles, and by POST /team/member_add",
    "model_aliases": _ALIASES,
    "organizations": _ORGANISATION,
    "send_invite_email": _MAIL,
    "spend": KEY_FIELDS_WITHOUT_MEANING["spend"],
    "sso_user_id": "nobody signs in with SSO in this version",
    "access_group_ids": "list the models in models",
    "admins": "admins are members whose role is admin: members_with_roles",
    "allow_team_guardrail_config": _GUARD,
    "allowed_cache_controls": KEY_FIELDS_WITHOUT_MEANING["allowed_cache_controls"],
    "config": "a team or user has no configuration of its own",
    "default_team_member_models": "models of a team hold for all of its keys",
    "enforced_file_expires_after": "files pass as they are: /v1/files is Anthropic's",
    "model_id": _ALIASES,
    "password": "nobody signs in with a password: people use their keys",
    "prompts": KEY_FIELDS_WITHOUT_MEANING["prompts"],
    "router_settings": KEY_FIELDS_WITHOUT_MEANING["router_settings"],
    "secret_manager_settings": "credentials stand in the environment of the proxies",
    "tags": "tags are set on the keys",
    "team_member_key_duration": _KEYS,
    "team_member_permissions": _ROLES,
    "team_member_rpm_limit": _RATE,
    "team_member_tpm_limit": _RATE,
}
"""The same of teams and users."""

MEMBER_FIELDS_WITHOUT_MEANING: dict[str, str] = {
    "allowed_models": "the models that may be used are listed on the key, the team and the user",
    "rpm_limit": _RATE,
    "tpm_limit": _RATE,
}
"""The same of members of teams."""

_EMPTY = frozenset({b"null", b"false", b'""', b"[]", b"{}", b"0", b"0.0"})


def refuse_unknown_fields(
    given: dict[str, msgspec.Raw], known: frozenset[str], without_meaning: dict[str, str]
) -> None:
    """Raise BadRequest for a field that is not known or that has no meaning here.

    `given` holds the JSON text of each value. The message names the nearest known field; a value
    is never repeated in it.
    """
    for name, value in given.items():
        if name in known:
            continue
        if name in without_meaning:
            text = bytes(value)
            if text in _EMPTY or text.translate(None, b" \t\r\n") in _EMPTY:
                continue
            raise BadRequest(
                f"{name} is a field of LiteLLM that has no effect in tallygate, so it is not "
                f"accepted: {without_meaning[name]}",
                param=name,
            )
        shown = name if name.isprintable() and len(name) <= 64 else "one of the fields"  # noqa: PLR2004
        near = get_close_matches(name[:64], known, n=1)
        advice = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
        raise BadRequest(f"{shown} is not a known field{advice}", param=shown)
