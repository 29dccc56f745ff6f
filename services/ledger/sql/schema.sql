-- The ledger's tables and views. All times are UTC. Money is exact: DECIMAL(18,12) US dollars.

CREATE TABLE meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL);
COMMENT ON TABLE meta IS 'About this file: the version of its schema and of its price book.';
COMMENT ON COLUMN meta.name IS 'What is told.';
COMMENT ON COLUMN meta.value IS 'Its value, as text.';

CREATE TABLE requests (
    request_id VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    first_byte_at TIMESTAMP,
    ended_at TIMESTAMP NOT NULL,
    duration_ms BIGINT NOT NULL,
    ttfb_ms BIGINT,
    endpoint VARCHAR NOT NULL,
    key_id VARCHAR,
    key_alias VARCHAR,
    user_id VARCHAR,
    team_id VARCHAR,
    model_name VARCHAR,
    model VARCHAR,
    response_model VARCHAR,
    deployment VARCHAR,
    billing VARCHAR NOT NULL,
    stream BOOLEAN NOT NULL,
    status VARCHAR NOT NULL,
    http_status SMALLINT NOT NULL,
    error_type VARCHAR,
    reason VARCHAR,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    web_search_requests BIGINT NOT NULL,
    web_fetch_requests BIGINT NOT NULL,
    service_tier VARCHAR,
    speed VARCHAR,
    inference_geo VARCHAR,
    iterations VARCHAR,
    cost_usd DECIMAL(18, 12),
    input_cost_usd DECIMAL(18, 12),
    output_cost_usd DECIMAL(18, 12),
    cache_read_cost_usd DECIMAL(18, 12),
    cache_write_5m_cost_usd DECIMAL(18, 12),
    cache_write_1h_cost_usd DECIMAL(18, 12),
    web_search_cost_usd DECIMAL(18, 12),
    unpriced BOOLEAN NOT NULL,
    unpriced_reason VARCHAR,
    estimated BOOLEAN NOT NULL,
    estimate_basis VARCHAR,
    session_id VARCHAR,
    user_agent VARCHAR,
    stop_reason VARCHAR,
    upstream_request_id VARCHAR,
    message_id VARCHAR,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    producer VARCHAR NOT NULL,
    producer_sequence BIGINT NOT NULL,
    stream_sequence BIGINT NOT NULL,
    priced_sequence BIGINT NOT NULL,
    path VARCHAR,
    batch_id VARCHAR,
    custom_id VARCHAR,
    attempt_of VARCHAR,
    client_name VARCHAR,
    client_version VARCHAR,
    entrypoint VARCHAR,
    purpose VARCHAR,
    agent_id VARCHAR,
    parent_agent_id VARCHAR,
    device_hash VARCHAR,
    account_hash VARCHAR,
    effort VARCHAR,
    thinking VARCHAR,
    betas VARCHAR,
    tool_count BIGINT,
    message_count BIGINT,
    max_tokens BIGINT,
    end_user_id VARCHAR,
    end_user_email VARCHAR,
    tags VARCHAR,
    route_reason VARCHAR,
    alias_of VARCHAR
);
COMMENT ON TABLE requests IS 'One row for each request that is over, refused ones included.';
COMMENT ON COLUMN requests.request_id IS 'The gateway''s own id of the request (x-tallygate-request-id).';
COMMENT ON COLUMN requests.started_at IS 'When the request came in; its day decides its price, its moment the budget window.';
COMMENT ON COLUMN requests.first_byte_at IS 'When the first byte of the answer''s body came; NULL: none came.';
COMMENT ON COLUMN requests.ended_at IS 'When the answer was over.';
COMMENT ON COLUMN requests.duration_ms IS 'From started_at to ended_at.';
COMMENT ON COLUMN requests.ttfb_ms IS 'From started_at to first_byte_at.';
COMMENT ON COLUMN requests.endpoint IS 'messages; count_tokens, batches, files (none of them paid); batch_result (a result of a message batch, once); pass_through (unpriced).';
COMMENT ON COLUMN requests.key_id IS 'The virtual key; NULL where none was known.';
COMMENT ON COLUMN requests.key_alias IS 'The key''s name at that moment.';
COMMENT ON COLUMN requests.user_id IS 'The key''s user at that moment.';
COMMENT ON COLUMN requests.team_id IS 'The key''s team at that moment.';
COMMENT ON COLUMN requests.model_name IS 'The model name that the client asked for.';
COMMENT ON COLUMN requests.model IS 'The model that the deployment was asked for.';
COMMENT ON COLUMN requests.response_model IS 'The model that the answer names; it is priced by this one.';
COMMENT ON COLUMN requests.deployment IS 'Which entry of model_list served it.';
COMMENT ON COLUMN requests.billing IS 'api: paid by the company''s API account; subscription: by a seat (the cost is the API equivalent).';
COMMENT ON COLUMN requests.stream IS 'Whether a stream was asked for.';
COMMENT ON COLUMN requests.status IS 'success, failure, refused (by the gateway) or client_closed.';
COMMENT ON COLUMN requests.http_status IS 'The status of the answer; 0: there was none.';
COMMENT ON COLUMN requests.error_type IS 'What kind of error, in the API''s words or the gateway''s; lost: its end never came.';
COMMENT ON COLUMN requests.reason IS 'Why the gateway refused it.';
COMMENT ON COLUMN requests.input_tokens IS 'Tokens of the prompt that were neither read from the cache nor written to it.';
COMMENT ON COLUMN requests.output_tokens IS 'Tokens of the answer.';
COMMENT ON COLUMN requests.cache_read_tokens IS 'Tokens of the prompt that were read from the cache.';
COMMENT ON COLUMN requests.cache_write_5m_tokens IS 'Tokens of the prompt written to the 5-minute cache.';
COMMENT ON COLUMN requests.cache_write_1h_tokens IS 'Tokens of the prompt written to the 1-hour cache.';
COMMENT ON COLUMN requests.prompt_tokens IS 'The whole prompt: input, cache reads and cache writes.';
COMMENT ON COLUMN requests.total_tokens IS 'prompt_tokens and output_tokens.';
COMMENT ON COLUMN requests.web_search_requests IS 'Web searches that the API ran.';
COMMENT ON COLUMN requests.web_fetch_requests IS 'Pages that the API fetched.';
COMMENT ON COLUMN requests.service_tier IS 'standard, priority or batch.';
COMMENT ON COLUMN requests.speed IS 'standard or fast.';
COMMENT ON COLUMN requests.inference_geo IS 'Where the model ran, where that is told.';
COMMENT ON COLUMN requests.iterations IS 'usage.iterations as JSON: parts of the request that other models did.';
COMMENT ON COLUMN requests.cost_usd IS 'The cost at list price, exact; NULL: unpriced.';
COMMENT ON COLUMN requests.input_cost_usd IS 'The part of cost_usd for input_tokens.';
COMMENT ON COLUMN requests.output_cost_usd IS 'The part of cost_usd for output_tokens.';
COMMENT ON COLUMN requests.cache_read_cost_usd IS 'The part of cost_usd for cache reads.';
COMMENT ON COLUMN requests.cache_write_5m_cost_usd IS 'The part of cost_usd for 5-minute cache writes.';
COMMENT ON COLUMN requests.cache_write_1h_cost_usd IS 'The part of cost_usd for 1-hour cache writes.';
COMMENT ON COLUMN requests.web_search_cost_usd IS 'The part of cost_usd for web searches.';
COMMENT ON COLUMN requests.unpriced IS 'Whether the price book has no price for it.';
COMMENT ON COLUMN requests.unpriced_reason IS 'Which price is missing.';
COMMENT ON COLUMN requests.estimated IS 'Whether part of the usage is not the API''s own final word.';
COMMENT ON COLUMN requests.estimate_basis IS 'How the estimate was made.';
COMMENT ON COLUMN requests.session_id IS 'The Claude Code session.';
COMMENT ON COLUMN requests.user_agent IS 'The client program, as it calls itself.';
COMMENT ON COLUMN requests.stop_reason IS 'Why the model stopped.';
COMMENT ON COLUMN requests.upstream_request_id IS 'The API''s own id of the request (request-id).';
COMMENT ON COLUMN requests.message_id IS 'The API''s id of the message.';
COMMENT ON COLUMN requests.request_bytes IS 'Length of the request''s body.';
COMMENT ON COLUMN requests.response_bytes IS 'Length of the answer''s body, as it came from the API.';
COMMENT ON COLUMN requests.producer IS 'Which life of which proxy worker reported it.';
COMMENT ON COLUMN requests.producer_sequence IS 'The number of the report among those of its producer.';
COMMENT ON COLUMN requests.stream_sequence IS 'The message of the stream USAGE that held it.';
COMMENT ON COLUMN requests.priced_sequence IS 'The message whose prices its cost is by: its own, or that of the last repricing which meant it (see repricings).';
COMMENT ON COLUMN requests.path IS 'The path that was asked for; NULL for messages, count_tokens and batch_result.';
COMMENT ON COLUMN requests.batch_id IS 'The message batch that it is about.';
COMMENT ON COLUMN requests.custom_id IS 'Of a batch_result: the client''s own name for it, unique in its batch.';
COMMENT ON COLUMN requests.attempt_of IS 'Of a second or later attempt at a deployment: the request_id of the first; NULL for all others.';
COMMENT ON COLUMN requests.client_name IS 'The client program, by its user agent (claude-cli: Claude Code).';
COMMENT ON COLUMN requests.client_version IS 'Its version, by its user agent.';
COMMENT ON COLUMN requests.entrypoint IS 'How Claude Code was started: cli, sdk-cli, ...';
COMMENT ON COLUMN requests.purpose IS 'What Claude Code asked for: main, agent, title, quota_probe, count_tokens; NULL: that cannot be told.';
COMMENT ON COLUMN requests.agent_id IS 'The sub-agent that asked, by Claude Code''s own id.';
COMMENT ON COLUMN requests.parent_agent_id IS 'The agent that started it.';
COMMENT ON COLUMN requests.device_hash IS 'Stands for the device that metadata.user_id names.';
COMMENT ON COLUMN requests.account_hash IS 'Stands for the account that metadata.user_id names.';
COMMENT ON COLUMN requests.effort IS 'output_config.effort of the request.';
COMMENT ON COLUMN requests.thinking IS 'thinking.type of the request.';
COMMENT ON COLUMN requests.betas IS 'The betas asked for (anthropic-beta), sorted, with commas between them.';
COMMENT ON COLUMN requests.tool_count IS 'How many tools the request offered.';
COMMENT ON COLUMN requests.message_count IS 'How many messages the request held.';
COMMENT ON COLUMN requests.max_tokens IS 'The most tokens that the answer could have.';
COMMENT ON COLUMN requests.end_user_id IS 'Whom a gateway in front named, with a key that has names_end_users.';
COMMENT ON COLUMN requests.tags IS 'The tags that the client gave this request (x-litellm-tags), sorted, with commas between them; those of its key are in keys.';
COMMENT ON COLUMN requests.end_user_email IS 'The address of that end user, as the gateway named it.';
COMMENT ON COLUMN requests.route_reason IS 'quota_exhausted: its subscription had no quota left, so a deployment''s api_key pays; NULL: it went as always.';
COMMENT ON COLUMN requests.alias_of IS 'The model name that model_name stood for, where it was an alias (model_group_alias); NULL for all others.';

CREATE TABLE open_requests (
    request_id VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    key_id VARCHAR,
    model_name VARCHAR,
    producer VARCHAR NOT NULL,
    producer_sequence BIGINT NOT NULL,
    stream_sequence BIGINT NOT NULL,
    opened_at TIMESTAMP NOT NULL,
    facts VARCHAR NOT NULL
);
COMMENT ON TABLE open_requests IS 'Requests that have been sent to a deployment and are not over yet.';
COMMENT ON COLUMN open_requests.request_id IS 'The gateway''s own id of the request.';
COMMENT ON COLUMN open_requests.started_at IS 'When the request came in.';
COMMENT ON COLUMN open_requests.key_id IS 'The virtual key.';
COMMENT ON COLUMN open_requests.model_name IS 'The model name that the client asked for.';
COMMENT ON COLUMN open_requests.producer IS 'Which life of which proxy worker reported it.';
COMMENT ON COLUMN open_requests.producer_sequence IS 'The number of the report among those of its producer.';
COMMENT ON COLUMN open_requests.stream_sequence IS 'The message of the stream USAGE that held it.';
COMMENT ON COLUMN open_requests.opened_at IS 'The stream''s time then; 24 hours of it later the request is closed as lost.';
COMMENT ON COLUMN open_requests.facts IS 'All that was told at its start, as JSON.';

CREATE TABLE keys (
    key_id VARCHAR NOT NULL,
    key_alias VARCHAR,
    key_name VARCHAR NOT NULL,
    user_id VARCHAR,
    team_id VARCHAR,
    models VARCHAR[] NOT NULL,
    tags VARCHAR[] NOT NULL,
    max_budget_usd DECIMAL(22, 12),
    budget_duration VARCHAR,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    expires_at TIMESTAMP,
    blocked BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE keys IS 'Every virtual key that there is or was, as it stands now.';
COMMENT ON COLUMN keys.key_id IS 'Its id, which it keeps for life.';
COMMENT ON COLUMN keys.key_alias IS 'Its name.';
COMMENT ON COLUMN keys.key_name IS 'How it is recognised: sk-... and its last four characters.';
COMMENT ON COLUMN keys.user_id IS 'Whose it is.';
COMMENT ON COLUMN keys.team_id IS 'Whose team it belongs to.';
COMMENT ON COLUMN keys.models IS 'The models that it may use; empty: all.';
COMMENT ON COLUMN keys.tags IS 'Its labels.';
COMMENT ON COLUMN keys.max_budget_usd IS 'Its budget in a window; NULL: none.';
COMMENT ON COLUMN keys.budget_duration IS 'The window of its budget; NULL: it never resets.';
COMMENT ON COLUMN keys.rpm_limit IS 'So many requests may begin in any minute; NULL: any number.';
COMMENT ON COLUMN keys.tpm_limit IS 'So many tokens may be used in any minute; NULL: any number.';
COMMENT ON COLUMN keys.max_parallel_requests IS 'So many requests may be under way at a time; NULL: any number.';
COMMENT ON COLUMN keys.expires_at IS 'When it ends; NULL: never.';
COMMENT ON COLUMN keys.blocked IS 'Whether it is blocked.';
COMMENT ON COLUMN keys.deleted IS 'Whether it was deleted.';
COMMENT ON COLUMN keys.created_at IS 'When it was made.';
COMMENT ON COLUMN keys.updated_at IS 'When it was last changed.';

CREATE TABLE teams (
    team_id VARCHAR NOT NULL,
    team_alias VARCHAR,
    models VARCHAR[] NOT NULL,
    max_budget_usd DECIMAL(22, 12),
    soft_budget_usd DECIMAL(22, 12),
    budget_duration VARCHAR,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    blocked BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE teams IS 'Every team that there is or was, as it stands now.';
COMMENT ON COLUMN teams.team_id IS 'Its id, which keys name.';
COMMENT ON COLUMN teams.team_alias IS 'Its name.';
COMMENT ON COLUMN teams.models IS 'The models that its keys may use; empty: all.';
COMMENT ON COLUMN teams.max_budget_usd IS 'The budget of all its keys together in a window; NULL: none.';
COMMENT ON COLUMN teams.soft_budget_usd IS 'From which spend on a warning is due; NULL: none.';
COMMENT ON COLUMN teams.budget_duration IS 'The window of its budget; NULL: it never resets.';
COMMENT ON COLUMN teams.rpm_limit IS 'So many requests may begin in any minute, of all its keys together; NULL: any number.';
COMMENT ON COLUMN teams.tpm_limit IS 'So many tokens may be used in any minute, of all its keys together; NULL: any number.';
COMMENT ON COLUMN teams.max_parallel_requests IS 'So many requests may be under way at a time, of all its keys together; NULL: any number.';
COMMENT ON COLUMN teams.blocked IS 'Whether it is blocked, and all of its keys with it.';
COMMENT ON COLUMN teams.deleted IS 'Whether it was deleted.';
COMMENT ON COLUMN teams.created_at IS 'When it was made.';
COMMENT ON COLUMN teams.updated_at IS 'When it was last changed.';

CREATE TABLE team_members (
    team_id VARCHAR NOT NULL,
    user_id VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    max_budget_usd DECIMAL(22, 12),
    budget_duration VARCHAR
);
COMMENT ON TABLE team_members IS 'Who is in which team that was not deleted, as it stands now.';
COMMENT ON COLUMN team_members.team_id IS 'The team.';
COMMENT ON COLUMN team_members.user_id IS 'The user.';
COMMENT ON COLUMN team_members.role IS 'admin: manages the team''s members and keys; user.';
COMMENT ON COLUMN team_members.max_budget_usd IS 'What the user''s keys in the team may spend together in a window; NULL: no limit of their own.';
COMMENT ON COLUMN team_members.budget_duration IS 'The window of that budget; NULL: it never resets.';

CREATE TABLE users (
    user_id VARCHAR NOT NULL,
    user_alias VARCHAR,
    user_email VARCHAR,
    user_role VARCHAR,
    models VARCHAR[] NOT NULL,
    max_budget_usd DECIMAL(22, 12),
    soft_budget_usd DECIMAL(22, 12),
    budget_duration VARCHAR,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    blocked BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE users IS 'Every user that there is or was, as it stands now.';
COMMENT ON COLUMN users.user_id IS 'The id, which keys name.';
COMMENT ON COLUMN users.user_alias IS 'The name.';
COMMENT ON COLUMN users.user_email IS 'The mail address.';
COMMENT ON COLUMN users.user_role IS 'What the keys may do at the management API: proxy_admin, proxy_admin_viewer, internal_user, internal_user_viewer; NULL: nothing.';
COMMENT ON COLUMN users.models IS 'The models that the keys may use; empty: all.';
COMMENT ON COLUMN users.max_budget_usd IS 'The budget of all its keys together in a window; NULL: none.';
COMMENT ON COLUMN users.soft_budget_usd IS 'From which spend on a warning is due; NULL: none.';
COMMENT ON COLUMN users.budget_duration IS 'The window of its budget; NULL: it never resets.';
COMMENT ON COLUMN users.rpm_limit IS 'So many requests may begin in any minute, of all the user''s keys together; NULL: any number.';
COMMENT ON COLUMN users.tpm_limit IS 'So many tokens may be used in any minute, of all the user''s keys together; NULL: any number.';
COMMENT ON COLUMN users.max_parallel_requests IS 'So many requests may be under way at a time, of all the user''s keys together; NULL: any number.';
COMMENT ON COLUMN users.blocked IS 'Whether it is blocked, and all of its keys with it.';
COMMENT ON COLUMN users.deleted IS 'Whether it was deleted.';
COMMENT ON COLUMN users.created_at IS 'When it was made.';
COMMENT ON COLUMN users.updated_at IS 'When it was last changed.';

CREATE TABLE budget_events (
    stream_sequence BIGINT NOT NULL,
    event VARCHAR NOT NULL,
    told_at TIMESTAMP NOT NULL,
    scope VARCHAR NOT NULL,
    scope_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    spend_usd DECIMAL(38, 12) NOT NULL,
    max_budget_usd DECIMAL(22, 12),
    budget_duration VARCHAR,
    window_start TIMESTAMP,
    resets_at TIMESTAMP,
    budget VARCHAR NOT NULL,
    model VARCHAR,
    soft_budget_usd DECIMAL(22, 12),
    threshold VARCHAR
);
COMMENT ON TABLE budget_events IS 'Every time that a budget was exceeded, warned of or cleared, as the ledger told it.';
COMMENT ON COLUMN budget_events.stream_sequence IS 'The message of the stream BUDGET.';
COMMENT ON COLUMN budget_events.event IS 'exceeded: its requests are refused from then on; warned: a threshold is reached; cleared: no more.';
COMMENT ON COLUMN budget_events.told_at IS 'When it was told.';
COMMENT ON COLUMN budget_events.scope IS 'Whose budget: key, user, team, member (a user in one team) or global (all together).';
COMMENT ON COLUMN budget_events.scope_id IS 'The id of that key, user or team; of a member the team''s, a slash and the user''s; all: everybody.';
COMMENT ON COLUMN budget_events.name IS 'Its name then.';
COMMENT ON COLUMN budget_events.spend_usd IS 'What had been spent in the window.';
COMMENT ON COLUMN budget_events.max_budget_usd IS 'The budget; NULL: it was taken away.';
COMMENT ON COLUMN budget_events.budget_duration IS 'How long a window is; NULL: there is one, without an end.';
COMMENT ON COLUMN budget_events.window_start IS 'When the window began; NULL: there is one, without an end.';
COMMENT ON COLUMN budget_events.resets_at IS 'When the window ends; NULL: never.';
COMMENT ON COLUMN budget_events.budget IS 'Which of its budgets, as in budgets.';
COMMENT ON COLUMN budget_events.model IS 'The models that the budget is for; NULL: all.';
COMMENT ON COLUMN budget_events.soft_budget_usd IS 'From which spend on a warning is due; NULL: none.';
COMMENT ON COLUMN budget_events.threshold IS 'What a warning is about: soft_budget or 80_percent; NULL: it is none.';

CREATE TABLE budgets (
    scope VARCHAR NOT NULL,
    scope_id VARCHAR NOT NULL,
    budget VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    max_budget_usd DECIMAL(22, 12),
    soft_budget_usd DECIMAL(22, 12),
    budget_duration VARCHAR,
    model VARCHAR,
    increase_usd DECIMAL(22, 12),
    increase_until TIMESTAMP,
    strict BOOLEAN NOT NULL,
    spend_reset_at TIMESTAMP,
    spend_reset_to_usd DECIMAL(22, 12)
);
COMMENT ON TABLE budgets IS 'Every budget that is set now, one row for each limit of a key, user, team or of all together.';
COMMENT ON COLUMN budgets.scope IS 'Whose: key, user, team, member (a user in one team) or global (all together).';
COMMENT ON COLUMN budgets.scope_id IS 'The id of that key, user or team; of a member the team''s, a slash and the user''s; all: everybody.';
COMMENT ON COLUMN budgets.budget IS 'Which of its budgets: max_budget, window-<duration> or model-<name>.';
COMMENT ON COLUMN budgets.name IS 'The name of that key, user or team.';
COMMENT ON COLUMN budgets.max_budget_usd IS 'What may be spent in a window; NULL: no limit, a soft budget alone.';
COMMENT ON COLUMN budgets.soft_budget_usd IS 'From which spend on a warning is due; NULL: none.';
COMMENT ON COLUMN budgets.budget_duration IS 'How long a window is; NULL: there is one, without an end.';
COMMENT ON COLUMN budgets.model IS 'The model name, or a pattern with one *, whose requests count; NULL: all.';
COMMENT ON COLUMN budgets.increase_usd IS 'So much more may be spent for a while; NULL: no more.';
COMMENT ON COLUMN budgets.increase_until IS 'When the increase ends.';
COMMENT ON COLUMN budgets.strict IS 'Whether it may be passed by one request of each proxy worker at most.';
COMMENT ON COLUMN budgets.spend_reset_at IS 'When an admin set its spend: requests that started before count no more; NULL: never.';
COMMENT ON COLUMN budgets.spend_reset_to_usd IS 'What it was set to: so much counts beside the requests since then, in the window of that moment.';

CREATE TABLE guardrail_events (
    found_at TIMESTAMP NOT NULL,
    request_id VARCHAR NOT NULL,
    guardrail VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    mode VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    category VARCHAR NOT NULL,
    place VARCHAR NOT NULL,
    hits BIGINT NOT NULL,
    endpoint VARCHAR NOT NULL,
    key_id VARCHAR,
    key_alias VARCHAR,
    user_id VARCHAR,
    team_id VARCHAR,
    model_name VARCHAR,
    session_id VARCHAR,
    producer VARCHAR NOT NULL,
    producer_sequence BIGINT NOT NULL,
    stream_sequence BIGINT NOT NULL
);
COMMENT ON TABLE guardrail_events IS 'What guardrails found in requests, one row for each rule and place; never what was found itself.';
COMMENT ON COLUMN guardrail_events.found_at IS 'When it was found.';
COMMENT ON COLUMN guardrail_events.request_id IS 'The request; its row in requests may follow later.';
COMMENT ON COLUMN guardrail_events.guardrail IS 'The guardrail, by its name in the configuration.';
COMMENT ON COLUMN guardrail_events.kind IS 'What it is: request_rules, secrets, ...';
COMMENT ON COLUMN guardrail_events.mode IS 'pre_call: it looked at the request; logging_only: the same, without consequences; post_call: at the answer.';
COMMENT ON COLUMN guardrail_events.action IS 'What became of it: block (the request was refused), mask (the text was replaced) or log (it went on as it was).';
COMMENT ON COLUMN guardrail_events.rule IS 'Which of its rules; others: more findings than are told one by one.';
COMMENT ON COLUMN guardrail_events.category IS 'The category of the rule.';
COMMENT ON COLUMN guardrail_events.place IS 'Where in the request: messages[3].content[1], system, tools, headers, requests[7].system of a batch, answer.content[0], ...';
COMMENT ON COLUMN guardrail_events.hits IS 'How often the rule was met there.';
COMMENT ON COLUMN guardrail_events.endpoint IS 'messages, count_tokens or batches.';
COMMENT ON COLUMN guardrail_events.key_id IS 'The virtual key.';
COMMENT ON COLUMN guardrail_events.key_alias IS 'The key''s name at that moment.';
COMMENT ON COLUMN guardrail_events.user_id IS 'The key''s user at that moment.';
COMMENT ON COLUMN guardrail_events.team_id IS 'The key''s team at that moment.';
COMMENT ON COLUMN guardrail_events.model_name IS 'The model name that the client asked for.';
COMMENT ON COLUMN guardrail_events.session_id IS 'The Claude Code session.';
COMMENT ON COLUMN guardrail_events.producer IS 'Which life of which proxy worker reported it.';
COMMENT ON COLUMN guardrail_events.producer_sequence IS 'The number of the report among those of its producer.';
COMMENT ON COLUMN guardrail_events.stream_sequence IS 'The message of the stream USAGE that held it.';

CREATE TABLE producers (producer VARCHAR NOT NULL, last_sequence BIGINT NOT NULL);
COMMENT ON TABLE producers IS 'How far each producer''s events have been taken in; repeats are known by it.';
COMMENT ON COLUMN producers.producer IS 'One life of one proxy worker.';
COMMENT ON COLUMN producers.last_sequence IS 'The number of its last event in the ledger.';

CREATE TABLE checkpoints (
    stream VARCHAR NOT NULL,
    stream_created VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    stream_time TIMESTAMP NOT NULL,
    events BIGINT NOT NULL,
    repeats BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    again BIGINT NOT NULL,
    closed BIGINT NOT NULL,
    lost BIGINT NOT NULL,
    corrected BIGINT NOT NULL,
    guarded BIGINT NOT NULL
);
COMMENT ON TABLE checkpoints IS 'How far each stream has been taken in; changed in the transaction of its rows.';
COMMENT ON COLUMN checkpoints.stream IS 'The stream.';
COMMENT ON COLUMN checkpoints.stream_created IS 'When the stream was made: tells it from another of its name.';
COMMENT ON COLUMN checkpoints.sequence IS 'The last message that is in the ledger.';
COMMENT ON COLUMN checkpoints.stream_time IS 'The stream''s time there; it never goes back.';
COMMENT ON COLUMN checkpoints.events IS 'Events that counted: as many as the producers have numbered, but for gaps.';
COMMENT ON COLUMN checkpoints.repeats IS 'Events that had come before and did not count again.';
COMMENT ON COLUMN checkpoints.started IS 'Of events: requests that began.';
COMMENT ON COLUMN checkpoints.ends IS 'Of events: those that became a row of requests.';
COMMENT ON COLUMN checkpoints.again IS 'Of events: a batch result that was fetched again, or a second start; no row.';
COMMENT ON COLUMN checkpoints.closed IS 'Of started: requests whose end came in time.';
COMMENT ON COLUMN checkpoints.lost IS 'Of started: requests that were closed as lost.';
COMMENT ON COLUMN checkpoints.corrected IS 'Of lost: requests whose end came after all.';
COMMENT ON COLUMN checkpoints.guarded IS 'Of events: what a guardrail found; rows of guardrail_events.';

CREATE TABLE corrections (
    request_id VARCHAR NOT NULL,
    lost_sequence BIGINT NOT NULL,
    corrected_sequence BIGINT NOT NULL,
    row_hash UBIGINT NOT NULL
);
COMMENT ON TABLE corrections IS 'Requests that were closed as lost and whose end came after all: it replaced that row.';
COMMENT ON COLUMN corrections.request_id IS 'The gateway''s own id of the request.';
COMMENT ON COLUMN corrections.lost_sequence IS 'The message of the stream USAGE at which it was closed as lost.';
COMMENT ON COLUMN corrections.corrected_sequence IS 'The message that told its end.';
COMMENT ON COLUMN corrections.row_hash IS 'What the replaced row counted for in the digest.';

CREATE TABLE repricings (
    stream_sequence BIGINT NOT NULL,
    repriced_at TIMESTAMP NOT NULL,
    repriced_by VARCHAR,
    reason VARCHAR NOT NULL,
    requests_from TIMESTAMP NOT NULL,
    requests_to TIMESTAMP,
    models VARCHAR[] NOT NULL,
    content VARCHAR NOT NULL,
    applied BOOLEAN NOT NULL,
    requests BIGINT NOT NULL,
    changed_requests BIGINT NOT NULL,
    cost_before_usd DECIMAL(38, 12) NOT NULL,
    cost_after_usd DECIMAL(38, 12) NOT NULL,
    unpriced_before BIGINT NOT NULL,
    unpriced_after BIGINT NOT NULL,
    client_address VARCHAR,
    route VARCHAR,
    request_id VARCHAR
);
COMMENT ON TABLE repricings IS 'Every time that costs of requests in the books were computed anew: who, when, why, and what it came to.';
COMMENT ON COLUMN repricings.stream_sequence IS 'The message of the stream USAGE that told it; requests of earlier ones are meant.';
COMMENT ON COLUMN repricings.repriced_at IS 'When it was ordered.';
COMMENT ON COLUMN repricings.repriced_by IS 'Who ordered it.';
COMMENT ON COLUMN repricings.reason IS 'Why, in that one''s words.';
COMMENT ON COLUMN repricings.requests_from IS 'Requests that started then or later are meant.';
COMMENT ON COLUMN repricings.requests_to IS 'And before then; NULL: however late.';
COMMENT ON COLUMN repricings.models IS 'Of these models, by any of their names; empty: of all.';
COMMENT ON COLUMN repricings.content IS 'Its own prices, which went before those in force, as JSON.';
COMMENT ON COLUMN repricings.applied IS 'false: it meant more requests than one may (REPRICED_ROWS_MAX), and changed none.';
COMMENT ON COLUMN repricings.requests IS 'Requests that were meant.';
COMMENT ON COLUMN repricings.changed_requests IS 'Of these: whose cost became another one.';
COMMENT ON COLUMN repricings.cost_before_usd IS 'What they had cost together, without what was unpriced.';
COMMENT ON COLUMN repricings.cost_after_usd IS 'What they have cost since, without what is unpriced.';
COMMENT ON COLUMN repricings.unpriced_before IS 'Of these: without a price before.';
COMMENT ON COLUMN repricings.unpriced_after IS 'Of these: without a price after.';
COMMENT ON COLUMN repricings.client_address IS 'The address of the client that asked for it; NULL: no request did, or that was not told then.';
COMMENT ON COLUMN repricings.route IS 'The route that it asked.';
COMMENT ON COLUMN repricings.request_id IS 'The id that its answer had (the header request-id).';

CREATE TABLE repriced_hashes (
    stream_sequence BIGINT NOT NULL,
    repriced_sequence BIGINT NOT NULL,
    hash_change HUGEINT NOT NULL
);
COMMENT ON TABLE repriced_hashes IS 'What repriced requests counted for in the digest before, so that it can still be told.';
COMMENT ON COLUMN repriced_hashes.stream_sequence IS 'The message that held the requests.';
COMMENT ON COLUMN repriced_hashes.repriced_sequence IS 'The message that repriced them.';
COMMENT ON COLUMN repriced_hashes.hash_change IS 'Their hashes before, less those after: two rows of one message belong together.';

CREATE TABLE gaps (
    producer VARCHAR NOT NULL,
    first_missing BIGINT NOT NULL,
    last_missing BIGINT NOT NULL,
    stream_sequence BIGINT NOT NULL
);
COMMENT ON TABLE gaps IS 'Events that a producer wrote and that never arrived. Empty, or something was lost.';
COMMENT ON COLUMN gaps.producer IS 'The producer.';
COMMENT ON COLUMN gaps.first_missing IS 'The first number that is missing.';
COMMENT ON COLUMN gaps.last_missing IS 'The last number that is missing.';
COMMENT ON COLUMN gaps.stream_sequence IS 'The message in which it was noticed.';

CREATE TABLE dead_letters (
    stream_sequence BIGINT NOT NULL,
    position INTEGER NOT NULL,
    reason VARCHAR NOT NULL,
    payload BLOB NOT NULL,
    payload_bytes BIGINT NOT NULL,
    producer VARCHAR,
    producer_sequence BIGINT
);
COMMENT ON TABLE dead_letters IS 'Events that could not be read. They stop nothing and are kept.';
COMMENT ON COLUMN dead_letters.stream_sequence IS 'The message of the stream USAGE that held it.';
COMMENT ON COLUMN dead_letters.position IS 'Its place in the message; -1: the whole message.';
COMMENT ON COLUMN dead_letters.reason IS 'Why it could not be read.';
COMMENT ON COLUMN dead_letters.payload IS 'Its bytes, the first 64 KiB.';
COMMENT ON COLUMN dead_letters.payload_bytes IS 'How long it was.';
COMMENT ON COLUMN dead_letters.producer IS 'Whose event it is; NULL: nothing says that it is one of a proxy.';
COMMENT ON COLUMN dead_letters.producer_sequence IS 'Its number among those of its producer.';

CREATE TABLE price_changes (
    stream_sequence BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    changed_by VARCHAR,
    content VARCHAR NOT NULL,
    client_address VARCHAR,
    route VARCHAR,
    request_id VARCHAR
);
COMMENT ON TABLE price_changes IS 'Every change of prices: who, when, and what holds from that message of the stream on.';
COMMENT ON COLUMN price_changes.stream_sequence IS 'The message of the stream USAGE that told it; requests whose end follows are priced by it.';
COMMENT ON COLUMN price_changes.kind IS 'What was changed, as a whole: book (the price book that ships), file (prices: of the configuration) or api (POST /price/update).';
COMMENT ON COLUMN price_changes.changed_at IS 'When it was changed (UTC).';
COMMENT ON COLUMN price_changes.changed_by IS 'Who changed it: config, version, master_key or the id of a virtual key.';
COMMENT ON COLUMN price_changes.content IS 'The whole new state in JSON: a price book, or a list of entries.';
COMMENT ON COLUMN price_changes.client_address IS 'The address of the client that asked for it; NULL: no request did, or that was not told then.';
COMMENT ON COLUMN price_changes.route IS 'The route that it asked.';
COMMENT ON COLUMN price_changes.request_id IS 'The id that its answer had (the header request-id).';

CREATE TABLE registry_changes (
    stream_sequence BIGINT NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    object_type VARCHAR NOT NULL,
    object_id VARCHAR NOT NULL,
    object_name VARCHAR,
    action VARCHAR NOT NULL,
    changed_by VARCHAR,
    client_address VARCHAR,
    route VARCHAR,
    request_id VARCHAR,
    changed_fields VARCHAR[] NOT NULL,
    before VARCHAR,
    after VARCHAR NOT NULL,
    state VARCHAR NOT NULL
);
COMMENT ON TABLE registry_changes IS 'Every change of keys, teams, users, models and the configuration, as the stream REGISTRY holds it; audit_events has prices, too.';
COMMENT ON COLUMN registry_changes.stream_sequence IS 'The message of the stream REGISTRY.';
COMMENT ON COLUMN registry_changes.changed_at IS 'When it was changed.';
COMMENT ON COLUMN registry_changes.object_type IS 'What was changed: key, team, user, model or config.';
COMMENT ON COLUMN registry_changes.object_id IS 'Its id.';
COMMENT ON COLUMN registry_changes.object_name IS 'Its name then.';
COMMENT ON COLUMN registry_changes.action IS 'created, updated, blocked, unblocked, rotated, deleted or changed.';
COMMENT ON COLUMN registry_changes.changed_by IS 'Who changed it: master_key, the id of a virtual key, or SIGHUP.';
COMMENT ON COLUMN registry_changes.client_address IS 'The address of the client that asked for it; NULL: no request did, or that was not told then.';
COMMENT ON COLUMN registry_changes.route IS 'The route that it asked.';
COMMENT ON COLUMN registry_changes.request_id IS 'The id that its answer had (the header request-id).';
COMMENT ON COLUMN registry_changes.changed_fields IS 'The fields that have another value than before.';
COMMENT ON COLUMN registry_changes.before IS 'Their values before, as JSON; NULL: there was nothing before.';
COMMENT ON COLUMN registry_changes.after IS 'Their values after, as JSON.';
COMMENT ON COLUMN registry_changes.state IS 'All its fields after, as JSON, without hashes of keys.';

CREATE TABLE prices (
    model VARCHAR NOT NULL,
    names VARCHAR[] NOT NULL,
    valid_from DATE,
    valid_to DATE,
    above_prompt_tokens BIGINT NOT NULL,
    up_to_prompt_tokens BIGINT,
    input_usd_per_mtok DECIMAL(12, 6) NOT NULL,
    output_usd_per_mtok DECIMAL(12, 6) NOT NULL,
    cache_read_usd_per_mtok DECIMAL(12, 6) NOT NULL,
    cache_write_5m_usd_per_mtok DECIMAL(12, 6) NOT NULL,
    cache_write_1h_usd_per_mtok DECIMAL(12, 6) NOT NULL,
    usd_per_1000_web_searches DECIMAL(12, 6) NOT NULL,
    batch_multiplier DECIMAL(12, 6) NOT NULL,
    fast_multiplier DECIMAL(12, 6),
    inference_geo_multipliers MAP(VARCHAR, DECIMAL(12, 6)) NOT NULL,
    multiplier DECIMAL(12, 6) NOT NULL,
    origin VARCHAR NOT NULL,
    source VARCHAR NOT NULL
);
COMMENT ON TABLE prices IS 'What every model costs, as it is in force now: the price book with all that differs from it. One row for each stretch of days and each size of prompt.';
COMMENT ON COLUMN prices.model IS 'The model''s id in the price book; of one that an entry alone knows, its name or pattern.';
COMMENT ON COLUMN prices.names IS 'All names that it goes by, the id first.';
COMMENT ON COLUMN prices.valid_from IS 'The first day (UTC) on which a request that starts costs this; NULL: always before valid_to.';
COMMENT ON COLUMN prices.valid_to IS 'The first day that is not meant any more; NULL: no end.';
COMMENT ON COLUMN prices.above_prompt_tokens IS 'For prompts (input, cache reads and cache writes) of more tokens than this; 0: also for an empty one.';
COMMENT ON COLUMN prices.up_to_prompt_tokens IS 'For prompts of at most so many tokens; NULL: no limit.';
COMMENT ON COLUMN prices.input_usd_per_mtok IS 'US dollars per million input tokens.';
COMMENT ON COLUMN prices.output_usd_per_mtok IS 'US dollars per million output tokens.';
COMMENT ON COLUMN prices.cache_read_usd_per_mtok IS 'US dollars per million tokens read from the prompt cache.';
COMMENT ON COLUMN prices.cache_write_5m_usd_per_mtok IS 'US dollars per million tokens written for five minutes.';
COMMENT ON COLUMN prices.cache_write_1h_usd_per_mtok IS 'US dollars per million tokens written for an hour.';
COMMENT ON COLUMN prices.usd_per_1000_web_searches IS 'US dollars per thousand web searches.';
COMMENT ON COLUMN prices.batch_multiplier IS 'Multiplies the token prices for service_tier batch.';
COMMENT ON COLUMN prices.fast_multiplier IS 'Multiplies the token prices for speed fast; NULL: fast mode has no price.';
COMMENT ON COLUMN prices.inference_geo_multipliers IS 'Multiplies the token prices, by inference_geo; empty: no region costs extra.';
COMMENT ON COLUMN prices.multiplier IS 'Multiplies the whole cost: below 1 a discount, above a margin.';
COMMENT ON COLUMN prices.origin IS 'Whose word it is: book, file or api.';
COMMENT ON COLUMN prices.source IS 'Where the figures come from.';

CREATE TABLE quota_observations (
    observed_at TIMESTAMP NOT NULL,
    seat VARCHAR NOT NULL,
    billing VARCHAR NOT NULL,
    key_id VARCHAR,
    key_alias VARCHAR,
    user_id VARCHAR,
    team_id VARCHAR,
    deployment VARCHAR,
    request_id VARCHAR NOT NULL,
    http_status SMALLINT NOT NULL,
    status VARCHAR,
    representative_claim VARCHAR,
    resets_at TIMESTAMP,
    five_hour_status VARCHAR,
    five_hour_utilization DECIMAL(10, 6),
    five_hour_resets_at TIMESTAMP,
    seven_day_status VARCHAR,
    seven_day_utilization DECIMAL(10, 6),
    seven_day_resets_at TIMESTAMP,
    overage_status VARCHAR,
    overage_utilization DECIMAL(10, 6),
    overage_resets_at TIMESTAMP,
    overage_disabled_reason VARCHAR,
    requests_limit BIGINT,
    requests_remaining BIGINT,
    requests_reset_at TIMESTAMP,
    tokens_limit BIGINT,
    tokens_remaining BIGINT,
    tokens_reset_at TIMESTAMP,
    input_tokens_limit BIGINT,
    input_tokens_remaining BIGINT,
    input_tokens_reset_at TIMESTAMP,
    output_tokens_limit BIGINT,
    output_tokens_remaining BIGINT,
    output_tokens_reset_at TIMESTAMP,
    headers VARCHAR NOT NULL,
    stream_sequence BIGINT NOT NULL
);
COMMENT ON TABLE quota_observations IS 'What the API said of the quota of an account, whenever it was something new.';
COMMENT ON COLUMN quota_observations.observed_at IS 'When the answer began that told it.';
COMMENT ON COLUMN quota_observations.seat IS 'The account, as a hash: of a subscription''s account id, else of the credential.';
COMMENT ON COLUMN quota_observations.billing IS 'subscription: the client''s own account; api: an API key.';
COMMENT ON COLUMN quota_observations.key_id IS 'The virtual key whose request was answered.';
COMMENT ON COLUMN quota_observations.key_alias IS 'Its name then.';
COMMENT ON COLUMN quota_observations.user_id IS 'The user of the key.';
COMMENT ON COLUMN quota_observations.team_id IS 'The team of the key.';
COMMENT ON COLUMN quota_observations.deployment IS 'The deployment that answered.';
COMMENT ON COLUMN quota_observations.request_id IS 'The request.';
COMMENT ON COLUMN quota_observations.http_status IS 'The HTTP status of the answer; 429 where the quota was used up.';
COMMENT ON COLUMN quota_observations.status IS 'Of a subscription: allowed, allowed_warning or rejected.';
COMMENT ON COLUMN quota_observations.representative_claim IS 'The window that decides the status: five_hour, seven_day, overage, …';
COMMENT ON COLUMN quota_observations.resets_at IS 'When that window ends.';
COMMENT ON COLUMN quota_observations.five_hour_status IS 'The status of the 5-hour window.';
COMMENT ON COLUMN quota_observations.five_hour_utilization IS 'How much of the 5-hour window is used: 1 is all of it.';
COMMENT ON COLUMN quota_observations.five_hour_resets_at IS 'When the 5-hour window ends.';
COMMENT ON COLUMN quota_observations.seven_day_status IS 'The status of the 7-day window.';
COMMENT ON COLUMN quota_observations.seven_day_utilization IS 'How much of the 7-day window is used: 1 is all of it.';
COMMENT ON COLUMN quota_observations.seven_day_resets_at IS 'When the 7-day window ends.';
COMMENT ON COLUMN quota_observations.overage_status IS 'The status of what is paid beyond the subscription.';
COMMENT ON COLUMN quota_observations.overage_utilization IS 'How much of its limit is used: 1 is all of it.';
COMMENT ON COLUMN quota_observations.overage_resets_at IS 'When that limit begins anew.';
COMMENT ON COLUMN quota_observations.overage_disabled_reason IS 'Why nothing beyond the subscription may be used.';
COMMENT ON COLUMN quota_observations.requests_limit IS 'Of an API key: requests a minute.';
COMMENT ON COLUMN quota_observations.requests_remaining IS 'Requests that are left of them.';
COMMENT ON COLUMN quota_observations.requests_reset_at IS 'When all of them are there again.';
COMMENT ON COLUMN quota_observations.tokens_limit IS 'Of an API key: tokens a minute.';
COMMENT ON COLUMN quota_observations.tokens_remaining IS 'Tokens that are left of them.';
COMMENT ON COLUMN quota_observations.tokens_reset_at IS 'When all of them are there again.';
COMMENT ON COLUMN quota_observations.input_tokens_limit IS 'Of an API key: input tokens a minute.';
COMMENT ON COLUMN quota_observations.input_tokens_remaining IS 'Input tokens that are left of them.';
COMMENT ON COLUMN quota_observations.input_tokens_reset_at IS 'When all of them are there again.';
COMMENT ON COLUMN quota_observations.output_tokens_limit IS 'Of an API key: output tokens a minute.';
COMMENT ON COLUMN quota_observations.output_tokens_remaining IS 'Output tokens that are left of them.';
COMMENT ON COLUMN quota_observations.output_tokens_reset_at IS 'When all of them are there again.';
COMMENT ON COLUMN quota_observations.headers IS 'All that was told, as JSON: headers by what follows anthropic-ratelimit-.';
COMMENT ON COLUMN quota_observations.stream_sequence IS 'The message of the stream USAGE that held it.';

CREATE VIEW audit_events AS
SELECT
    'REGISTRY' AS stream, stream_sequence, changed_at, object_type, object_id, object_name, action,
    changed_by, client_address, route, request_id, changed_fields, before, after
FROM registry_changes
UNION ALL
SELECT
    'USAGE', stream_sequence, changed_at, 'prices', kind, NULL, 'changed',
    changed_by, client_address, route, request_id, [field],
    CASE WHEN value_before IS NOT NULL
        THEN json_object(field, value_before)::VARCHAR END,
    json_object(field, value)::VARCHAR
FROM (
    SELECT *, lag(value) OVER (PARTITION BY kind ORDER BY stream_sequence) AS value_before
    FROM (
        SELECT *,
            -- A price book is long and ships with a version, which says enough.
            CASE WHEN kind = 'book' THEN 'version' ELSE 'entries' END AS field,
            CASE WHEN kind = 'book' THEN content::JSON -> '$.version' ELSE content::JSON END
                AS value
        FROM price_changes
    )
)
UNION ALL
SELECT
    'USAGE', stream_sequence, repriced_at, 'requests', '', reason,
    CASE WHEN applied THEN 'repriced' ELSE 'not_repriced' END,
    repriced_by, client_address, route, request_id, ['cost_usd', 'unpriced_requests'],
    json_object('cost_usd', cost_before_usd::VARCHAR, 'unpriced_requests', unpriced_before)::VARCHAR,
    json_object('cost_usd', cost_after_usd::VARCHAR, 'unpriced_requests', unpriced_after)::VARCHAR
FROM repricings;
COMMENT ON VIEW audit_events IS 'Who changed what, when, from where and how: keys, teams, users, models, the configuration, prices and repricings.';
COMMENT ON COLUMN audit_events.stream IS 'The stream that holds it: REGISTRY or USAGE.';
COMMENT ON COLUMN audit_events.stream_sequence IS 'Its message of that stream.';
COMMENT ON COLUMN audit_events.changed_at IS 'When it was changed.';
COMMENT ON COLUMN audit_events.object_type IS 'What was changed: key, team, user, model, config, prices or requests (a repricing).';
COMMENT ON COLUMN audit_events.object_id IS 'Its id; of prices book, file or api; empty for a repricing.';
COMMENT ON COLUMN audit_events.object_name IS 'Its name then; of a repricing the reason.';
COMMENT ON COLUMN audit_events.action IS 'created, updated, blocked, unblocked, rotated, deleted, changed, repriced, or not_repriced (too many requests were meant).';
COMMENT ON COLUMN audit_events.changed_by IS 'Who changed it: master_key, the id of a virtual key, config, version or SIGHUP.';
COMMENT ON COLUMN audit_events.client_address IS 'The address of the client that asked for it; NULL: no request did, or that was not told then.';
COMMENT ON COLUMN audit_events.route IS 'The route that it asked.';
COMMENT ON COLUMN audit_events.request_id IS 'The id that its answer had (the header request-id).';
COMMENT ON COLUMN audit_events.changed_fields IS 'The fields that have another value than before.';
COMMENT ON COLUMN audit_events.before IS 'Their values before, as JSON; NULL: there was nothing before.';
COMMENT ON COLUMN audit_events.after IS 'Their values after, as JSON.';

CREATE VIEW quota_now AS
SELECT
    seat,
    billing,
    key_alias,
    user_id,
    team_id,
    observed_at,
    status,
    representative_claim,
    CASE WHEN five_hour_resets_at <= now()::TIMESTAMP THEN 0 ELSE five_hour_utilization END
        AS five_hour_utilization,
    five_hour_resets_at,
    CASE WHEN seven_day_resets_at <= now()::TIMESTAMP THEN 0 ELSE seven_day_utilization END
        AS seven_day_utilization,
    seven_day_resets_at,
    overage_status,
    overage_utilization,
    overage_disabled_reason,
    requests_remaining,
    requests_limit,
    tokens_remaining,
    tokens_limit
FROM quota_observations
QUALIFY row_number() OVER (PARTITION BY seat ORDER BY observed_at DESC, stream_sequence DESC) = 1;
COMMENT ON VIEW quota_now IS 'The last observation of each seat; a window that has ended since counts as empty.';
COMMENT ON COLUMN quota_now.seat IS 'The account, as a hash.';
COMMENT ON COLUMN quota_now.billing IS 'subscription or api.';
COMMENT ON COLUMN quota_now.key_alias IS 'The virtual key that asked last.';
COMMENT ON COLUMN quota_now.user_id IS 'Its user.';
COMMENT ON COLUMN quota_now.team_id IS 'Its team.';
COMMENT ON COLUMN quota_now.observed_at IS 'When that was.';
COMMENT ON COLUMN quota_now.status IS 'allowed, allowed_warning or rejected, then.';
COMMENT ON COLUMN quota_now.representative_claim IS 'The window that decided it.';
COMMENT ON COLUMN quota_now.five_hour_utilization IS 'How much of the 5-hour window is used: 1 is all of it; 0 once it has ended.';
COMMENT ON COLUMN quota_now.five_hour_resets_at IS 'When the 5-hour window ends.';
COMMENT ON COLUMN quota_now.seven_day_utilization IS 'How much of the 7-day window is used: 1 is all of it; 0 once it has ended.';
COMMENT ON COLUMN quota_now.seven_day_resets_at IS 'When the 7-day window ends.';
COMMENT ON COLUMN quota_now.overage_status IS 'The status of what is paid beyond the subscription.';
COMMENT ON COLUMN quota_now.overage_utilization IS 'How much of its limit is used.';
COMMENT ON COLUMN quota_now.overage_disabled_reason IS 'Why nothing beyond the subscription may be used.';
COMMENT ON COLUMN quota_now.requests_remaining IS 'Of an API key: requests that were left of this minute''s.';
COMMENT ON COLUMN quota_now.requests_limit IS 'Requests a minute.';
COMMENT ON COLUMN quota_now.tokens_remaining IS 'Of an API key: tokens that were left of this minute''s.';
COMMENT ON COLUMN quota_now.tokens_limit IS 'Tokens a minute.';

CREATE TABLE seats (
    user_id VARCHAR,
    key_alias VARCHAR,
    plan VARCHAR,
    monthly_usd DECIMAL(12, 6) NOT NULL,
    valid_from DATE,
    valid_to DATE
);
COMMENT ON TABLE seats IS 'What subscriptions cost, as seats: of the configuration says.';
COMMENT ON COLUMN seats.user_id IS 'The user whose requests go by it; NULL: key_alias says whose.';
COMMENT ON COLUMN seats.key_alias IS 'The virtual key whose requests go by it; NULL: user_id says whose.';
COMMENT ON COLUMN seats.plan IS 'What it is called.';
COMMENT ON COLUMN seats.monthly_usd IS 'US dollars a month.';
COMMENT ON COLUMN seats.valid_from IS 'The first day (UTC) that is meant; NULL: there is no first.';
COMMENT ON COLUMN seats.valid_to IS 'The first day that is not meant any more; NULL: there is no end.';

CREATE TABLE spend_parts (
    day DATE NOT NULL,
    key_id VARCHAR,
    key_alias VARCHAR,
    user_id VARCHAR,
    team_id VARCHAR,
    model_name VARCHAR,
    model VARCHAR,
    endpoint VARCHAR NOT NULL,
    billing VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    requests BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL,
    web_search_requests BIGINT NOT NULL,
    duration_ms HUGEINT NOT NULL,
    cost_usd DECIMAL(38, 12) NOT NULL,
    input_cost_usd DECIMAL(38, 12) NOT NULL,
    output_cost_usd DECIMAL(38, 12) NOT NULL,
    cache_read_cost_usd DECIMAL(38, 12) NOT NULL,
    cache_write_5m_cost_usd DECIMAL(38, 12) NOT NULL,
    cache_write_1h_cost_usd DECIMAL(38, 12) NOT NULL,
    web_search_cost_usd DECIMAL(38, 12) NOT NULL,
    unpriced_requests BIGINT NOT NULL,
    estimated_requests BIGINT NOT NULL,
    merged BOOLEAN NOT NULL
);
COMMENT ON TABLE spend_parts IS 'What spend_by_day adds up: sums of the facts, added in the transaction of their rows; those of rows that were replaced are negative.';
COMMENT ON COLUMN spend_parts.day IS 'The day (UTC) on which the requests came in.';
COMMENT ON COLUMN spend_parts.key_id IS 'The virtual key.';
COMMENT ON COLUMN spend_parts.key_alias IS 'The key''s name then.';
COMMENT ON COLUMN spend_parts.user_id IS 'The key''s user then.';
COMMENT ON COLUMN spend_parts.team_id IS 'The key''s team then.';
COMMENT ON COLUMN spend_parts.model_name IS 'The model name that the client asked for.';
COMMENT ON COLUMN spend_parts.model IS 'The model that the deployment was asked for.';
COMMENT ON COLUMN spend_parts.endpoint IS 'As in requests.';
COMMENT ON COLUMN spend_parts.billing IS 'api: paid by the company''s API account; subscription: by a seat.';
COMMENT ON COLUMN spend_parts.status IS 'success, failure, refused (by the gateway) or client_closed.';
COMMENT ON COLUMN spend_parts.requests IS 'Requests that are over, refused ones included: see status.';
COMMENT ON COLUMN spend_parts.input_tokens IS 'Tokens of the prompts that were neither read from the cache nor written to it.';
COMMENT ON COLUMN spend_parts.output_tokens IS 'Tokens of the answers.';
COMMENT ON COLUMN spend_parts.cache_read_tokens IS 'Tokens of the prompts that were read from the cache.';
COMMENT ON COLUMN spend_parts.cache_write_5m_tokens IS 'Tokens of the prompts written to the 5-minute cache.';
COMMENT ON COLUMN spend_parts.cache_write_1h_tokens IS 'Tokens of the prompts written to the 1-hour cache.';
COMMENT ON COLUMN spend_parts.web_search_requests IS 'Web searches that the API ran.';
COMMENT ON COLUMN spend_parts.duration_ms IS 'The requests'' durations, added up.';
COMMENT ON COLUMN spend_parts.cost_usd IS 'Their cost at list price, exact, without what is unpriced.';
COMMENT ON COLUMN spend_parts.input_cost_usd IS 'The part of cost_usd for input_tokens.';
COMMENT ON COLUMN spend_parts.output_cost_usd IS 'The part of cost_usd for output_tokens.';
COMMENT ON COLUMN spend_parts.cache_read_cost_usd IS 'The part of cost_usd for cache reads.';
COMMENT ON COLUMN spend_parts.cache_write_5m_cost_usd IS 'The part of cost_usd for 5-minute cache writes.';
COMMENT ON COLUMN spend_parts.cache_write_1h_cost_usd IS 'The part of cost_usd for 1-hour cache writes.';
COMMENT ON COLUMN spend_parts.web_search_cost_usd IS 'The part of cost_usd for web searches.';
COMMENT ON COLUMN spend_parts.unpriced_requests IS 'Requests that the price book has no price for.';
COMMENT ON COLUMN spend_parts.estimated_requests IS 'Requests part of whose usage is an estimate.';
COMMENT ON COLUMN spend_parts.merged IS 'Whether other parts were merged to this one, or it is the only one of its group.';

CREATE TABLE ttfb_parts (
    day DATE NOT NULL,
    model VARCHAR,
    stream BOOLEAN NOT NULL,
    ttfb_from_ms BIGINT NOT NULL,
    ttfb_below_ms BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    merged BOOLEAN NOT NULL
);
COMMENT ON TABLE ttfb_parts IS 'What ttfb_by_day adds up, as spend_parts is for spend_by_day.';
COMMENT ON COLUMN ttfb_parts.day IS 'The day (UTC) on which the requests came in.';
COMMENT ON COLUMN ttfb_parts.model IS 'The model that the deployment was asked for.';
COMMENT ON COLUMN ttfb_parts.stream IS 'Whether a stream was asked for.';
COMMENT ON COLUMN ttfb_parts.ttfb_from_ms IS 'The first byte came after at least so many milliseconds.';
COMMENT ON COLUMN ttfb_parts.ttfb_below_ms IS 'And before so many: at most a sixteenth more.';
COMMENT ON COLUMN ttfb_parts.requests IS 'Successful requests whose first byte came in that time.';
COMMENT ON COLUMN ttfb_parts.merged IS 'Whether other parts were merged to this one, or it is the only one of its group.';

CREATE VIEW spend_by_day AS
SELECT
    day,
    key_id,
    key_alias,
    user_id,
    team_id,
    model_name,
    model,
    endpoint,
    billing,
    status,
    sum(requests)::BIGINT AS requests,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(input_tokens + cache_read_tokens + cache_write_5m_tokens
        + cache_write_1h_tokens) AS prompt_tokens,
    sum(input_tokens + cache_read_tokens + cache_write_5m_tokens
        + cache_write_1h_tokens + output_tokens) AS total_tokens,
    sum(web_search_requests) AS web_search_requests,
    sum(duration_ms) AS duration_ms,
    CASE WHEN sum(unpriced_requests) < sum(requests) THEN sum(cost_usd) END AS cost_usd,
    sum(CASE WHEN billing = 'api' THEN cost_usd ELSE 0 END) AS paid_usd,
    sum(CASE WHEN billing = 'subscription' THEN cost_usd ELSE 0 END) AS api_equivalent_usd,
    sum(input_cost_usd) AS input_cost_usd,
    sum(output_cost_usd) AS output_cost_usd,
    sum(cache_read_cost_usd) AS cache_read_cost_usd,
    sum(cache_write_5m_cost_usd) AS cache_write_5m_cost_usd,
    sum(cache_write_1h_cost_usd) AS cache_write_1h_cost_usd,
    sum(web_search_cost_usd) AS web_search_cost_usd,
    sum(unpriced_requests)::BIGINT AS unpriced_requests,
    sum(estimated_requests)::BIGINT AS estimated_requests
FROM spend_parts
GROUP BY day, key_id, key_alias, user_id, team_id, model_name, model, endpoint, billing, status
HAVING sum(requests) <> 0;
COMMENT ON VIEW spend_by_day IS 'Requests, tokens and spend by day, key, user, team, model, endpoint, billing and status: exactly the sums of requests, at once however many there are.';
COMMENT ON COLUMN spend_by_day.day IS 'The day (UTC) on which the requests came in.';
COMMENT ON COLUMN spend_by_day.key_id IS 'The virtual key.';
COMMENT ON COLUMN spend_by_day.key_alias IS 'The key''s name then.';
COMMENT ON COLUMN spend_by_day.user_id IS 'The key''s user then.';
COMMENT ON COLUMN spend_by_day.team_id IS 'The key''s team then.';
COMMENT ON COLUMN spend_by_day.model_name IS 'The model name that the client asked for.';
COMMENT ON COLUMN spend_by_day.model IS 'The model that the deployment was asked for.';
COMMENT ON COLUMN spend_by_day.endpoint IS 'As in requests.';
COMMENT ON COLUMN spend_by_day.billing IS 'api: paid by the company''s API account; subscription: by a seat.';
COMMENT ON COLUMN spend_by_day.status IS 'success, failure, refused (by the gateway) or client_closed.';
COMMENT ON COLUMN spend_by_day.requests IS 'Requests that are over, refused ones included: see status.';
COMMENT ON COLUMN spend_by_day.input_tokens IS 'Tokens of the prompts that were neither read from the cache nor written to it.';
COMMENT ON COLUMN spend_by_day.output_tokens IS 'Tokens of the answers.';
COMMENT ON COLUMN spend_by_day.cache_read_tokens IS 'Tokens of the prompts that were read from the cache.';
COMMENT ON COLUMN spend_by_day.cache_write_5m_tokens IS 'Tokens of the prompts written to the 5-minute cache.';
COMMENT ON COLUMN spend_by_day.cache_write_1h_tokens IS 'Tokens of the prompts written to the 1-hour cache.';
COMMENT ON COLUMN spend_by_day.prompt_tokens IS 'The whole prompts: input, cache reads and cache writes.';
COMMENT ON COLUMN spend_by_day.total_tokens IS 'prompt_tokens and output_tokens.';
COMMENT ON COLUMN spend_by_day.web_search_requests IS 'Web searches that the API ran.';
COMMENT ON COLUMN spend_by_day.duration_ms IS 'The requests'' durations, added up.';
COMMENT ON COLUMN spend_by_day.cost_usd IS 'Their cost at list price, exact, without what is unpriced; NULL: all is unpriced.';
COMMENT ON COLUMN spend_by_day.paid_usd IS 'The part of cost_usd that the company''s API account pays.';
COMMENT ON COLUMN spend_by_day.api_equivalent_usd IS 'The part of cost_usd that seats of a subscription cover: what it would cost by the API.';
COMMENT ON COLUMN spend_by_day.input_cost_usd IS 'The part of cost_usd for input_tokens.';
COMMENT ON COLUMN spend_by_day.output_cost_usd IS 'The part of cost_usd for output_tokens.';
COMMENT ON COLUMN spend_by_day.cache_read_cost_usd IS 'The part of cost_usd for cache reads.';
COMMENT ON COLUMN spend_by_day.cache_write_5m_cost_usd IS 'The part of cost_usd for 5-minute cache writes.';
COMMENT ON COLUMN spend_by_day.cache_write_1h_cost_usd IS 'The part of cost_usd for 1-hour cache writes.';
COMMENT ON COLUMN spend_by_day.web_search_cost_usd IS 'The part of cost_usd for web searches.';
COMMENT ON COLUMN spend_by_day.unpriced_requests IS 'Requests that the price book has no price for.';
COMMENT ON COLUMN spend_by_day.estimated_requests IS 'Requests part of whose usage is an estimate.';

CREATE VIEW ttfb_by_day AS
SELECT
    day,
    model,
    stream,
    ttfb_from_ms,
    ttfb_below_ms,
    sum(requests)::BIGINT AS requests
FROM ttfb_parts
GROUP BY day, model, stream, ttfb_from_ms, ttfb_below_ms
HAVING sum(requests) <> 0;
COMMENT ON VIEW ttfb_by_day IS 'How many successful requests had their first byte after how long, by day and model: percentiles come from it at once.';
COMMENT ON COLUMN ttfb_by_day.day IS 'The day (UTC) on which the requests came in.';
COMMENT ON COLUMN ttfb_by_day.model IS 'The model that the deployment was asked for.';
COMMENT ON COLUMN ttfb_by_day.stream IS 'Whether a stream was asked for.';
COMMENT ON COLUMN ttfb_by_day.ttfb_from_ms IS 'The first byte came after at least so many milliseconds.';
COMMENT ON COLUMN ttfb_by_day.ttfb_below_ms IS 'And before so many: at most a sixteenth more.';
COMMENT ON COLUMN ttfb_by_day.requests IS 'Successful requests whose first byte came in that time.';

CREATE VIEW spend_by_billing_day AS
SELECT
    day,
    key_id,
    any_value(key_alias) AS key_alias,
    user_id,
    team_id,
    sum(paid_usd) AS paid_usd,
    sum(api_equivalent_usd) AS api_equivalent_usd,
    coalesce(sum(requests) FILTER (billing = 'api'), 0)::BIGINT AS paid_requests,
    coalesce(sum(requests) FILTER (billing = 'subscription'), 0)::BIGINT AS subscription_requests,
    sum(unpriced_requests)::BIGINT AS unpriced_requests
FROM spend_by_day
WHERE status <> 'refused'
GROUP BY day, key_id, user_id, team_id;
COMMENT ON VIEW spend_by_billing_day IS 'What was paid for, and what subscriptions would have cost at the API, by day and key.';
COMMENT ON COLUMN spend_by_billing_day.day IS 'The day (UTC) on which the requests started.';
COMMENT ON COLUMN spend_by_billing_day.key_id IS 'The virtual key.';
COMMENT ON COLUMN spend_by_billing_day.key_alias IS 'Its name.';
COMMENT ON COLUMN spend_by_billing_day.user_id IS 'The user of the key.';
COMMENT ON COLUMN spend_by_billing_day.team_id IS 'The team of the key.';
COMMENT ON COLUMN spend_by_billing_day.paid_usd IS 'The cost of requests with an API key.';
COMMENT ON COLUMN spend_by_billing_day.api_equivalent_usd IS 'What the requests of subscriptions would have cost with an API key.';
COMMENT ON COLUMN spend_by_billing_day.paid_requests IS 'Requests with an API key.';
COMMENT ON COLUMN spend_by_billing_day.subscription_requests IS 'Requests of subscriptions.';
COMMENT ON COLUMN spend_by_billing_day.unpriced_requests IS 'Requests without a price, which are in neither sum.';

CREATE VIEW seat_value AS
WITH used AS (
    SELECT day, user_id, key_alias, sum(requests) AS requests,
           sum(unpriced_requests) AS unpriced_requests, sum(cost_usd) AS usd
    FROM spend_parts
    WHERE billing = 'subscription' AND status <> 'refused'
    GROUP BY ALL
    HAVING sum(requests) <> 0
),
months AS (
    SELECT DISTINCT date_trunc('month', day)::DATE AS month FROM used
    UNION
    SELECT date_trunc('month', now()::TIMESTAMP)::DATE
),
seat_months AS (
    SELECT *
    FROM seats, months
    WHERE coalesce(valid_from < month + INTERVAL 1 MONTH, true)
      AND coalesce(valid_to > month, true)
)
SELECT
    s.month,
    s.user_id,
    s.key_alias,
    s.plan,
    s.monthly_usd,
    coalesce(sum(u.usd), 0) AS api_equivalent_usd,
    coalesce(sum(u.usd), 0) - s.monthly_usd AS saved_usd,
    coalesce(sum(u.requests), 0)::BIGINT AS requests,
    coalesce(sum(u.unpriced_requests), 0)::BIGINT AS unpriced_requests
FROM seat_months AS s
LEFT JOIN used AS u
    ON date_trunc('month', u.day)::DATE = s.month
    AND (u.user_id = s.user_id OR u.key_alias = s.key_alias)
    AND coalesce(u.day >= s.valid_from, true)
    AND coalesce(u.day < s.valid_to, true)
GROUP BY s.month, s.user_id, s.key_alias, s.plan, s.monthly_usd, s.valid_from, s.valid_to;
COMMENT ON VIEW seat_value IS 'What each subscription would have cost at the API, by month, beside what it costs.';
COMMENT ON COLUMN seat_value.month IS 'The first day of the month (UTC).';
COMMENT ON COLUMN seat_value.user_id IS 'The user whose subscription it is.';
COMMENT ON COLUMN seat_value.key_alias IS 'The virtual key whose subscription it is.';
COMMENT ON COLUMN seat_value.plan IS 'What it is called.';
COMMENT ON COLUMN seat_value.monthly_usd IS 'What it costs a month.';
COMMENT ON COLUMN seat_value.api_equivalent_usd IS 'What its requests would have cost with an API key.';
COMMENT ON COLUMN seat_value.saved_usd IS 'api_equivalent_usd less monthly_usd; below zero: an API key would have been cheaper.';
COMMENT ON COLUMN seat_value.requests IS 'Its requests.';
COMMENT ON COLUMN seat_value.unpriced_requests IS 'Those of them without a price, which are not in the sum.';

CREATE VIEW rejections AS
SELECT request_id, started_at, key_id, key_alias, user_id, team_id, model_name, http_status,
       error_type, reason, session_id, user_agent
FROM requests
WHERE status = 'refused';
COMMENT ON VIEW rejections IS 'Requests that the gateway refused, and why.';
COMMENT ON COLUMN rejections.request_id IS 'The gateway''s own id of the request.';
COMMENT ON COLUMN rejections.started_at IS 'When the request came in.';
COMMENT ON COLUMN rejections.key_id IS 'The virtual key; NULL where none was known.';
COMMENT ON COLUMN rejections.key_alias IS 'The key''s name at that moment.';
COMMENT ON COLUMN rejections.user_id IS 'The key''s user at that moment.';
COMMENT ON COLUMN rejections.team_id IS 'The key''s team at that moment.';
COMMENT ON COLUMN rejections.model_name IS 'The model name that the client asked for.';
COMMENT ON COLUMN rejections.http_status IS 'The status of the answer.';
COMMENT ON COLUMN rejections.error_type IS 'What kind of error, in the API''s words or the gateway''s.';
COMMENT ON COLUMN rejections.reason IS 'Why the gateway refused it.';
COMMENT ON COLUMN rejections.session_id IS 'The Claude Code session.';
COMMENT ON COLUMN rejections.user_agent IS 'The client program, as it calls itself.';

CREATE VIEW sessions AS
SELECT
    session_id,
    any_value(key_alias) AS key_alias,
    any_value(user_id) AS user_id,
    min(started_at) AS started_at,
    max(ended_at) AS ended_at,
    count(*) AS requests,
    sum(prompt_tokens) AS prompt_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd,
    date_diff('millisecond', min(started_at), max(ended_at)) AS duration_ms,
    arg_max(client_name, started_at) AS client_name,
    arg_max(client_version, started_at) AS client_version,
    arg_max(entrypoint, started_at) AS entrypoint,
    count(DISTINCT device_hash) AS devices,
    count(DISTINCT agent_id) AS agents,
    max(message_count) AS messages_max,
    count(*) FILTER (stop_reason = 'tool_use') AS tool_use_requests,
    count(*) FILTER (purpose = 'main') AS main_requests,
    count(*) FILTER (purpose = 'agent') AS agent_requests,
    count(*) FILTER (purpose = 'title') AS title_requests,
    count(*) FILTER (purpose = 'quota_probe') AS quota_probe_requests,
    count(*) FILTER (purpose = 'count_tokens') AS count_tokens_requests,
    sum(cost_usd) FILTER (purpose = 'main') AS main_cost_usd,
    sum(cost_usd) FILTER (purpose = 'agent') AS agent_cost_usd
FROM requests
WHERE session_id IS NOT NULL AND status <> 'refused'
GROUP BY session_id;
COMMENT ON VIEW sessions IS 'Claude Code sessions with what they cost.';
COMMENT ON COLUMN sessions.session_id IS 'The Claude Code session.';
COMMENT ON COLUMN sessions.key_alias IS 'The name of a key that it used.';
COMMENT ON COLUMN sessions.user_id IS 'The user of a key that it used.';
COMMENT ON COLUMN sessions.started_at IS 'When its first request came in.';
COMMENT ON COLUMN sessions.ended_at IS 'When its last answer was over.';
COMMENT ON COLUMN sessions.requests IS 'Its requests, without refused ones.';
COMMENT ON COLUMN sessions.prompt_tokens IS 'Tokens of their whole prompts.';
COMMENT ON COLUMN sessions.output_tokens IS 'Tokens of their answers.';
COMMENT ON COLUMN sessions.cost_usd IS 'Their cost at list price, exact, without what is unpriced; NULL: all is unpriced.';
COMMENT ON COLUMN sessions.duration_ms IS 'From started_at to ended_at.';
COMMENT ON COLUMN sessions.client_name IS 'The client program, as its latest request named it.';
COMMENT ON COLUMN sessions.client_version IS 'Its version then.';
COMMENT ON COLUMN sessions.entrypoint IS 'How it was started then: cli, sdk-cli, ...';
COMMENT ON COLUMN sessions.devices IS 'How many devices named themselves.';
COMMENT ON COLUMN sessions.agents IS 'How many sub-agents named themselves.';
COMMENT ON COLUMN sessions.messages_max IS 'The most messages in one request: how long the conversation grew.';
COMMENT ON COLUMN sessions.tool_use_requests IS 'Requests whose answer asked for a tool.';
COMMENT ON COLUMN sessions.main_requests IS 'Requests of the conversation itself.';
COMMENT ON COLUMN sessions.agent_requests IS 'Requests of sub-agents.';
COMMENT ON COLUMN sessions.title_requests IS 'Requests for a title.';
COMMENT ON COLUMN sessions.quota_probe_requests IS 'Probes of the quota.';
COMMENT ON COLUMN sessions.count_tokens_requests IS 'Requests that counted tokens, which are free.';
COMMENT ON COLUMN sessions.main_cost_usd IS 'The part of cost_usd for the conversation itself.';
COMMENT ON COLUMN sessions.agent_cost_usd IS 'The part of cost_usd for sub-agents.';
