from urllib.parse import urlsplit

import pytest

from mail.errors import Family
from mail.providers import (
    CHINA,
    DOD,
    FASTMAIL,
    GCC_HIGH,
    GOOGLE,
    MICROSOFT365,
    OTHER,
    OUTLOOK,
    PASSWORD_PROVIDERS,
    PKCE,
    Catalogue,
    Provider,
    catalogue,
    is_pair,
    rewrite_tenant,
    sandbox_provider,
    scopes_missing,
    tenant_in,
    tenant_is_valid,
    urls_for,
)
from mail.signatures import match

GUID = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
AUTHORIZE = "https://login.microsoftonline.com/common/oauth2/v2.0/authorize"
TOKEN = "https://login.microsoftonline.com/common/oauth2/v2.0/token"


@pytest.fixture
def sandbox() -> Provider:
    return sandbox_provider(
        "http://127.0.0.1:8026/authorize",
        "https://localhost:8027/token",
        "https://localhost:8027/revoke",
        "localhost",
        8587,
        "https://localhost:8027",
    )


def test_the_catalogue_offers_the_sandbox_only_where_one_runs(sandbox: Provider) -> None:
    assert [one.key for one in catalogue().common()] == ["microsoft365", "google", "other"]
    assert [one.key for one in catalogue(sandbox).common()] == ["microsoft365", "google", "other", "sandbox"]
    assert catalogue().get("sandbox") is None
    assert catalogue(sandbox).get("sandbox") is sandbox


def test_an_unknown_key_has_no_provider() -> None:
    assert catalogue().get("nobody") is None
    assert Catalogue(()).choices() == ()


PRESETS = [one for one in catalogue().choices() if one is not OTHER]


@pytest.mark.parametrize("provider", PRESETS, ids=lambda one: one.key)
def test_a_preset_is_complete(provider: Provider) -> None:
    assert provider.smtp_host
    assert provider.smtp_port in (465, 587)
    assert provider.scope.split()
    assert set(provider.mechanisms) <= {"XOAUTH2", "OAUTHBEARER"}
    assert any("{redirect_uri}" in step.copies for step in provider.setup_steps)
    assert any("Press Connect here" in step.words for step in provider.setup_steps)
    for url in urls_for(provider, ""):
        assert urlsplit(url).scheme == "https"
        assert "{" not in url


def test_a_preset_has_what_its_provider_documents() -> None:
    assert MICROSOFT365.messages_per_minute == 30
    assert MICROSOFT365.max_connections == 3
    assert "offline_access" in MICROSOFT365.scope.split()
    assert ("access_type", "offline") in GOOGLE.authorize_params
    assert ("prompt", "consent") in GOOGLE.authorize_params
    assert GOOGLE.iss_required
    assert GOOGLE.issuer == "https://accounts.google.com"
    assert not GOOGLE.rotates


# Matrix of providers.md 1: host, port, authorization and token endpoint, a scope.
MATRIX = {
    "microsoft365": (
        *("smtp.office365.com", 587, "https://login.microsoftonline.com/common/oauth2/v2.0/authorize"),
        *("https://login.microsoftonline.com/common/oauth2/v2.0/token", "https://outlook.office.com/SMTP.Send"),
    ),
    "microsoft365_gcc_high": (
        *("smtp.office365.us", 587, "https://login.microsoftonline.us/common/oauth2/v2.0/authorize"),
        *("https://login.microsoftonline.us/common/oauth2/v2.0/token", "https://outlook.office365.us/SMTP.Send"),
    ),
    "microsoft365_dod": (
        *("outlook-dod.office365.us", 587, "https://login.microsoftonline.us/common/oauth2/v2.0/authorize"),
        *("https://login.microsoftonline.us/common/oauth2/v2.0/token", "https://outlook-dod.office365.us/SMTP.Send"),
    ),
    "microsoft365_china": (
        *("smtp.partner.outlook.cn", 587, "https://login.partner.microsoftonline.cn/common/oauth2/v2.0/authorize"),
        *("https://login.partner.microsoftonline.cn/common/oauth2/v2.0/token", "https://partner.outlook.cn/SMTP.Send"),
    ),
    "outlook": (
        *("smtp-mail.outlook.com", 587, "https://login.microsoftonline.com/consumers/oauth2/v2.0/authorize"),
        *("https://login.microsoftonline.com/consumers/oauth2/v2.0/token", "https://outlook.office.com/SMTP.Send"),
    ),
    "google": (
        *("smtp.gmail.com", 587, "https://accounts.google.com/o/oauth2/v2/auth"),
        *("https://oauth2.googleapis.com/token", "https://mail.google.com/"),
    ),
    "fastmail": (
        *("smtp.fastmail.com", 465, "https://api.fastmail.com/oauth/authorize"),
        *("https://api.fastmail.com/oauth/refresh", "https://www.fastmail.com/dev/protocol-smtp"),
    ),
    "yandex": (
        *("smtp.yandex.com", 465, "https://oauth.yandex.com/authorize"),
        *("https://oauth.yandex.com/token", "mail:smtp"),
    ),
    "mailru": ("smtp.mail.ru", 465, "https://o2.mail.ru/login", "https://o2.mail.ru/token", "mail.imap"),
    "seznam": (
        *("smtp.seznam.cz", 465, "https://login.seznam.cz/api/v1/oauth/auth"),
        *("https://login.seznam.cz/api/v1/oauth/token", "identity"),
    ),
    "comcast": (
        *("smtp.comcast.net", 587, "https://oauth.xfinity.com/oauth/authorize"),
        *("https://oauth.xfinity.com/oauth/token", "https://email.comcast.net/"),
    ),
}


def test_every_provider_with_oauth_over_smtp_is_there_as_documented() -> None:
    found = {}
    for one in PRESETS:
        found[one.key] = (one.smtp_host, one.smtp_port, *urls_for(one), one.scope.split())
    assert set(found) == set(MATRIX)
    for key, (*facts, scope) in MATRIX.items():
        assert list(found[key][:-1]) == facts, key
        assert scope in found[key][-1], key


def test_the_endpoints_of_every_preset_are_a_pair_and_of_no_other() -> None:
    for one in PRESETS:
        assert is_pair(*urls_for(one), one)
    assert not is_pair(GOOGLE.authorization_url, FASTMAIL.token_url, FASTMAIL)


def test_what_differs_between_providers_is_known() -> None:
    assert [one.key for one in PRESETS if one.public_client] == ["fastmail"]
    assert [one.key for one in PRESETS if one.pkce is PKCE.REQUIRED] == ["fastmail"]
    assert [one.key for one in PRESETS if not one.rotates] == ["google"]
    assert FASTMAIL.issuer == "https://api.fastmail.com"
    assert MICROSOFT365.refresh_idle_days == 90
    assert MICROSOFT365.secret_max_age_days == 730
    assert (MICROSOFT365.recipients_per_message, GOOGLE.recipients_per_message) == (500, 100)
    # Personal accounts have no app-only access; a reused token loses nothing at Microsoft and Google only.
    assert OUTLOOK.app_only_scope == ""
    assert {one.key for one in PRESETS if one.reuse_is_harmless} == {
        "google",
        "outlook",
        *(one.key for one in PRESETS if one.key.startswith("microsoft365")),
    }
    for cloud in (GCC_HIGH, DOD, CHINA):
        assert cloud.fallback_scope.split() == [cloud.app_only_scope, "offline_access"]


def test_the_words_about_errors_know_the_clouds_by_their_keys() -> None:
    for cloud in (GCC_HIGH, DOD, CHINA, OUTLOOK):
        row = match("AADSTS700082: expired", provider=cloud.key, family=Family.TOKEN)
        assert row is not None
        assert row.provider == "microsoft"


def test_those_without_oauth_lead_to_the_smtp_tab_and_are_no_presets() -> None:
    keys = {one.key for one in PASSWORD_PROVIDERS}
    assert keys >= {"yahoo", "aol", "zoho", "icloud", "ses", "sendgrid", "mailgun", "postmark", "azure"}
    assert not keys & {one.key for one in catalogue().choices()}
    assert catalogue().by_password("nobody") is None
    yahoo = catalogue().by_password("yahoo")
    assert yahoo is not None
    assert (yahoo.smtp_host, yahoo.smtp_port) == ("smtp.mail.yahoo.com", 465)
    for one in PASSWORD_PROVIDERS:
        assert one.reason.endswith(".")
        assert one.credentials.endswith(".")


def test_it_names_the_hosts_a_person_is_sent_to(sandbox: Provider) -> None:
    assert (MICROSOFT365.login_host, MICROSOFT365.token_host) == ("login.microsoftonline.com",) * 2
    assert (GOOGLE.login_host, GOOGLE.token_host) == ("accounts.google.com", "oauth2.googleapis.com")
    assert (sandbox.login_host, sandbox.token_host) == ("127.0.0.1", "localhost")
    assert (OTHER.login_host, OTHER.token_host) == ("", "")


@pytest.mark.parametrize(
    ("tenant", "segment"),
    [
        ("", "common"),
        ("consumers", "consumers"),
        (GUID, GUID),
        ("acme.example", "acme.example"),
        ("a/../b", "a%2F..%2Fb"),
    ],
)
def test_the_urls_of_a_preset_carry_the_tenant(tenant: str, segment: str) -> None:
    base = f"https://login.microsoftonline.com/{segment}/oauth2/v2.0"

    assert urls_for(MICROSOFT365, tenant) == (f"{base}/authorize", f"{base}/token")


def test_a_provider_without_tenants_keeps_its_urls(sandbox: Provider) -> None:
    assert urls_for(GOOGLE, GUID) == (GOOGLE.authorization_url, GOOGLE.token_url)
    assert urls_for(sandbox) == (sandbox.authorization_url, sandbox.token_url)
    assert urls_for(OTHER, "x") == ("", "")


@pytest.mark.parametrize(
    ("url", "tenant", "expected"),
    [
        (TOKEN, GUID, TOKEN.replace("common", GUID)),
        (AUTHORIZE, GUID, AUTHORIZE.replace("common", GUID)),
        (TOKEN.replace("common", GUID), "", TOKEN),
        (TOKEN.replace("common", "acme.example"), "organizations", TOKEN.replace("common", "organizations")),
        (TOKEN.replace("https://login.", "HTTPS://Login."), GUID, TOKEN.replace("common", GUID)),
        # Edited by hand: another path, host, port or cloud, more segments, a query, the old endpoint.
        (TOKEN + "/", GUID, None),
        (TOKEN + "?x=1", GUID, None),
        (TOKEN + "\n", GUID, None),
        (TOKEN.replace("v2.0/", ""), GUID, None),
        (TOKEN.replace("common", "a/b"), GUID, None),
        (TOKEN.replace("/common", "/"), GUID, None),
        (TOKEN.replace(".com/", ".us/"), GUID, None),
        (TOKEN.replace(".com/", ".com:8443/"), GUID, None),
        (TOKEN.replace("https", "http"), GUID, None),
        (TOKEN.replace("login.microsoftonline.com", "loginXmicrosoftonline.com"), GUID, None),
        (TOKEN.replace("/token", "/TOKEN"), GUID, None),
        ("https://evil.example/?" + TOKEN, GUID, None),
        ("", GUID, None),
        ("not a url", GUID, None),
    ],
)
def test_the_tenant_is_rewritten_in_urls_of_the_presets_shape_only(url: str, tenant: str, expected: str | None) -> None:
    assert rewrite_tenant(url, MICROSOFT365, tenant) == expected


def test_there_is_no_tenant_to_rewrite_without_tenants(sandbox: Provider) -> None:
    for provider in (GOOGLE, OTHER, sandbox):
        assert rewrite_tenant(provider.token_url, provider, GUID) is None
        assert tenant_in(provider.token_url, provider) is None


@pytest.mark.parametrize(
    ("url", "tenant"),
    [
        (TOKEN, "common"),
        (AUTHORIZE.replace("common", GUID), GUID),
        (TOKEN + "/", None),
        ("", None),
        ("https://[", None),
    ],
)
def test_it_reads_the_tenant_of_a_url(url: str, tenant: str | None) -> None:
    assert tenant_in(url, MICROSOFT365) == tenant


def test_endpoints_of_the_preset_are_a_pair(sandbox: Provider) -> None:
    assert is_pair(AUTHORIZE, TOKEN, MICROSOFT365)
    assert is_pair(*urls_for(MICROSOFT365, GUID), MICROSOFT365)
    assert is_pair(GOOGLE.authorization_url, GOOGLE.token_url, GOOGLE)
    assert is_pair(sandbox.authorization_url, sandbox.token_url, sandbox)


@pytest.mark.parametrize(
    ("authorization_url", "token_url", "provider", "paired"),
    [
        ("https://id.example/authorize", "https://id.example/token", OTHER, True),
        ("https://ID.example./authorize", "https://id.example:8443/token", OTHER, True),
        ("https://id.example/authorize", "https://evil.example/token", OTHER, False),
        ("https://id.example/authorize", "https://id.example@evil.example/token", OTHER, False),
        ("https://id.example/authorize", "https://sub.id.example/token", OTHER, False),
        (GOOGLE.authorization_url, "https://evil.example/token", GOOGLE, False),
        (GOOGLE.authorization_url, GOOGLE.token_url, OTHER, False),
        (GOOGLE.authorization_url, TOKEN, MICROSOFT365, False),
        (TOKEN, AUTHORIZE, GOOGLE, True),
        ("", "", OTHER, False),
        ("https://[", "https://[", OTHER, False),
        ("/authorize", "/token", OTHER, False),
    ],
)
def test_endpoints_of_different_hosts_are_no_pair(
    authorization_url: str, token_url: str, provider: Provider, paired: bool
) -> None:
    assert is_pair(authorization_url, token_url, provider) is paired


MS_SMTP = "https://outlook.office.com/SMTP.Send"
GMAIL = "https://mail.google.com/"


@pytest.mark.parametrize(
    ("requested", "granted", "missing"),
    [
        # The normal answers of both big providers are not equal to the request, and lack nothing.
        (MICROSOFT365.scope, MS_SMTP, ()),
        (GOOGLE.scope, f"https://www.googleapis.com/auth/userinfo.email openid {GMAIL}", ()),
        # The mail box was unticked.
        (GOOGLE.scope, "https://www.googleapis.com/auth/userinfo.email openid", (GMAIL,)),
        (f"{GMAIL} openid https://www.googleapis.com/auth/userinfo.email", GMAIL, ()),
        # A bare scope is one of Graph, not of Exchange.
        (MICROSOFT365.scope, "SMTP.Send", (MS_SMTP,)),
        (MICROSOFT365.scope, "https://outlook.office365.com/smtp.send", ()),
        ("https://outlook.office365.com/.default", MS_SMTP, ()),
        ("https://outlook.office365.com/.default", "https://graph.microsoft.com/Mail.Send", None),
        # An absent scope means as requested.
        (MICROSOFT365.scope, "", ()),
        (MICROSOFT365.scope, None, ()),
        ("b a b c", ["c"], ("b", "a")),
        ("", "x", ()),
    ],
)
def test_it_tells_which_scopes_are_missing(
    requested: str, granted: str | list[str] | None, missing: tuple[str, ...] | None
) -> None:
    expected = (requested,) if missing is None else missing

    assert scopes_missing(requested, granted) == expected


@pytest.mark.parametrize(
    "tenant",
    [
        "common",
        "organizations",
        "consumers",
        GUID,
        GUID.upper(),
        "acme.example",
        "acme.onmicrosoft.com",
        "a-b.c1.example",
        "xn--bcher-kva.example",
    ],
)
def test_a_tenant_is_a_guid_a_domain_or_a_known_word(tenant: str) -> None:
    assert tenant_is_valid(tenant)


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        " ",
        "Common",
        "common ",
        "everybody",
        "{" + GUID + "}",
        GUID[:-1],
        GUID + "0",
        GUID.replace("-", ""),
        "acme",
        ".example",
        "acme..example",
        "-acme.example",
        "acme-.example",
        "acme.example/",
        "a/b.example",
        "acme.1",
        "acme.example\n",
        "bücher.example",
        "192.0.2.1",
        "a" * 64 + ".example",
        "a." * 130 + "example",
        "acme .example",
    ],
)
def test_anything_else_is_no_tenant(tenant: str) -> None:
    assert not tenant_is_valid(tenant)
