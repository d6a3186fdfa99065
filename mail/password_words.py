"""What to say when a store that signs in with user name and password hits a fault the catalogue explains for OAuth.

Only data, by number of the catalogue row. Source: providers.md 4, 5 and 15, errors.csv.
"""

from mail.fault_words import OwnFault

_ASK = "Ask {provider} whether the account may send by SMTP; some switch that on per mailbox."
_AGAIN = (
    "Enter Username and Password on the SMTP tab again. Username is usually the full mail address[, now {mailbox}]."
)
_WITH_TWO_STEPS = (
    "If the account uses 2-step verification, create an app password at {provider} and enter that as Password."
)

PASSWORD_FAULTS = {
    132: OwnFault(
        "Microsoft does not accept this user name and password",
        "The mailbox signs in with a password here. Microsoft 365 takes passwords only where the organization still "
        "allows them; Outlook.com takes none.",
        (
            _AGAIN,
            "Better: switch this store to Advanced SMTP, press Connect and sign in as {mailbox}. "
            "No password is kept then.",
        ),
        "fix_settings",
        "password",
        "settings",
    ),
    133: OwnFault(
        "Microsoft wants a sign-in before mail",
        "The message was offered without a sign-in, and this server takes mail from signed-in mailboxes only.",
        (
            "Enter Username and Password on the SMTP tab.",
            "Better: switch this store to Advanced SMTP, press Connect and sign in as the sending mailbox.",
        ),
        "fix_settings",
        "username",
        "settings",
    ),
    144: OwnFault(
        "Gmail does not accept this user name and password",
        "Gmail takes no ordinary account passwords from programs, only app passwords of accounts with 2-step "
        "verification.",
        (
            "Turn on 2-step verification for {mailbox} at myaccount.google.com/security.",
            "Create an app password at myaccount.google.com/apppasswords and enter it as Password on the SMTP tab.",
            "Or switch this store to Advanced SMTP and press Connect; no password is kept then.",
        ),
        "fix_settings",
        "password",
        "settings",
    ),
    145: OwnFault(
        "Gmail wants a sign-in before mail",
        "The message was offered without a sign-in, and Gmail takes mail from signed-in accounts only.",
        (
            "Enter Username and an app password on the SMTP tab.",
            "Or switch this store to Advanced SMTP and press Connect.",
        ),
        "fix_settings",
        "username",
        "settings",
    ),
    148: OwnFault(
        "{Host} offers no sign-in Storepost can use",
        "The server announced no way to sign in with a password on this connection. Many offer it only after "
        "encryption, or on the submission port only.",
        (
            "Tick Enable SSL For SMTP and set SMTP Port to 587 or 465[ (now {port})].",
            "If the server takes mail from this network without sign-in, remove Username and Password.",
        ),
        "fix_settings",
        "smtp_port",
        "settings",
    ),
    153: OwnFault(
        "{Provider} wants a new password for the account",
        "The old password was right, but the account has to get a new one before it may sign in.",
        ("Sign in at {provider} in a browser and set a new password.", "Enter it as Password on the SMTP tab."),
        "fix_settings",
        "password",
        "provider",
    ),
    155: OwnFault(
        "{Host} wants a stronger sign-in",
        "The server finds a plain password too weak for this account, or wants a person to confirm the sign-in once.",
        (
            "Sign in to {mailbox} in a browser once and confirm what is asked.",
            _WITH_TWO_STEPS,
            "If the provider offers OAuth, switch this store to Advanced SMTP.",
        ),
        "fix_settings",
        "password",
        "provider",
    ),
    156: OwnFault(
        "{Host} does not accept this user name and password",
        "The server was reached and the connection is fine; it refused the sign-in.",
        (_AGAIN, _WITH_TWO_STEPS, _ASK),
        "fix_settings",
        "password",
        "settings",
    ),
    192: OwnFault(
        "{Host} wants a sign-in before mail",
        "The message was offered without a sign-in, and this server takes mail from signed-in accounts only.",
        ("Enter Username and Password on the SMTP tab.",),
        "fix_settings",
        "username",
        "settings",
    ),
}
