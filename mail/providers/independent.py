"""Google, and the providers beside the two big ones that take OAuth for SMTP. Source: providers.md 1, 5, 8, 9, 10.

Which SASL mechanism Fastmail, Seznam and Comcast take is unverified, so for Fastmail both are tried in the order of
what the server offers. Where rotation is unknown, `rotates` stays on: a new refresh token is kept whenever one comes.
"""

from __future__ import annotations

from mail.providers.records import PKCE, Provider, RedirectRule, SetupStep

_CONNECT = SetupStep("Press Connect here and sign in as the sending mailbox.")

GOOGLE = Provider(
    key="google",
    name="Google Workspace / Gmail",
    short_name="Google",
    icon="google",
    is_common=True,
    smtp_host="smtp.gmail.com",
    smtp_port=587,
    authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106  an address, no secret
    revocation_url="https://oauth2.googleapis.com/revoke",
    scope="https://mail.google.com/ openid email",
    authorize_params=(("access_type", "offline"), ("prompt", "consent")),
    pkce=PKCE.SUPPORTED,
    rotates=False,
    reuse_is_harmless=True,
    issuer="https://accounts.google.com",
    iss_required=True,
    # Of a Workspace mailbox. Smaller limits (2,000 messages, trials, consumer accounts) depend on what nobody tells us;
    # they announce themselves by 5.4.5, and the mailbox is left alone for a while then.
    recipients_per_day=10_000,
    recipients_per_message=100,
    access_token_minutes=60,
    refresh_idle_days=180,  # "six months"; an app in testing ends after 7 days, used or not
    redirects=RedirectRule(allows_private=False),
    setup_steps=(
        SetupStep("Open console.cloud.google.com and create or choose a project inside your organization."),
        SetupStep("Under Google Auth Platform > Branding enter an app name and a support address."),
        SetupStep(
            "Under Audience choose Internal (Workspace). Otherwise choose External and publish the app: grants of an "
            "app in testing end after 7 days."
        ),
        SetupStep("Under Data access add this scope.", ("https://mail.google.com/",)),
        SetupStep(
            "Under Clients create a client of type Web application with exactly this authorized redirect URI.",
            ("{redirect_uri}",),
        ),
        SetupStep("Copy client ID and client secret into this page at once; the secret is shown only then."),
        SetupStep(
            "Where third-party access is restricted, a Workspace administrator opens admin.google.com > Security > "
            "Access and data control > API controls and marks the client ID as Trusted.",
            ("{client_id}",),
        ),
        SetupStep("Press Connect here, sign in as the sending account and leave the mail permission ticked."),
    ),
)

FASTMAIL = Provider(
    key="fastmail",
    name="Fastmail",
    short_name="Fastmail",
    icon="server",
    smtp_host="smtp.fastmail.com",
    smtp_port=465,
    authorization_url="https://api.fastmail.com/oauth/authorize",
    # The code is redeemed there as well.
    token_url="https://api.fastmail.com/oauth/refresh",  # noqa: S106  an address, no secret
    scope="https://www.fastmail.com/dev/protocol-smtp",
    public_client=True,
    pkce=PKCE.REQUIRED,
    issuer="https://api.fastmail.com",
    redirects=RedirectRule(localhost_http=False, allows_private=False),
    setup_steps=(
        SetupStep(
            "Fastmail registers clients by hand: write to them with name, logo, addresses of the app, and this "
            "redirect URI. It has to be https on a domain of yours.",
            ("{redirect_uri}", "{scope}"),
        ),
        SetupStep("Copy the client ID they give you into Client Id. The app is public: there is no client secret."),
        SetupStep("Press Connect here and sign in with the full address of the account."),
        SetupStep("Without a registration, use the SMTP tab with an app password instead."),
    ),
)

YANDEX = Provider(
    key="yandex",
    name="Yandex",
    short_name="Yandex",
    icon="server",
    smtp_host="smtp.yandex.com",
    smtp_port=465,
    authorization_url="https://oauth.yandex.com/authorize",
    token_url="https://oauth.yandex.com/token",  # noqa: S106  an address, no secret
    scope="mail:smtp",
    mechanisms=("XOAUTH2",),
    # Its access tokens live for months and may come back unchanged from a refresh, while the refresh token is new each
    # time and lives as long; it has to be used about every three months.
    refresh_idle_days=90,
    setup_steps=(
        SetupStep(
            "Open oauth.yandex.ru, create an app of type Web service, and enter exactly this address as redirect URI.",
            ("{redirect_uri}",),
        ),
        SetupStep("Give it the access “Send mail via SMTP”.", ("mail:smtp",)),
        SetupStep("Copy its ID and secret into Client Id and Client Secret."),
        SetupStep("In Yandex 360, allow mail clients for the mailbox."),
        SetupStep("Press Connect here and sign in with the full address of the mailbox."),
    ),
)

MAILRU = Provider(
    key="mailru",
    name="Mail.ru",
    short_name="Mail.ru",
    icon="server",
    smtp_host="smtp.mail.ru",
    smtp_port=465,
    authorization_url="https://o2.mail.ru/login",
    token_url="https://o2.mail.ru/token",  # noqa: S106  an address, no secret
    # There is none for SMTP alone, and the two have to be asked for together.
    scope="userinfo mail.imap",
    mechanisms=("XOAUTH2",),
    setup_steps=(
        SetupStep(
            "Register an app for mail at Mail.ru, with exactly this address as redirect URI, and these permissions.",
            ("{redirect_uri}", "userinfo mail.imap"),
        ),
        SetupStep("Copy its ID and secret into Client Id and Client Secret."),
        _CONNECT,
    ),
)

SEZNAM = Provider(
    key="seznam",
    name="Seznam.cz",
    short_name="Seznam",
    icon="server",
    smtp_host="smtp.seznam.cz",
    smtp_port=465,
    authorization_url="https://login.seznam.cz/api/v1/oauth/auth",
    token_url="https://login.seznam.cz/api/v1/oauth/token",  # noqa: S106  an address, no secret
    scope="identity email",
    mechanisms=("XOAUTH2",),  # unverified
    pkce=PKCE.SUPPORTED,
    setup_steps=(
        SetupStep(
            "Ask Seznam to register an app for you, with exactly this address as redirect URI. Whether everybody can "
            "register one is not known to us; without a registration, use the SMTP tab.",
            ("{redirect_uri}", "{scope}"),
        ),
        SetupStep(
            "Copy its ID and secret into Client Id and Client Secret. Use an app of your own, never another’s ID."
        ),
        _CONNECT,
    ),
)

COMCAST = Provider(
    key="comcast",
    name="Comcast / Xfinity",
    short_name="Comcast",
    icon="server",
    smtp_host="smtp.comcast.net",
    smtp_port=587,
    authorization_url="https://oauth.xfinity.com/oauth/authorize",
    token_url="https://oauth.xfinity.com/oauth/token",  # noqa: S106  an address, no secret
    scope="https://email.comcast.net/ profile openid",
    mechanisms=("XOAUTH2",),  # unverified
    pkce=PKCE.SUPPORTED,
    setup_steps=(
        SetupStep(
            "Ask Comcast to register an app for you, with exactly this address as redirect URI. Whether everybody can "
            "register one is not known to us; without a registration, use the SMTP tab.",
            ("{redirect_uri}", "{scope}"),
        ),
        SetupStep(
            "Copy its ID and secret into Client Id and Client Secret. Use an app of your own, never another’s ID."
        ),
        _CONNECT,
    ),
)

OTHER = Provider(
    key="other",
    name="Other provider",
    short_name="The provider",
    icon="server",
    is_common=True,
    # Keycloak and its like can end a whole grant when a replaced token comes back, so that is assumed of everybody.
    setup_steps=(
        SetupStep(
            "Register Storepost as a web application (confidential client) at the provider, with exactly this address "
            "as redirect URI. Thundermail and mail servers beside Keycloak or Stalwart work this way.",
            ("{redirect_uri}",),
        ),
        SetupStep("Copy client ID and client secret into this page."),
        SetupStep(
            "Enter the address of the sign-in server as Issuer and press Look up: it fills in both URLs and what the "
            "server promises. Where there is none, enter Authorization URL and Access Token URL by hand."
        ),
        SetupStep(
            "Enter the provider’s SMTP server and port, and the scope for sending by SMTP. Add offline_access where "
            "the provider knows it.",
            ("openid email offline_access",),
        ),
        _CONNECT,
    ),
)


def sandbox_provider(
    authorization_url: str, token_url: str, revocation_url: str, smtp_host: str, smtp_port: int, issuer: str
) -> Provider:
    """Return the provider record of a sandbox that listens at these addresses."""
    return Provider(
        key="sandbox",
        name="Sandbox",
        short_name="The sandbox",
        icon="flask-conical",
        is_common=True,
        smtp_host=smtp_host,
        smtp_port=smtp_port,
        authorization_url=authorization_url,
        token_url=token_url,
        revocation_url=revocation_url,
        scope="smtp.send offline_access",
        pkce=PKCE.REQUIRED,
        public_client=True,
        client_id="storepost-sandbox-public",
        issuer=issuer,
        iss_required=bool(issuer),
        app_only_scope="smtp.send",
        setup_steps=(
            SetupStep(
                "Press Connect: the sandbox knows this Client Id, which needs no secret. It runs on this machine and "
                "mails nobody."
            ),
            SetupStep(
                "For client_credentials, enter this Client Id with this Client Secret.",
                ("storepost-sandbox", "sandbox-secret"),
            ),
        ),
    )
