"""The demo's configuration file."""

__all__ = ["config_text"]

_TEXT = """\
# The configuration of the demo, written at its start.
model_list:
  - model_name: claude-opus-5-5
    litellm_params: {{model: anthropic/claude-opus-5-5, api_base: {upstream}}}
  - model_name: claude-sonnet-5-5
    litellm_params: {{model: anthropic/claude-sonnet-5-5, api_base: {upstream}}}
  - model_name: claude-haiku-5-5
    litellm_params: {{model: anthropic/claude-haiku-5-5, api_base: {upstream}}}
  - model_name: claude-*
    litellm_params: {{model: anthropic/*, api_base: {upstream}}}
general_settings:
  forward_client_headers_to_llm_api: true
router_settings:
  model_group_alias: {{anthropic-claude: claude-sonnet-5-5}}
guardrails:
  - guardrail_name: secrets
    litellm_params: {{guardrail: secrets, mode: pre_call, action: mask, default_on: true}}
  - guardrail_name: customer data
    litellm_params:
      guardrail: personal_data
      mode: pre_call
      action: log
      rules: [email, iban]
  - guardrail_name: project names
    litellm_params:
      guardrail: block_list
      mode: pre_call
      action: block
      default_on: true
      message: names of projects that are not announced stay in the house
      lists:
        - {{name: project-names, category: confidential, words: [Project Bluebird]}}
alerts:
  - name: chat
    slack: {{url: "{upstream}/demo/chat"}}
  - name: audit-log
    events: ["*"]
    webhook: {{url: "{upstream}/demo/audit"}}
seats:
{seats}
tallygate:
  oauth_hosts: [127.0.0.1]
  quack_port: 0
  store_prompts: true
  budget_message: ask in the channel of the platform team to have it raised
"""


def config_text(upstream: str, seats: dict[str, tuple[str, int]]) -> str:
    """Return the configuration over an upstream (its URL).

    `seats`: the plan of each user who has a subscription, and what it costs a month in US dollars.
    """
    lines = [
        f'  - {{user_id: {user}, plan: {plan}, monthly_usd: "{usd}"}}'
        for user, (plan, usd) in seats.items()
    ]
    return _TEXT.format(upstream=upstream, seats="\n".join(lines))
