"""Words for what the signature catalogue does not cover: our own refusals, and errors nobody has seen before.

Only data. `{name}` is a value of the store or its stand-in, `[...]` is left out when the value in it is not known;
`mail/explain.py` fills both.
"""

from typing import NamedTuple

from mail.errors import Stage


class OwnFault(NamedTuple):
    """What to say about one code of the error family that Storepost itself decides on, or has deduced.

    `commands` are PowerShell lines; "{command}" in a step stands for all of them. A step or command that begins with
    "user: " or "app: " is for a signed-in mailbox or for client_credentials only.
    """

    headline: str
    meaning: str
    steps: tuple[str, ...]
    action: str
    field: str
    side: str
    commands: tuple[str, ...] = ()


class UnknownFault(NamedTuple):
    """What to say about a kind of failure when the words of it are not in the catalogue."""

    headline: str
    meaning: str
    steps: tuple[str, ...]


_REPORT = "If it repeats, report it as a defect of Storepost, with the technical details."

OWN_FAULTS = {
    "testing_ended": OwnFault(
        "The authorization ended after the 7 days of an app in Testing",
        "The Google app is External and in Testing, where every authorization ends 7 days after consent.",
        (
            "Open Google Cloud console > Google Auth Platform > Audience.",
            "Press Publish app, or Make internal in a Google Workspace.",
            "Press Reconnect and sign in as {mailbox}.",
        ),
        "fix_provider",
        "",
        "provider",
    ),
    "incomplete": OwnFault(
        "Some settings are still missing",
        "Mail can go out when these are filled in: {detail}",
        ("Fill in the settings named above.", "Press Connect, if the connection is not authorized yet."),
        "fix_settings",
        "",
        "settings",
    ),
    "blocked": OwnFault(
        "Storepost may not connect to {peer}",
        "The address lies in a network that stores may not reach, such as a private or local one, or the port is not "
        "one for mail. The operator of this server decides which of them are allowed.",
        (
            "Check the server name for typing errors[: it is {peer} now].",
            "If it is right, ask the operator of this server to add it to STOREPOST_EGRESS_ALLOW.",
        ),
        "fix_settings",
        "smtp_host",
        "us",
    ),
    "plaintext_auth": OwnFault(
        "Storepost does not sign in without encryption",
        "The connection to {host} is not encrypted, so a password or token would travel in clear. Storepost does that "
        "only for hosts the operator listed.",
        (
            "Tick Enable SSL For SMTP and use port 587 or 465.",
            "If the server cannot encrypt, ask the operator of this server to add it to "
            "STOREPOST_PLAINTEXT_AUTH_HOSTS.",
        ),
        "fix_settings",
        "use_ssl",
        "settings",
    ),
    "starttls_injection": OwnFault(
        "Somebody may be tampering with the connection to {host}",
        "Unencrypted bytes were slipped in as encryption began. Storepost ended the connection before signing in.",
        (
            "Do not send from this network until it is clear who sits between this server and {host}.",
            "Ask the operator of this server whether a firewall or mail filter inspects the traffic.",
        ),
        "fix_settings",
        "",
        "network",
    ),
    "unusable_token": OwnFault(
        "{Token_host} gave a token that Storepost cannot use",
        "The token is empty, too long or holds characters that no access token may have.",
        ("Check Access Token URL: it must be the provider's own token endpoint.", _REPORT),
        "fix_settings",
        "token_url",
        "provider",
    ),
    "unusable_token_type": OwnFault(
        "{Token_host} gave a kind of token that mail sign-in cannot use",
        "Mail servers take bearer tokens only, and this token is of another type.",
        (
            "Check Access Token URL and Scope.",
            "Allow plain bearer tokens for the app in the console of {provider}.",
        ),
        "fix_settings",
        "token_url",
        "provider",
    ),
    "login_incomplete": OwnFault(
        "The sign-in has no user name or no credential",
        "Storepost had nothing to sign in with at {host}.",
        (
            "Advanced SMTP: check Sign-in address and press Connect.",
            "SMTP: enter Username and Password.",
        ),
        "fix_settings",
        "login",
        "settings",
    ),
    "login_unusable": OwnFault(
        "The sign-in holds characters that mail sign-in cannot carry",
        "The user name or the credential contains control characters, or a token that is not plain ASCII.",
        (
            "Enter Sign-in address or Username again, without copied blanks or line ends.",
            "Press Connect for a new token, or enter the password again.",
        ),
        "fix_settings",
        "login",
        "settings",
    ),
    "unreadable": OwnFault(
        "A stored secret does not open",
        "The key that encrypted it is not there any more, or the stored value was damaged or moved. Nothing was "
        "overwritten.",
        (
            "Enter the credentials of this store again, or press Connect.",
            "If several stores are hit, ask the operator of this server to check the keyring: flask secrets doctor.",
        ),
        "fix_settings",
        "client_secret",
        "us",
    ),
    "changed_meanwhile": OwnFault(
        "The settings changed while the test began",
        "Somebody saved other settings at that moment. No saved secret was used for values it was not given for.",
        ("Load the page again to see what is stored now.", "Start the test again."),
        "retry",
        "",
        "settings",
    ),
    "no_recipients": OwnFault(
        "The message has no recipient",
        "Nobody is named in To, Cc or Bcc.",
        ("Enter at least one recipient.",),
        "permanent",
        "",
        "settings",
    ),
    "unsendable": OwnFault(
        "The message cannot be sent as it is",
        "It breaks a rule of the mail format, and servers would read it differently.",
        ("Send the message anew from the application that made it.", _REPORT),
        "permanent",
        "",
        "us",
    ),
    "eight_bit_missing": OwnFault(
        "{Host} cannot carry this message",
        "The message holds 8-bit text and the server takes 7-bit text only.",
        ("Use another submission server of the provider.", _REPORT),
        "permanent",
        "smtp_host",
        "provider",
    ),
    "cut_after_dot": OwnFault(
        "The message may have been sent",
        "The whole message had been handed over, and the answer of {host} did not arrive: the connection broke, or the "
        "time for it ran out.",
        (
            "Check the recipient's inbox before sending it again.",
            "If it repeats, ask the operator of {host} why answers stay away.",
        ),
        "retry",
        "",
        "network",
    ),
    "answer_unclear": OwnFault(
        "The message may have been sent",
        "{Host} gave an answer to the whole message that says neither yes nor no.",
        (
            "Check the recipient's inbox before sending it again.",
            "Read the server's words in the technical details.",
        ),
        "retry",
        "",
        "provider",
    ),
    "withdrawn": OwnFault(
        "The message was withdrawn in time",
        "It was cancelled, or emails were turned off, just before it would have been handed over. Nothing was sent.",
        ("Nothing to do. Send it anew if it should go out after all.",),
        "permanent",
        "",
        "us",
    ),
}

# What Storepost was doing in each step, as in "... while signing in".
DOING = {
    Stage.SETTINGS: "reading the settings",
    Stage.RESOLVE: "looking up the server name",
    Stage.CONNECT: "connecting",
    Stage.TLS: "starting encryption",
    Stage.TOKEN: "getting an access token",
    Stage.GREET: "greeting the server",
    Stage.AUTH: "signing in",
    Stage.SENDER: "offering the sender",
    Stage.RECIPIENT: "offering the recipient",
    Stage.MESSAGE: "handing over the message",
}

UNKNOWN_FAULTS = {
    "timeout": UnknownFault(
        "{Peer} did not answer in time while {doing}",
        "The connection stood, then no answer came within the time allowed.",
        ("Test again in a minute; mail is tried again by itself.", "If it repeats, let the firewall pass {peer}."),
    ),
    "cut": UnknownFault(
        "{Peer} ended the connection while {doing}",
        "The other side, or a firewall between, closed the connection before it had answered.",
        ("Test again in a minute; mail is tried again by itself.", "If it repeats, check port and encryption."),
    ),
    "later": UnknownFault(
        "{Peer} put Storepost off while {doing}",
        "The answer is a temporary refusal: the same settings may pass later.",
        (
            "Nothing to do at first: it is tried again by itself.",
            "If it stays for hours, read the server's words in the technical details and ask the support of "
            "{provider}.",
        ),
    ),
    "refused": UnknownFault(
        "{Peer} refused while {doing}",
        "The answer is a lasting refusal: trying again without a change will fail again.",
        ("Read the server's words in the technical details.",),
    ),
    "other": UnknownFault(
        "An unknown fault stopped Storepost while {doing}",
        "The words of this fault are not in the catalogue.",
        ("Test again in a minute.", "Read the technical details, and send them with a support request."),
    ),
}

LIKELY_SIDE = {
    "settings": "Most likely a setting of this store has to change.",
    "provider": "Most likely the cause lies with {provider}.",
    "network": "Most likely the cause lies in the network between this server and {peer}.",
    "us": "Most likely the cause lies in Storepost or on this server.",
}

# The step to take after a lasting refusal, by where it happened.
AFTER_REFUSAL = {
    Stage.TOKEN: "Check Client Id, Client Secret, Access Token URL and Scope, then press Connect again.",
    Stage.GREET: "Check SMTP Server[ (now {host})], and ask {provider} whether this server's address is blocked.",
    Stage.AUTH: "Press Connect and sign in as {mailbox}; check that SMTP is enabled for the account.",
    Stage.SENDER: "Set From Email Address to {mailbox}, or let {provider} allow {from_email} as sender.",
    Stage.RECIPIENT: "Correct the recipient, or the address in Bcc Email Address.",
    Stage.MESSAGE: "Correct content, sender or recipient and send anew.",
}

CLEARED = {
    Stage.RESOLVE: "The settings are complete.",
    Stage.CONNECT: "The settings are complete and the server name is known.",
    Stage.TLS: "The server name and port are fine.",
    Stage.TOKEN: "The server, port and encryption are fine.",
    Stage.GREET: "The server name and port are fine.",
    Stage.AUTH: "The server, port and encryption are fine.",
    Stage.SENDER: "The server, port, encryption and sign-in are fine.",
    Stage.RECIPIENT: "The connection, the sign-in and the sender address are fine.",
    Stage.MESSAGE: "The connection, the sign-in, the sender and the recipient are fine.",
}
