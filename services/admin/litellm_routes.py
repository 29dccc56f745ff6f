"""LiteLLM's management routes that tallygate does not have, and what to use in their place.

Who calls one is told so by its name, instead of that there is no such route.
`python -m services.admin.litellm_routes docs/litellm-routes.md` writes the table of all routes.
"""

import re
import sys
from pathlib import Path

__all__ = ["REFUSED", "SERVED", "page", "refusal_of_path"]

SERVED = (
    "POST /key/generate",
    "POST /key/update",
    "POST /key/delete",
    "POST /key/block",
    "POST /key/unblock",
    "POST /key/regenerate",
    "POST /key/{key}/regenerate",
    "POST /key/bulk_update",
    "POST /key/reset_spend",
    "POST /key/{key}/reset_spend",
    "GET /key/info",
    "GET /key/list",
    "POST /team/new",
    "POST /team/update",
    "POST /team/delete",
    "POST /team/block",
    "POST /team/unblock",
    "POST /team/member_add",
    "POST /team/member_update",
    "POST /team/member_delete",
    "GET /team/info",
    "GET /team/list",
    "POST /user/new",
    "POST /user/update",
    "POST /user/delete",
    "GET /user/info",
    "GET /user/list",
    "POST /model/new",
    "POST /model/update",
    "PATCH /model/{model_id}/update",
    "POST /model/delete",
    "GET /model/info",
    "GET /v1/model/info",
    "GET /model_group/info",
    "GET /models",
    "GET /v1/models",
    "GET /spend/logs",
    "GET /spend/logs/v2",
    "GET /spend/logs/ui",
    "GET /spend/keys",
    "GET /spend/users",
    "GET /spend/tags",
    "POST /spend/calculate",
    "GET /global/spend",
    "GET /global/spend/report",
    "GET /global/spend/keys",
    "GET /global/spend/models",
    "GET /global/spend/teams",
    "GET /global/spend/tags",
    "GET /global/spend/all_tag_names",
    "GET /global/spend/logs",
    "GET /global/activity",
    "GET /global/activity/model",
    "GET /user/daily/activity",
    "GET /team/daily/activity",
    "GET /audit",
    "GET /audit/{audit_id}",
    "GET /guardrails/list",
    "GET /health/liveliness",
    "GET /health/liveness",
    "GET /health/readiness",
)
"""LiteLLM's management routes that are here, with its methods."""

_BUDGETS = (
    "budgets are fields of keys, teams and users (max_budget, budget_duration, budget_limits, "
    "model_max_budget); GET /key/info, /team/info and /user/info show them"
)
_END_USERS = (
    "end users have no records here: /global/spend/report?group_by=customer and end_user_id in "
    "the ledger tell what they spent; give each a key or a user to limit them"
)
_ORGANISATIONS = "keys belong to teams and users here: use /team/new and /user/new"
_TAGS = "tags are a field of keys: set them with /key/generate or /key/update, and read /spend/tags"
_CONFIGURATION = (
    "the configuration is a file: change it there, then POST /config/reload; GET /config/state "
    "says which process has which"
)
_ROUTER = f"how deployments are chosen is router_settings; {_CONFIGURATION}"
_GUARDRAILS = (
    "guardrails are written in the configuration, and named in the field guardrails of keys, "
    "teams and users; GET /guardrails/list shows them"
)
_HEALTH = (
    "no request is made that would cost money: GET /health/readiness says whether the service can "
    "work, and the Prometheus metrics how deployments answer"
)
_MODELS = "GET /model/info and GET /model_group/info show models with their prices"
_KEYS = "GET /key/list?return_full_object=true lists keys, with filters, sorting and pages"
_USERS = "GET /user/list and GET /user/info show users"
_TEAMS = "GET /team/list and GET /team/info show teams with their members"
_MANY = "send one request for each; they are stored in the order in which they come"
_COUNT = "POST /v1/messages/count_tokens asks the API itself how many tokens a request has"
_PRICES = "prices are dated: GET /prices shows them, POST /price/update sets them"
_SIGN_IN = "nobody signs in here with SSO or a password: people use their keys, see /ui"
_PERMISSIONS = "what a key may do follows from the user_role of its user, key_type and its team"
_TOOLS = "the gateway passes tools and MCP servers of a request on as they are, and serves none"
_CACHE = "the gateway does not cache answers: Anthropic's prompt cache is the client's business"
_SEVERAL = "requests are not balanced by tags, policies, prompts or agents of the gateway's own"
_METRICS = "Prometheus metrics have a port of their own: tallygate serve --metrics 127.0.0.1:9464"
_PROMPTS = "GET /prompt/info?request_id=… shows what a request held, where prompts are stored"
_ALERTS = "alerts are set in the configuration (alerts:); GET /alerts shows them"
_ANTHROPIC = (
    "the gateway speaks Anthropic's API, for Claude: POST /v1/messages, with LiteLLM's prefix "
    "/anthropic too"
)
_ACTIVITY = "GET /user/daily/activity and /team/daily/activity have pages of 1,000 days"
_SECRETS = "credentials stand in the environment of the proxies (os.environ/NAME in model_list)"
_SPEND = "spend is computed from events and is never set to 0: /key/update changes the budget"
_FILES = "POST /v1/files and /v1/messages/batches are Anthropic's"

REFUSED: dict[str, str] = {
    # A `*` at the end stands for all routes under it that are not served, a {name} for one part.
    "/a2a/*": _SEVERAL,
    "/active/callbacks": _ALERTS,
    "/agent/*": _SEVERAL,
    "/agents": _SEVERAL,
    "/agents/*": _SEVERAL,
    "/alerting/*": _ALERTS,
    "/audio/*": _ANTHROPIC,
    "/azure/*": _ANTHROPIC,
    "/batches": _FILES,
    "/batches/*": _FILES,
    "/bedrock/*": _ANTHROPIC,
    "/budget/*": _BUDGETS,
    "/cache/*": _CACHE,
    "/callbacks/*": _ALERTS,
    "/chat/completions": _ANTHROPIC,
    "/claude-code/*": _SEVERAL,
    "/cloudzero/*": "POST /ledger/sql and format=csv hand the ledger to other programs",
    "/cohere/*": _ANTHROPIC,
    "/completions": _ANTHROPIC,
    "/compliance/*": "GET /audit has every change, and the ledger every request",
    "/config/*": _CONFIGURATION,
    "/cost/estimate": "POST /spend/calculate tells what a request costs",
    "/cost_tracking/*": _CONFIGURATION,
    "/credentials": _SECRETS,
    "/credentials/*": _SECRETS,
    "/customer/*": _END_USERS,
    "/debug/*": _METRICS,
    "/embeddings": _ANTHROPIC,
    "/end_user/*": _END_USERS,
    "/engines/*": _ANTHROPIC,
    "/fallback": _ROUTER,
    "/fallback/*": _ROUTER,
    "/files": _FILES,
    "/files/*": _FILES,
    "/fine_tuning/*": _ANTHROPIC,
    "/gemini/*": _ANTHROPIC,
    "/get/*": _CONFIGURATION,
    "/global/activity/*": "GET /global/activity, /global/activity/model and SQL have the figures",
    "/global/predict/*": "POST /ledger/sql has the figures that a forecast needs",
    "/global/spend/end_users": _END_USERS,
    "/global/spend/provider": "there is one provider: GET /global/spend",
    "/global/spend/refresh": "sums are kept with each request, there is nothing to refresh",
    "/global/spend/reset": _SPEND,
    "/guardrails": _GUARDRAILS,
    "/guardrails/*": _GUARDRAILS,
    "/health": _HEALTH,
    "/health/*": _HEALTH,
    "/images/*": _ANTHROPIC,
    "/invitation/*": _SIGN_IN,
    "/jwt/*": _SIGN_IN,
    "/key/aliases": _KEYS,
    "/key/health": _ALERTS,
    "/key/service-account/generate": "POST /key/generate with a team_id and without a user_id",
    "/login": _SIGN_IN,
    "/mcp": _TOOLS,
    "/mcp-rest/*": _TOOLS,
    "/mcp/*": _TOOLS,
    "/memory-usage-in-mem-cache": _METRICS,
    "/memory-usage-in-mem-cache-items": _METRICS,
    "/metrics": _METRICS,
    "/mistral/*": _ANTHROPIC,
    "/model/metrics": "POST /ledger/sql has the times and errors of every request by model",
    "/model/metrics/*": "POST /ledger/sql has the times and errors of every request by model",
    "/model/settings": _MODELS,
    "/model/streaming_metrics": "POST /ledger/sql has the times of every request by model",
    "/model_access_group/*": "list the models of a key in models, patterns such as claude-* too",
    "/model_group/make_public": _MODELS,
    "/model_hub/*": _MODELS,
    "/moderations": _GUARDRAILS,
    "/onboarding/*": _SIGN_IN,
    "/openai/*": _ANTHROPIC,
    "/organization/*": _ORGANISATIONS,
    "/organization": _ORGANISATIONS,
    "/otel-spans": _METRICS,
    "/policies": _GUARDRAILS,
    "/policies/*": _GUARDRAILS,
    "/policy/*": _GUARDRAILS,
    "/project/*": _ORGANISATIONS,
    "/prompts": _SEVERAL,
    "/prompts/*": _SEVERAL,
    "/provider/budgets": _BUDGETS,
    "/public/*": _MODELS,
    "/queue/*": _ANTHROPIC,
    "/reload/*": _PRICES,
    "/rerank": _ANTHROPIC,
    "/responses": _ANTHROPIC,
    "/responses/*": _ANTHROPIC,
    "/router/*": _ROUTER,
    "/routes": "GET /openapi.json has all routes",
    "/schedule/*": _PRICES,
    "/scim/*": _SIGN_IN,
    "/search_tools/*": _TOOLS,
    "/settings": _CONFIGURATION,
    "/spend/logs/session/ui": "GET /spend/logs?session_id=… lists the requests of a session",
    "/spend/logs/ui/{request_id}": _PROMPTS,
    "/sso/*": _SIGN_IN,
    "/tag/*": _TAGS,
    "/team/available": _TEAMS,
    "/team/bulk_member_add": "POST /team/member_add takes a list of members",
    "/team/daily/activity/aggregated": _ACTIVITY,
    "/team/key/bulk_update": _MANY,
    "/team/model/add": "models is a field of /team/update",
    "/team/model/delete": "models is a field of /team/update",
    "/team/permissions_bulk_update": _PERMISSIONS,
    "/team/permissions_list": _PERMISSIONS,
    "/team/permissions_update": _PERMISSIONS,
    "/team/{team_id}/callback": _ALERTS,
    "/team/{team_id}/disable_logging": _ALERTS,
    "/test": "GET /health/liveliness says that the service is alive",
    "/user/available_roles": _PERMISSIONS,
    "/user/available_users": _USERS,
    "/user/bulk_update": _MANY,
    "/user/daily/activity/aggregated": _ACTIVITY,
    "/user/filter/ui": _USERS,
    "/user/get_users": _USERS,
    "/utils/*": _COUNT,
    "/v2/guardrails/list": _GUARDRAILS,
    "/v2/key/info": _KEYS,
    "/v2/login": _SIGN_IN,
    "/v2/model/info": _MODELS,
    "/v2/team/list": _TEAMS,
    "/v2/user/info": _USERS,
    "/v2/user/list": _USERS,
    "/vantage/*": "POST /ledger/sql and format=csv hand the ledger to other programs",
    "/vector_stores": _ANTHROPIC,
    "/vector_store/*": _ANTHROPIC,
    "/vector_stores/*": _ANTHROPIC,
    "/vertex_ai/*": _ANTHROPIC,
}
"""What to use in place of a route: by its path, whatever the method."""

_PART = re.compile(r"{\w+}")


def _shape(path: str) -> re.Pattern[str]:
    if path.endswith("/*"):
        return re.compile(re.escape(path.removesuffix("*")) + ".*", re.DOTALL)
    return re.compile("[^/]+".join(re.escape(part) for part in _PART.split(path)))


_SHAPES = [(_shape(path), path) for path in sorted(REFUSED, key=len, reverse=True)]


def refusal_of_path(path: str) -> str | None:
    """Return what to say of a path that is not served; None where it is no route of LiteLLM's.

    What the request's path holds in the place of a name is not repeated: it may be a key.
    """
    found = next((route for shape, route in _SHAPES if shape.fullmatch(path)), None)
    if found is None:
        return None
    return f"{found} is a route of LiteLLM that tallygate does not have: {REFUSED[found]}"


def page() -> str:
    """Return docs/litellm-routes.md."""
    served = "".join(f"| `{route}` | [here](admin-api.md#{_anchor(route)}) |\n" for route in SERVED)
    refused = "".join(f"| `{path}` | {REFUSED[path]} |\n" for path in sorted(REFUSED))
    return _PAGE.format(served=served, refused=refused)


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


_PAGE = """\
# LiteLLM's routes

Which of LiteLLM's management routes tallygate has, and what there is in place of the others.
Written by `python -m services.admin.litellm_routes docs/litellm-routes.md`, and tested against the
running service.

## Here
With LiteLLM's fields and shapes, as [admin-api.md](admin-api.md) describes them. Fields that have
no meaning here are refused by their names.

| route | |
|---|---|
{served}
## Not here
A request to one of them is answered 404 `not_found_error`, whatever its method, and the message
says what stands in this table. `*` is all that begins so and is not served.

| route | instead |
|---|---|
{refused}"""


def main(arguments: list[str]) -> int:
    """Write the page to the file that the one argument names."""
    Path(arguments[0]).write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
