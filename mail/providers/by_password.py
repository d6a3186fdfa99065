"""Providers whose SMTP server takes no OAuth from a shop's own app. Source: providers.md 1, 6, 7, 8, 10.

They are listed so that whoever looks for them finds the way that works: the SMTP tab. Hosts stand here where
providers.md names them; the others are shown by the provider itself.
"""

from __future__ import annotations

from mail.providers.records import PasswordProvider

_NO_OAUTH = "It offers no OAuth over SMTP."
_APP_PASSWORD = "Enter the full address as Username and an app password as Password."  # noqa: S105  words, no secret
# Yahoo's own documentation of limits is unverified, so no numbers are given.
_NO_NEW_CLIENTS = "Yahoo accepts no new OAuth apps for mail."
_ITS_OWN = "Enter the SMTP server, user name and password that its console shows."

YAHOO = PasswordProvider("yahoo", "Yahoo Mail", _NO_NEW_CLIENTS, _APP_PASSWORD, "smtp.mail.yahoo.com", 465)
AOL = PasswordProvider("aol", "AOL and Verizon", _NO_NEW_CLIENTS, _APP_PASSWORD, "smtp.aol.com", 465)
ATT = PasswordProvider("att", "AT&T", _NO_NEW_CLIENTS, _APP_PASSWORD, "smtp.mail.att.net", 465)
ZOHO = PasswordProvider(
    "zoho",
    "Zoho Mail",
    # Not documented is not impossible (unverified): whoever knows better may use Other provider.
    "Zoho documents OAuth for its web API only, not for SMTP.",
    f"{_APP_PASSWORD} The server differs by data centre.",
    "smtp.zoho.com",
    465,
)
ICLOUD = PasswordProvider("icloud", "iCloud Mail", _NO_OAUTH, f"Use an app password. {_ITS_OWN}")
SES = PasswordProvider(
    "ses",
    "Amazon SES",
    _NO_OAUTH,
    "Enter the SMTP credentials of your region, which the SES console makes from an IAM key; the server is the one of "
    "that region. Ports 25, 587 and 2587 use STARTTLS, 465 and 2465 TLS.",
)
SENDGRID = PasswordProvider("sendgrid", "SendGrid", _NO_OAUTH, _ITS_OWN)
MAILGUN = PasswordProvider("mailgun", "Mailgun", _NO_OAUTH, _ITS_OWN)
POSTMARK = PasswordProvider("postmark", "Postmark", _NO_OAUTH, _ITS_OWN)
AZURE = PasswordProvider("azure", "Azure Communication Services", _NO_OAUTH, _ITS_OWN)
HVE = PasswordProvider(
    "hve",
    "Microsoft 365 High Volume Email",
    # The other way to the same mailboxes; it is not for customers' mail.
    "It takes a user name and a password until September 2028, and mails internal recipients only.",
    "Enter the address of the HVE account as Username and its password as Password.",
    "smtp-hve.office365.com",
    587,
)

PASSWORD_PROVIDERS = (YAHOO, AOL, ATT, ZOHO, ICLOUD, SES, SENDGRID, MAILGUN, POSTMARK, AZURE, HVE)
