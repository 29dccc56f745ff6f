"""The keys of config.yaml: those that are read, and LiteLLM's others, each with what is done.

A key of LiteLLM that tallygate does not support is *refused* where ignoring it would change who
gets in, what is paid or where a request goes; it is *ignored*, with a notice at start, where
nothing of that kind hangs on it. docs/settings.md lists all of them, which a test checks.
"""

import difflib
from collections.abc import Mapping

import msgspec

from schemas.config import SeatPrice, Settings
from schemas.prices import ContextTier, PriceOverlay, TokenPrices
from services.runtime.config_guardrail_keys import GUARDRAIL_KEYS

__all__ = ["LITELLM_PRICES", "SECTIONS", "SectionKeys", "is_off", "nearest", "other_home"]


class SectionKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one section. `refused` and `ignored` map a name to what to say about it.

    `harmless` gives, for a refused key, the values with which it asks for what tallygate does
    anyway; a value that switches a thing off (false, null, empty) is harmless for every key.
    """

    read: tuple[str, ...]
    refused: Mapping[str, str] = {}
    ignored: Mapping[str, str] = {}
    harmless: Mapping[str, tuple[object, ...]] = {}

    def names(self) -> tuple[str, ...]:
        """Return every key of the section that is known."""
        return (*self.read, *self.refused, *self.ignored)


def _each(*groups: tuple[str, str]) -> dict[str, str]:
    """Return a mapping from each name to its text, from pairs of (names, text)."""
    return {name: text for names, text in groups for name in names.split()}


_ROUTING = "requests would take other ways than the file says; remove it"
_BODY = "bodies go upstream unchanged; remove it"
_PRICES = "write what differs from the price book as an entry of prices:"
_LIMITS = "the limit would not hold; remove it"
_ACCESS = "who may do what would differ from what the file says; remove it"
_MANAGED = "tallygate reads no such store; put the value into the environment: os.environ/NAME"
_GUARDS = "requests would pass unchecked; remove it"
_GUARD_LIST = "write them as entries of guardrails:, at the top of the file"
_SPLIT = "give the whole configuration in one file"
_DEFAULTS = "set budgets and limits on the keys themselves; remove it"
_CACHE = "answers are not cached, so each request is paid; remove it"
_CALLBACKS = "a callback may be a check of requests; remove it"
_RETRIES = "write it into `router_settings`, for all deployments"
_DATABASE = (
    "keys, budgets and the ledger are kept in the data folder; a ledger on PostgreSQL (DuckLake) "
    "is yet to come"
)
_TUNING = "it tunes a part that tallygate does not have"
_LOGGING = "tallygate has its own logs and its own ledger"
_OTHER_APIS = "it is for an API that tallygate does not serve"
_PROMPTS = "it changes nothing: `tallygate: store_prompts` keeps what is asked and answered"
_KEPT = "the ledger keeps what requests cost for ever; it holds no prompts"
_STATUS = "a spent budget is answered with 429, which Claude Code shows at once"
_FACTS = "nothing depends on it"

_ROUTER_READ = (
    "routing_strategy",
    "num_retries",
    "retry_after",
    "timeout",
    "stream_timeout",
    "allowed_fails",
    "cooldown_time",
    "disable_cooldowns",
    "fallbacks",
    "default_fallbacks",
    "max_fallbacks",
    "model_group_alias",
    "default_max_parallel_requests",
)
"""LiteLLM takes these in both sections; what `router_settings` says counts."""
_ROUTER_HARMLESS: Mapping[str, tuple[object, ...]] = {
    # A move to another deployment goes by weights anyway, and sessions keep to theirs.
    "enable_weighted_failover": (True,),
    "optional_pre_call_checks": (("prompt_caching",), ("session_affinity",)),
}

LITELLM_PRICES: Mapping[str, str] = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
}
"""LiteLLM's prices of a token, in litellm_params or model_info, and what they are called here."""
_OTHER_PRICES = """
    input_cost_per_second output_cost_per_second input_cost_per_token_batches
    output_cost_per_token_batches input_cost_per_token_above_100k_tokens
    output_cost_per_token_above_100k_tokens input_cost_per_token_above_200k_tokens
    output_cost_per_token_above_200k_tokens search_context_cost_per_query tiered_pricing
"""

_ROUTER_REFUSED = _each(
    (
        """
        routing_strategy_args context_window_fallbacks content_policy_fallbacks enable_tag_filtering
        tag_filtering_match_any optional_pre_call_checks enable_pre_call_checks
        enable_pre_call_check weights enable_weighted_failover default_priority
        enable_mid_stream_fallback_continuation session_affinity_repin_on_failover
        deployment_affinity_ttl_seconds
        """,
        _ROUTING,
    ),
    ("provider_budget_config", _LIMITS),
    ("default_litellm_params", _BODY),
    ("guardrail_list", _GUARD_LIST),
    ("cache_responses caching_groups", _CACHE),
)
_ROUTER_IGNORED = _each(
    ("retry_policy model_group_retry_policy", "`num_retries` holds for all kinds of errors"),
    ("allowed_fails_policy", "`allowed_fails` holds for all kinds of errors"),
    (
        "redis_host redis_port redis_password redis_url redis_db",
        "proxies share keys and budgets through NATS; no Redis is used",
    ),
    ("polling_interval client_ttl cache_kwargs router_general_settings", _TUNING),
    ("debug_level set_verbose alerting_config", _LOGGING),
    ("ignore_invalid_deployments", "every entry of model_list must be right"),
    ("assistants_config search_tools", _OTHER_APIS),
)

SECTIONS: Mapping[str, SectionKeys] = {
    "": SectionKeys(
        read=(
            "model_list",
            "general_settings",
            "litellm_settings",
            "router_settings",
            "model_group_settings",
            "prices",
            "seats",
            "alerts",
            "guardrails",
            "tallygate",
        ),
        refused=_each(
            ("policies policy_attachments", _GUARDS),
            ("environment_variables", "set them in the environment of the process; remove it"),
            ("include", _SPLIT),
            ("credential_list", "give each entry of model_list its api_key; remove it"),
        ),
        ignored=_each(
            ("callback_settings", _LOGGING),
            (
                """
                mcp_servers mcp_tools prompts vector_store_registry search_tools
                assistant_settings finetune_settings files_settings agents
                """,
                _OTHER_APIS,
            ),
        ),
    ),
    "model_list": SectionKeys(read=("model_name", "litellm_params", "model_info")),
    "litellm_params": SectionKeys(
        read=(
            "model",
            "api_key",
            "api_base",
            "timeout",
            "stream_timeout",
            "weight",
            "order",
            "max_parallel_requests",
            "rpm",
            "tpm",
            *LITELLM_PRICES,
        ),
        refused=_each(
            ("itpm otpm tags", _ROUTING),
            ("max_budget budget_duration", _LIMITS),
            (_OTHER_PRICES, _PRICES),
            ("litellm_credential_name", "give the entry its api_key; remove it"),
            ("custom_llm_provider", "the provider is `anthropic`, in the model; remove it"),
            ("base_url", "write it as api_base"),
            (
                """
                extra_headers extra_body temperature max_tokens top_p top_k stop thinking
                reasoning_effort additional_drop_params cache_control_injection_points
                configurable_clientside_auth_params
                """,
                _BODY,
            ),
            ("guardrails", "keys, teams and users choose them, not models; remove it"),
            ("use_litellm_proxy", _ROUTING),
        ),
        ignored=_each(
            ("max_retries num_retries cooldown_time", _RETRIES),
            ("drop_params merge_reasoning_content_in_choices", _BODY.partition(";")[0]),
            ("use_in_pass_through", _OTHER_APIS),
        ),
    ),
    "model_info": SectionKeys(
        read=("id", *LITELLM_PRICES),
        refused=_each(
            ("access_groups team_id team_public_model_name", _ACCESS),
            (_OTHER_PRICES, _PRICES),
            ("base_model", "name the model itself in litellm_params.model, or price it in prices:"),
        ),
        ignored=_each(
            (
                """
                mode max_tokens max_input_tokens max_output_tokens description litellm_provider
                supports_vision supports_function_calling supports_prompt_caching
                supports_reasoning supports_tool_choice created_at updated_at created_by tier
                health_check_model health_check_timeout disable_background_health_check
                """,
                _FACTS,
            ),
        ),
    ),
    "general_settings": SectionKeys(
        read=("master_key", "forward_client_headers_to_llm_api"),
        refused=_each(
            (
                """
                custom_auth enable_jwt_auth litellm_jwtauth enable_oauth2_auth
                enable_oauth2_proxy_auth oauth2_config_mappings custom_sso custom_key_generate
                allow_user_auth allowed_routes public_routes admin_only_routes allowed_ips
                litellm_key_header_name ui_access_mode default_team_disabled enforced_params
                enforce_user_param reject_clientside_metadata_tags service_account_settings
                allow_client_side_credentials forward_llm_provider_auth_headers
                use_client_credentials_pass_through_routes user_header_name user_header_mappings
                request_tag_mappings enable_claude_code_gateway
                enable_claude_code_gateway_managed_settings use_x_forwarded_for
                """,
                _ACCESS,
            ),
            (
                """
                max_parallel_requests global_max_parallel_requests disable_spend_updates
                disable_reset_budget max_response_size_mb max_in_flight_requests_per_worker
                apply_user_budget_to_team_keys disable_budget_reservation
                fail_closed_rate_limit_enforcement
                """,
                _LIMITS,
            ),
            ("max_request_size_mb", "write it in bytes as `tallygate: request_bytes_max`"),
            ("completion_model infer_model_from_keys pass_through_endpoints", _ROUTING),
            (
                "key_management_system key_management_settings use_azure_key_vault use_google_kms",
                _MANAGED,
            ),
        ),
        ignored=_each(
            (
                """
                database_url database_connection_pool_limit database_connection_timeout
                disable_prisma_schema_update store_model_in_db supported_db_objects
                allow_requests_on_db_unavailable use_spend_logs_partitioning
                """,
                _DATABASE,
            ),
            ("store_prompts_in_spend_logs", _PROMPTS),
            (
                """
                disable_spend_logs maximum_spend_logs_retention_period
                maximum_spend_logs_retention_interval maximum_spend_logs_retention_size
                """,
                _KEPT,
            ),
            (
                """
                alerting alert_types alert_to_webhook_url alerting_threshold alerting_args
                spend_report_frequency
                """,
                "write `alerts:`, which also says where to",
            ),
            (
                """
                background_health_checks health_check_interval health_check_details
                proxy_budget_rescheduler_min_time proxy_budget_rescheduler_max_time
                proxy_batch_write_at proxy_batch_polling_interval user_api_key_cache_ttl
                disable_retry_on_max_parallel_request_limit_error
                admission_queue_timeout_seconds proxy_config_reload_interval_seconds
                include_call_id_in_error_body accounting_capture spend_capture_rate_check
                disable_adding_master_key_hash_to_db
                disable_master_key_return litellm_license
                """,
                _TUNING,
            ),
            ("cancel_on_disconnect", "write `tallygate: client_disconnect`"),
            (
                """
                image_generation_model embedding_model moderation_model forward_openai_org_id
                user_mcp_management_mode disable_responses_id_security
                """,
                _OTHER_APIS,
            ),
        ),
    ),
    "litellm_settings": SectionKeys(
        read=(
            "master_key",
            "model_group_settings",
            "timezone",
            "max_budget",
            "budget_duration",
            "request_timeout",
            "cost_discount_config",
            "cost_margin_config",
            *_ROUTER_READ,
        ),
        refused={
            **_ROUTER_REFUSED,
            **_each(
                ("callbacks", _CALLBACKS),
                ("guardrails", _GUARD_LIST),
                ("cache cache_params enable_caching_on_provider_specific_optional_params", _CACHE),
                (
                    """
                    max_user_budget max_internal_user_budget internal_user_budget_duration
                    max_end_user_budget tag_budget_config
                    default_internal_user_params default_team_settings default_team_params
                    default_key_generate_params upperbound_key_generate_params
                    """,
                    _DEFAULTS,
                ),
                ("key_generation_settings", _ACCESS),
                ("budget_reset_time", "budgets reset at midnight of `timezone`; remove it"),
                ("model_alias_map", _ROUTING),
                ("modify_params", _BODY),
                ("api_base api_key", "give it with each entry of model_list; remove it"),
                ("ssl_verify ssl_certificate", "certificates are always verified; remove it"),
            ),
        },
        ignored={
            **_ROUTER_IGNORED,
            **_each(
                (
                    """
                    success_callback failure_callback service_callbacks json_logs
                    turn_off_message_logging redact_user_api_key_info langfuse_default_tags
                    log_raw_request_response suppress_debug_info disable_end_user_cost_tracking
                    disable_end_user_cost_tracking_prometheus_only
                    require_auth_for_metrics_endpoint prometheus_initialize_budget_metrics
                    """,
                    _LOGGING,
                ),
                ("drop_params", _BODY.partition(";")[0]),
                ("budget_exceeded_status_code", _STATUS),
                (
                    """
                    telemetry force_ipv4 enable_preview_features disable_hf_tokenizer_download
                    enable_json_schema_validation enable_key_alias_format_validation
                    disable_copilot_system_to_assistant aiohttp_trust_env num_workers
                    """,
                    _TUNING,
                ),
                (
                    """
                    mcp_aliases public_model_groups disable_add_transform_inline_image_block
                    use_chat_completions_url_for_anthropic_messages
                    """,
                    _OTHER_APIS,
                ),
            ),
        },
        harmless={**_ROUTER_HARMLESS, "budget_reset_time": ("00:00",)},
    ),
    "router_settings": SectionKeys(
        read=_ROUTER_READ,
        refused=_ROUTER_REFUSED,
        ignored=_ROUTER_IGNORED,
        harmless=_ROUTER_HARMLESS,
    ),
    "model_group_settings": SectionKeys(read=("forward_client_headers_to_llm_api",)),
    "prices": SectionKeys(read=PriceOverlay.__struct_fields__),
    "usd_per_mtok": SectionKeys(read=TokenPrices.__struct_fields__),
    "context_tiers": SectionKeys(read=ContextTier.__struct_fields__),
    "seats": SectionKeys(read=SeatPrice.__struct_fields__),
    "alerts": SectionKeys(
        read=("name", "events", "teams", "users", "keys", "webhook", "slack", "email")
    ),
    "alert_webhook": SectionKeys(read=("url", "secret")),
    "alert_slack": SectionKeys(read=("url",)),
    "alert_email": SectionKeys(
        read=("host", "port", "security", "username", "password", "from", "to")
    ),
    "tallygate": SectionKeys(read=Settings.__struct_fields__),
    "guardrails": SectionKeys(
        read=("guardrail_name", "litellm_params"),
        ignored={"guardrail_info": _FACTS},
    ),
    **{kind: SectionKeys(read=keys) for kind, keys in GUARDRAIL_KEYS.items()},
}
"""Every section by its name; the empty name is the top of the file."""


def is_off(value: object) -> bool:
    """Tell whether a value switches its key off: false, null, or empty."""
    return value is None or value is False or value in ("", (), {})


def nearest(name: str, known: tuple[str, ...]) -> str | None:
    """Return the known name that is most like this one, None where none is like it."""
    found = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    return found[0] if found else None


def other_home(name: str, section: str) -> str | None:
    """Return another section that reads this very key, for keys that stand in a wrong place."""
    for home, keys in SECTIONS.items():
        if home != section and name in keys.read:
            return home or "the top of the file"
    return None
