"""What each mail provider needs in the DNS of a From domain, and which domains a provider keeps for itself.

Adding a provider is adding a record. Includes and selectors are those of the providers' own set-up pages; where a
provider hands out values per customer, `dkim_source` says where they stand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """What one provider needs.

    Attributes:
        key: of the provider catalogue where it is in there.
        hosts: SMTP hosts, with all names below them.
        spf: names one of which the SPF record has to include; the first one is recommended.
        own_envelope: its mail leaves with an envelope address of the provider, so SPF of the From domain is not asked.
        selectors: where its DKIM keys stand by default.
        cname: what the selectors lead to, with {selector} and {domain}; empty when the customer's value differs.
        cname_ends: ends of names that the selectors may lead to; empty when the keys are TXT records.
        dkim_source: where the provider shows the record to publish, and where signing is switched on.
        dkim_command: PowerShell that shows it, with {domain}.
    """

    key: str
    name: str
    hosts: tuple[str, ...] = ()
    spf: tuple[str, ...] = ()
    own_envelope: bool = False
    selectors: tuple[str, ...] = ()
    cname: str = ""
    cname_ends: tuple[str, ...] = ()
    dkim_source: str = ""
    dkim_command: str = ""

    @property
    def is_microsoft(self) -> bool:
        return self.key.startswith("microsoft365")


_MICROSOFT_COMMAND = (
    "Connect-ExchangeOnline\n"
    "New-DkimSigningConfig -DomainName {domain} -Enabled $false   # only where there is none yet\n"
    "Get-DkimSigningConfig -Identity {domain} | Format-List Selector1CNAME, Selector2CNAME\n"
    "Set-DkimSigningConfig -Identity {domain} -Enabled $true      # after both records are published"
)


def _microsoft(key: str, name: str, hosts: tuple[str, ...], spf: str, portal: str, ends: tuple[str, ...]) -> Need:
    return Need(
        key=key,
        name=name,
        hosts=hosts,
        spf=(spf,),
        selectors=("selector1", "selector2"),
        cname_ends=ends,
        dkim_source=f"{portal} > Email & collaboration > Policies & rules > Threat policies > Email authentication "
        "settings > DKIM",
        dkim_command=_MICROSOFT_COMMAND,
    )


_NEEDS = (
    _microsoft(
        "microsoft365",
        "Microsoft 365",
        ("smtp.office365.com", "smtp-mail.outlook.com", "mail.protection.outlook.com"),
        "spf.protection.outlook.com",
        "security.microsoft.com",
        # The second form is given to domains added since 2025.
        ("onmicrosoft.com", "dkim.mail.microsoft"),
    ),
    _microsoft(
        "microsoft365_us",
        "Microsoft 365 GCC High and DoD",
        ("office365.us",),
        "spf.protection.office365.us",
        "security.microsoft.us",
        ("onmicrosoft.us", "onmicrosoft.com", "dkim.mail.microsoft"),
    ),
    _microsoft(
        "microsoft365_cn",
        "Microsoft 365 operated by 21Vianet",
        ("partner.outlook.cn",),
        "spf.protection.partner.outlook.cn",
        "The Defender portal",
        ("onmschina.cn", "partner.onmschina.cn"),
    ),
    Need(
        key="google",
        name="Google Workspace",
        hosts=("smtp.gmail.com", "smtp-relay.gmail.com"),
        spf=("_spf.google.com",),
        selectors=("google",),
        dkim_source="admin.google.com > Apps > Google Workspace > Gmail > Authenticate email",
    ),
    Need(
        key="fastmail",
        name="Fastmail",
        hosts=("fastmail.com", "messagingengine.com"),
        spf=("spf.messagingengine.com",),
        selectors=("fm1", "fm2", "fm3"),
        cname="{selector}.{domain}.dkim.fmhosted.com",
        cname_ends=("dkim.fmhosted.com",),
        dkim_source="Fastmail > Settings > Domains",
    ),
    Need(
        key="zoho",
        name="Zoho Mail",
        hosts=("zoho.com", "zoho.eu", "zoho.in", "zoho.com.au", "zoho.jp"),
        # One for each of its data centres; the host tells which (`need_for`).
        spf=(
            "zoho.com", "zoho.eu", "zoho.in", "zoho.com.au", "zoho.jp",
            "zohomail.com", "zohomail.eu", "zohomail.in", "zohomail.com.au", "zohomail.jp", "one.zoho.com",
        ),
        selectors=("zmail", "zoho"),
        dkim_source="Zoho Mail Admin Console > Domains > the domain > Email Configuration > DKIM",
    ),
    Need(
        key="yandex",
        name="Yandex 360",
        hosts=("smtp.yandex.com", "smtp.yandex.ru"),
        spf=("_spf.yandex.net",),
        selectors=("mail",),
        dkim_source="admin.yandex.com > Mail > Domains > DKIM",
    ),
    Need(
        key="icloud",
        name="iCloud Mail",
        hosts=("smtp.mail.me.com",),
        spf=("icloud.com",),
        selectors=("sig1",),
        cname="{selector}.dkim.{domain}.at.icloudmailadmin.com",
        cname_ends=("icloudmailadmin.com",),
        dkim_source="icloud.com > Account Settings > Custom Email Domain",
    ),
    Need(
        key="proton",
        name="Proton Mail",
        hosts=("smtp.protonmail.ch",),
        spf=("_spf.protonmail.ch",),
        selectors=("protonmail", "protonmail2", "protonmail3"),
        cname_ends=("domains.proton.ch",),
        dkim_source="Proton > Settings > Domain names > the domain > DKIM",
    ),
    Need(
        key="ses",
        name="Amazon SES",
        hosts=("amazonaws.com",),
        own_envelope=True,
        dkim_source="Amazon SES > Identities > the domain > Authentication",
    ),
    Need(
        key="sendgrid",
        name="SendGrid",
        hosts=("smtp.sendgrid.net",),
        own_envelope=True,
        selectors=("s1", "s2"),
        cname_ends=("sendgrid.net",),
        dkim_source="SendGrid > Settings > Sender Authentication",
    ),
    Need(
        key="postmark",
        name="Postmark",
        hosts=("postmarkapp.com",),
        own_envelope=True,
        dkim_source="Postmark > Sender Signatures > the domain > DNS Settings",
    ),
    Need(
        key="mailgun",
        name="Mailgun",
        hosts=("mailgun.org",),
        spf=("mailgun.org", "eu.mailgun.org"),
        selectors=("pic", "mx", "k1", "smtp", "mailo", "krs"),
        dkim_source="Mailgun > Sending > Domain settings > DNS records",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Owner:
    """Who keeps the DNS of a domain that everybody may have an address in. `key` is that of its Need, or empty."""

    name: str
    key: str
    is_onmicrosoft: bool = False


_COUNTRY = r"(?:com?\.)?[a-z]{2,3}"
_OWNERS = (
    (r"gmail\.com|googlemail\.com", Owner("Google", "google")),
    (rf"(?:outlook|hotmail|live)\.{_COUNTRY}|msn\.com|passport\.com", Owner("Microsoft", "microsoft365")),
    (rf"(?:yahoo|ymail|rocketmail|myyahoo)\.{_COUNTRY}", Owner("Yahoo", "yahoo")),
    (r"aol\.com|aim\.com", Owner("AOL", "aol")),
    (r"icloud\.com|me\.com|mac\.com", Owner("Apple", "icloud")),
    (r"fastmail\.(?:com|fm)", Owner("Fastmail", "fastmail")),
    (r"yandex\.(?:com|ru|by|kz|ua)|ya\.ru", Owner("Yandex", "yandex")),
    (r"mail\.ru|bk\.ru|inbox\.ru|list\.ru|internet\.ru", Owner("Mail.ru", "mailru")),
    (r"proton\.me|protonmail\.(?:com|ch)|pm\.me", Owner("Proton", "proton")),
    (r"zohomail\.com", Owner("Zoho", "zoho")),
    (rf"gmx\.{_COUNTRY}|web\.de", Owner("GMX", "gmx")),
    (r"seznam\.cz|email\.cz", Owner("Seznam", "seznam")),
    (r"comcast\.net", Owner("Comcast", "comcast")),
    (r"att\.net|verizon\.net", Owner("the carrier", "")),
    (
        r"(?:[a-z0-9_-]+\.)+(?:onmicrosoft\.(?:com|us)|onmschina\.cn)",
        Owner("Microsoft", "microsoft365", is_onmicrosoft=True),
    ),
)


def need_for(provider: str, smtp_host: str) -> Need | None:
    """Return what the sending provider needs: by the SMTP host, which is what sends; without one, by its key."""
    host = smtp_host.lower().rstrip(".")
    if not host:
        return next((need for need in _NEEDS if need.key == provider), None)
    for need in _NEEDS:
        end = next((end for end in need.hosts if host == end or host.endswith(f".{end}")), None)
        if end is None:
            continue
        if need.key == "zoho":
            return _of_data_centre(need, end)
        return need
    return None


def owner_of(name: str) -> Owner | None:
    """Return who keeps a domain that belongs to a provider, None for a domain of somebody's own."""
    return next((owner for pattern, owner in _OWNERS if re.fullmatch(pattern, name)), None)


def _of_data_centre(need: Need, end: str) -> Need:
    others = tuple(name for name in need.spf if name != end)
    return Need(
        key=need.key, name=need.name, hosts=need.hosts, spf=(end, *others), selectors=need.selectors,
        dkim_source=need.dkim_source,
    )  # fmt: skip
