"""Made-up secrets in the forms that their issuers document, and the texts that they stand in.

Everything is drawn from a seeded source of randomness when it is asked for: nothing that looks like
a secret is stored, and the same seed gives the same texts.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

__all__ = ["Sample", "secret_samples"]

ALNUM = ascii_letters + digits
HEX = "0123456789abcdef"
URL_SAFE = ALNUM + "-_"
BASE32 = ascii_uppercase + "234567"
LOWER = ascii_lowercase + digits


@dataclass(frozen=True)
class Sample:
    """A text in which one value stands.

    `rule` is who should find it: "" where no rule speaks of it, but whoever has it in a text would
    want it found.
    """

    rule: str
    label: str
    text: str
    start: int
    end: int


def drawn(random: Random, alphabet: str, count: int) -> str:
    return "".join(random.choices(alphabet, k=count))


def _of(prefix: str, alphabet: str, count: int, suffix: str = "") -> Callable[[Random], str]:
    return lambda random: prefix + drawn(random, alphabet, count) + suffix


def _private_key(kind: str) -> Callable[[Random], str]:
    def make(random: Random) -> str:
        data = base64.b64encode(random.randbytes(800)).decode()
        lines = "\n".join(data[place : place + 64] for place in range(0, len(data), 64))
        return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"

    return make


def _token(random: Random) -> str:
    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    body = part({"sub": drawn(random, digits, 10), "name": "A B", "iat": random.getrandbits(30)})
    return f"{head}.{body}.{drawn(random, URL_SAFE, 43)}"


def _slack_bot(random: Random) -> str:
    return (
        f"xoxb-{drawn(random, digits, 12)}-{drawn(random, digits, 12)}-{drawn(random, ALNUM, 24)}"
    )


def _openai(random: Random) -> str:
    return f"sk-proj-{drawn(random, URL_SAFE, 74)}T3BlbkFJ{drawn(random, URL_SAFE, 74)}"


def _discord_hook(random: Random) -> str:
    return (
        f"https://hooks.slack.com/services/T{drawn(random, BASE32, 8)}"
        f"/B{drawn(random, BASE32, 10)}/{drawn(random, ALNUM, 24)}"
    )


def _dynatrace(random: Random) -> str:
    return f"dt0c01.{drawn(random, BASE32, 24)}.{drawn(random, BASE32, 64)}"


def _one_password(random: Random) -> str:
    upper = ascii_uppercase + digits
    parts = [drawn(random, upper, count) for count in (6, 11, 5, 5, 5)]
    return "A3-" + "-".join(parts)


def _pypi(random: Random) -> str:
    return f"pypi-AgEIcHlwaS5vcmc{drawn(random, URL_SAFE, 160)}"


def _azure(random: Random) -> str:
    return f"{drawn(random, ALNUM, 3)}8Q~{drawn(random, URL_SAFE, 34)}"


def _password(random: Random) -> str:
    return drawn(random, ALNUM + "!$%*+", 20)


FORMS: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("1password-secret-key", "OP_SECRET_KEY", _one_password),
    ("age-secret-key", "AGE_KEY", _of("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    ("airtable-api-key", "AIRTABLE_KEY", _of("key", ALNUM, 14)),
    ("alibaba-access-key-id", "ALIBABA_ACCESS_KEY_ID", _of("LTAI", ALNUM, 20)),
    ("anthropic-admin-api-key", "ANTHROPIC_ADMIN", _of("sk-ant-admin01-", URL_SAFE, 93, "AA")),
    ("anthropic-api-key", "ANTHROPIC_API_KEY", _of("sk-ant-api03-", URL_SAFE, 93, "AA")),
    ("atlassian-api-token", "JIRA_API_TOKEN", _of("ATATT3", URL_SAFE + "=", 186)),
    ("aws-access-token", "AWS_ACCESS_KEY_ID", _of("AKIA", BASE32, 16)),
    ("generic-api-key", "AWS_SECRET_ACCESS_KEY", _of("", ALNUM + "+/", 40)),
    ("azure-ad-client-secret", "AZURE_CLIENT_SECRET", _azure),
    ("cloudflare-api-key", "CLOUDFLARE_API_KEY", _of("", URL_SAFE, 40)),
    ("databricks-api-token", "DATABRICKS_TOKEN", _of("dapi", HEX, 32)),
    ("datadog-access-token", "DATADOG_API_KEY", _of("", LOWER, 40)),
    ("digitalocean-pat", "DIGITALOCEAN_TOKEN", _of("dop_v1_", HEX, 64)),
    ("doppler-api-token", "DOPPLER_TOKEN", _of("dp.pt.", ALNUM, 43)),
    ("dynatrace-api-token", "DT_API_TOKEN", _dynatrace),
    ("easypost-api-token", "EASYPOST_KEY", _of("EZAK", ALNUM, 54)),
    ("gcp-api-key", "GOOGLE_API_KEY", _of("AIza", URL_SAFE, 35)),
    ("github-app-token", "GH_APP_TOKEN", _of("ghs_", ALNUM, 36)),
    ("github-fine-grained-pat", "GITHUB_TOKEN", _of("github_pat_", ALNUM + "_", 82)),
    ("github-oauth", "GITHUB_OAUTH", _of("gho_", ALNUM, 36)),
    ("github-pat", "GITHUB_TOKEN", _of("ghp_", ALNUM, 36)),
    ("github-refresh-token", "GITHUB_REFRESH", _of("ghr_", ALNUM, 36)),
    ("gitlab-pat", "GITLAB_TOKEN", _of("glpat-", URL_SAFE, 20)),
    ("grafana-service-account-token", "GRAFANA_TOKEN", _of("glsa_", ALNUM, 32, "_1a2B3c4D")),
    ("heroku-api-key-v2", "HEROKU_API_KEY", _of("HRKU-AA", URL_SAFE, 58)),
    ("huggingface-access-token", "HF_TOKEN", _of("hf_", ascii_letters, 34)),
    ("jwt", "SESSION", _token),
    ("linear-api-key", "LINEAR_API_KEY", _of("lin_api_", ALNUM, 40)),
    ("mailchimp-api-key", "MAILCHIMP_API_KEY", _of("", HEX, 32, "-us12")),
    ("mailgun-private-api-token", "MAILGUN_API_KEY", _of("key-", HEX, 32)),
    ("new-relic-user-api-key", "NEW_RELIC_API_KEY", _of("NRAK-", ascii_uppercase + digits, 27)),
    ("notion-api-token", "NOTION_TOKEN", _of("ntn_12345678901", ALNUM, 35)),
    ("npm-access-token", "NPM_TOKEN", _of("npm_", ALNUM, 36)),
    ("openai-api-key", "OPENAI_API_KEY", _openai),
    ("planetscale-api-token", "PLANETSCALE_TOKEN", _of("pscale_tkn_", URL_SAFE, 43)),
    ("postman-api-token", "POSTMAN_API_KEY", _of("PMAK-", HEX, 24, "-" + "0a1b" * 8 + "cd")),
    ("prefect-api-token", "PREFECT_API_KEY", _of("pnu_", LOWER, 36)),
    ("private-key", "TLS_KEY", _private_key("RSA ")),
    ("private-key", "SSH_KEY", _private_key("OPENSSH ")),
    ("private-key", "EC_KEY", _private_key("")),
    ("pulumi-api-token", "PULUMI_ACCESS_TOKEN", _of("pul-", HEX, 40)),
    ("pypi-upload-token", "TWINE_PASSWORD", _pypi),
    ("readme-api-token", "README_API_KEY", _of("rdme_", LOWER, 70)),
    ("rubygems-api-token", "GEM_HOST_API_KEY", _of("rubygems_", HEX, 48)),
    ("sendgrid-api-token", "SENDGRID_API_KEY", _of("SG.", ALNUM, 22, "." + "aB3_" * 10 + "xyz")),
    ("shopify-access-token", "SHOPIFY_TOKEN", _of("shpat_", HEX, 32)),
    ("slack-bot-token", "SLACK_BOT_TOKEN", _slack_bot),
    ("slack-webhook-url", "SLACK_WEBHOOK", _discord_hook),
    ("sourcegraph-access-token", "SRC_ACCESS_TOKEN", _of("sgp_", HEX, 40)),
    ("square-access-token", "SQUARE_TOKEN", _of("EAAA", URL_SAFE, 60)),
    ("stripe-access-token", "STRIPE_SECRET_KEY", _of("sk_live_", ALNUM, 24)),
    ("telegram-bot-api-token", "TELEGRAM_BOT_TOKEN", _of("5812345678:A", URL_SAFE, 34)),
    ("twilio-api-key", "TWILIO_API_KEY", _of("SK", HEX, 32)),
    ("typeform-api-token", "TYPEFORM_TOKEN", _of("tfp_", LOWER, 59)),
    ("vault-service-token", "VAULT_TOKEN", _of("hvs.", URL_SAFE, 95)),
    ("generic-api-key", "api_key", _of("", ALNUM, 32)),
    ("generic-api-key", "client_secret", _of("", HEX, 64)),
    ("", "password", _password),
)
"""The rule that should find it, the name that it is usually given, and how it is drawn."""

CONTEXTS: tuple[tuple[str, str], ...] = (
    ("environment file", "DEBUG=1\n{name}={value}\nPORT=8080\n"),
    ("shell", 'export {name}="{value}"\n'),
    ("JSON", '{{"{name}": "{value}", "region": "eu-central-1"}}'),
    ("JSON in JSON", '{{"content": "{{\\"{name}\\": \\"{value}\\"}}"}}'),
    ("YAML", "env:\n  {name}: {value}\n  LEVEL: info\n"),
    ("code", 'client = Client(\n    {name}="{value}",\n    timeout=10,\n)\n'),
    ("sentence", "I set {name} to {value}, but the server still answers 401."),
    ("end of a sentence", "Please use this {name} for the tests: {value}."),
    ("Markdown", "The `{name}` is `{value}` for now\n"),
    ("URL", "curl https://api.service.internal/v1/items?{name}={value}&page=2\n"),
)


def secret_samples(seed: int) -> list[Sample]:
    """Every form in every context, and forms that only whole texts have."""
    random = Random(seed)
    samples = []
    for rule, name, make in FORMS:
        for context, template in CONTEXTS:
            value = make(random)
            text = template.format(name=name, value=value)
            start = text.index(value)
            label = f"{name} in: {context}"
            samples.append(Sample(rule, label, text, start, start + len(value)))
    samples += _whole_texts(random)
    return samples


def _whole_texts(random: Random) -> list[Sample]:
    """Texts that are a secret's form as a whole."""
    samples = []
    for _ in range(5):
        word, user = drawn(random, ALNUM, 24), drawn(random, ascii_lowercase, 8)
        encoded = base64.b64encode(word.encode()).decode()
        manifest = (
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ntype: Opaque\n"
            f"data:\n  password: {encoded}\n"
        )
        for rule, label, text, value in (
            ("kubernetes-secret-yaml", "manifest of Kubernetes", manifest, encoded),
            (
                "curl-auth-header",
                "header of curl",
                f"curl -s -H 'Authorization: Bearer {word}' https://api.internal/v1\n",
                word,
            ),
            (
                "curl-auth-user",
                "user of curl",
                f"curl -u {user}:{word} https://api.internal/v1\n",
                f"{user}:{word}",
            ),
            (
                "url-password",
                "password in the address of a database",
                f"DATABASE_URL=postgresql://{user}:{word}@db.internal:5432/app\n",
                word,
            ),
            (
                "authorization-header",
                "header in code",
                f'headers = {{"Authorization": "Bearer {word}9"}}\n',
                f"{word}9",
            ),
            (
                "",
                "password of sshpass",
                f"sshpass -p {word} ssh {user}@build.internal\n",
                word,
            ),
        ):
            start = text.index(value)
            samples.append(Sample(rule, label, text, start, start + len(value)))
    return samples
