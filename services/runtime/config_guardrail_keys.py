"""The keys of `guardrails:` in config.yaml, and the guardrails of LiteLLM that are not here."""

from schemas.guardrails import TEXT_KINDS, RequestRules, Webhook

__all__ = [
    "COMMON_KEYS",
    "GUARDRAIL_KEYS",
    "GUARDRAIL_KINDS",
    "LITELLM_GUARDRAILS",
    "LITELLM_INSTEAD",
    "LITELLM_WEBHOOK",
    "LITELLM_WEBHOOK_PATH",
]

GUARDRAIL_KINDS = ("request_rules", *TEXT_KINDS, "webhook")
"""What there is: rules about requests, what looks at texts, and services that are asked."""
LITELLM_WEBHOOK = "generic_guardrail_api"
"""LiteLLM's name of `webhook`, which is taken for it."""
LITELLM_WEBHOOK_PATH = "/beta/litellm_basic_guardrail_api"
"""Where it is asked, below `api_base`."""

COMMON_KEYS = ("guardrail", "mode", "default_on", "action", "message")
"""What every guardrail has in its `litellm_params`."""

GUARDRAIL_KEYS = {
    "request_rules": (*COMMON_KEYS, *RequestRules.__struct_fields__),
    "webhook": (*COMMON_KEYS, "api_base", *Webhook.__struct_fields__),
}
"""The keys of `litellm_params`, of the kinds whose settings are read here."""

_COUNTERPARTS = {
    "hide-secrets": "secrets",
    "presidio": "personal_data",
    "litellm_content_filter": "block_list",
}

LITELLM_INSTEAD = {
    "tool_permission": "deny tools by their names with guardrail: request_rules and tools_denied",
    "custom_code": "guardrails are data, and no code of one's own runs in the gateway",
    **{
        name: f"write guardrail: {kind}, whose settings are in docs/guardrail-rules.md"
        for name, kind in _COUNTERPARTS.items()
    },
}
"""LiteLLM's guardrails that have a counterpart here, and what to write."""

_OTHERS = """
    aim akto aporia azure/prompt_shield azure/text_moderations bedrock block_code_execution
    cato_networks cisco_ai_defense crowdstrike_aidr dynamoai enkryptai generic_guardrail_api
    grayswan guardrails_ai headroom hiddenlayer ibm_guardrails javelin lakera lakera_v2 lasso
    llm_as_a_judge mcp_end_user_permission mcp_jwt_signer mcp_security microsoft_purview
    model_armor noma noma_v2 onyx openai_moderation ovalix pangea panw_prisma_airs pillar
    prompt_security promptguard qostodian_nexus qualifire repelloai rubrik semantic_guard
    vigil_guard xecguard zscaler_ai_guard
"""
LITELLM_GUARDRAILS = (*LITELLM_INSTEAD, *_OTHERS.split())
"""The names by which LiteLLM knows guardrails."""
