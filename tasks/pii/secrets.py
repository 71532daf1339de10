"""Keys and tokens by the formats that their issuers publish, and private keys in PEM.

Each begins a run of at least fifteen letters, digits, ``_`` and ``-``, or follows a short
prefix of its own before such a run; so they are looked for at the starts of such runs only.
Left alone on purpose: passwords and keys without a format, which only a guess would find.
"""

from __future__ import annotations

import re

from tasks.pii.kinds import Form

# Name, where its format is published, and the format.
FORMATS: tuple[tuple[str, str, str], ...] = (
    ("AWS access key", "IAM user guide, unique identifiers", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    ("Alibaba Cloud access key", "RAM documentation, AccessKey pair", r"LTAI[0-9A-Za-z]{12,20}"),
    ("Tencent Cloud secret id", "CAM documentation, access keys", r"AKID[0-9A-Za-z]{32}"),
    ("GitHub token", "GitHub docs, token formats", r"gh[pousr]_[0-9A-Za-z]{36,251}"),
    ("GitHub fine-grained token", "GitHub docs, token formats", r"github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}"),
    (
        "GitLab token",
        "GitLab docs, token prefixes",
        r"(?:glpat|gldt|glrt|glptt|glft|glsoat|glimt|glagent|glcbt)-[0-9A-Za-z_\-]{20,300}"
        r"(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?",
    ),
    ("Slack token", "Slack API docs, token types", r"xox[abeoprs]-[0-9A-Za-z\-]{10,250}"),
    ("Slack app token", "Slack API docs, token types", r"xapp-[0-9]-[0-9A-Za-z\-]{20,250}"),
    ("Google API key", "Google Cloud docs, API keys", r"AIza[0-9A-Za-z_\-]{35}"),
    ("Google OAuth secret", "Google Cloud docs, OAuth clients", r"GOCSPX-[0-9A-Za-z_\-]{28}"),
    ("Stripe key", "Stripe docs, API keys", r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,247}"),
    ("Stripe webhook secret", "Stripe docs, webhooks", r"whsec_[0-9A-Za-z]{32,64}"),
    ("Anthropic key", "Anthropic docs, API keys", r"sk-ant-[a-z0-9]{2,12}-[0-9A-Za-z_\-]{32,200}"),
    ("OpenRouter key", "OpenRouter docs, authentication", r"sk-or-v1-[0-9a-f]{64}"),
    ("OpenAI key", "OpenAI docs, API keys", r"sk-(?:(?:proj|svcacct|admin)-)?[0-9A-Za-z_\-]{20,250}"),
    ("Hugging Face token", "Hugging Face docs, access tokens", r"(?:hf|api_org)_[A-Za-z]{34}"),
    ("npm token", "GitHub blog, npm's token format", r"npm_[0-9A-Za-z]{36}"),
    ("PyPI token", "PyPI help, API tokens", r"pypi-AgE(?:IcHlwaS5vcmc|NdGVzdC5weXBpLm9yZw)[0-9A-Za-z_\-]{50,1000}"),
    ("Docker Hub token", "Docker docs, access tokens", r"dckr_(?:pat|oat)_[0-9A-Za-z_\-]{27,32}"),
    ("DigitalOcean token", "DigitalOcean API reference", r"do[opr]_v1_[0-9a-f]{64}"),
    ("Shopify token", "Shopify docs, access tokens", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("Databricks token", "Databricks docs, personal tokens", r"dapi[0-9a-f]{32}(?:-[0-9])?"),
    ("HashiCorp Vault token", "Vault docs, tokens", r"hv[bs]\.[0-9A-Za-z_\-]{90,300}"),
    ("Grafana token", "Grafana docs, service accounts", r"glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}"),
    ("Linear key", "Linear docs, API keys", r"lin_api_[0-9A-Za-z]{40}"),
    ("Postman key", "Postman docs, API keys", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    ("New Relic key", "New Relic docs, API keys", r"NRAK-[0-9A-Z]{27}"),
    ("age secret key", "age specification", r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}"),
    ("Twilio key", "Twilio docs, API keys", r"SK[0-9a-f]{32}"),
    ("SendGrid key", "SendGrid docs, API keys", r"SG\.[0-9A-Za-z_\-]{22}\.[0-9A-Za-z_\-]{43}"),
    ("Telegram bot token", "Telegram Bot API, authorisation", r"(?:bot)?[0-9]{8,10}:AA[0-9A-Za-z_\-]{33}"),
    (
        "JSON web token",
        "RFC 7519, in the compact form of RFC 7515",
        r"eyJ[0-9A-Za-z_\-]{12,4000}\.eyJ[0-9A-Za-z_\-]{10,8000}\.[0-9A-Za-z_\-]{10,2000}",
    ),
)

SHORT_PREFIXES = (b"SG.", b"hvs.", b"hvb.")
"""What stands before the first long run of some forms; a bot's number and colon are the other such."""

_ANY_FORMAT = "|".join(f"(?:{pattern})" for _, _, pattern in FORMATS)


def _is_drawn(match: re.Match[bytes]) -> bool:
    """Not a placeholder (``AKIAXXXXXXXXXXXXXXXX``) nor words (``sk-estimator-html-documentation``)."""
    text = match[0]
    if text.startswith(b"sk-") and not (re.search(rb"[0-9]", text) and re.search(rb"[A-Z]|ant-|or-", text)):
        return False
    if text.startswith((b"xox", b"gl")) and not re.search(rb"[0-9]", text):
        return False
    return len(set(text[4:])) >= 8


KEY_FORM = Form(
    "api_key", re.compile(rb"(?<![0-9A-Za-z_\-])(?:" + _ANY_FORMAT.encode() + rb")(?![0-9A-Za-z_\-])"), _is_drawn
)

SECRET_NAME_FORM = Form(
    "api_key",
    # AWS's secret access key has no prefix: 40 characters after its name (IAM user guide, managing access keys).
    re.compile(
        rb"(?<![0-9A-Za-z_\-])(?:(?:aws|AWS|Aws)_?(?i:sec)|sec|SEC|Sec)(?i:ret_?access_?key)"
        rb"[\"']?(?: {0,3}(?:=>|[:=]) {0,3}|>)[\"']?"
        rb"(?P<it>[0-9A-Za-z/+]{40})(?![0-9A-Za-z/+=])"
    ),
    lambda match: len(set(match["it"])) >= 12,
)

_LINES = (
    rb"(?:(?:[\r\n\t ]|\\[nr]){0,8}+[0-9A-Za-z+/=]{24,1000}+){1,1000}+(?:\r?\n[0-9A-Za-z+/=]{1,76}(?=[\r\n\xff]|\Z))?"
)
PEM_FORM = Form(
    # RFC 7468; RFC 9580, section 6.2 (PGP); OpenSSH's PROTOCOL.key.
    "private_key",
    re.compile(
        rb"-----BEGIN (?P<label>[0-9A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?)-----"
        rb"(?:(?:[^\-\xff]|-(?!----)){40,50000}+-----END (?P=label)-----|" + _LINES + rb")"
    ),
    lambda match: re.search(rb"[0-9A-Za-z+/]{24}", match[0][len(match["label"]) + 16 :]) is not None,
)


def starts_of_key(data: bytes, run: int) -> list[int]:
    """Where a form may begin whose first long run of token characters begins at ``run``."""
    starts = [run]
    starts += [run - len(prefix) for prefix in SHORT_PREFIXES if data.endswith(prefix, 0, run)]
    if data[run - 1 : run] == b":" and data.startswith(b"AA", run):
        number = _NUMBER_BEFORE.search(data, max(0, run - 14), run)
        if number:
            starts.append(number.start())
    return starts


_NUMBER_BEFORE = re.compile(rb"(?:bot)?[0-9]{8,10}:\Z")


FIRST_LETTERS = (
    "AKI ASI ABI ACC LTA ghp gho ghu ghs ghr git glp gld glr glf gls gli gla glc xox xap AIz GOC sk_ sk- rk_ whs hf_ "
    "api npm pyp dck doo dop dor shp dap PMA NRA lin AGE SK* eyJ aws AWS Aws sec SEC Sec AA*"
)
"""The first three bytes of every run that a form here may begin with, or that follows a bot's number; * is any."""
