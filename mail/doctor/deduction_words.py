"""Words for what the doctor deduced from several facts; filled and told by `mail/explain.py`.

Only data, by the code of `mail/doctor/deductions.py`. `{name}` is a value of the store or of the deduction, `[...]`
is left out when the value in it is not known.
"""

from mail.fault_words import OwnFault

_RUN = "Or run the commands below in Exchange Online PowerShell."
_WAIT = "Wait some minutes, then test again. Exchange takes up to an hour for new rights."
_AUTH_IS_ON_PAGE = "Open Microsoft 365 admin center > Users > Active users > {mailbox} > Mail > Manage email apps."
_CONSENT_IS_FINE = "The access token itself is good[: it belongs to {token_user}], and Connect would change nothing."
_ALLOW_MAILBOX = "Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false"

DEDUCED = {
    # Connecting
    "implicit_tls_here": OwnFault(
        "{Host} encrypts port {port} from the first byte",
        "On port {port} Storepost waits for a greeting in clear text, and the server waits for a TLS handshake "
        "(implicit TLS), so neither said a word. The server name is right.",
        (
            "Set SMTP Port to {good_port}[, which {tried}]. Storepost encrypts from the first byte there.",
            "If the server has port {port} only, ask the operator of Storepost to add it to "
            "STOREPOST_IMPLICIT_TLS_PORTS.",
        ),
        "fix_settings",
        "smtp_port",
        "settings",
    ),
    "starttls_here": OwnFault(
        "{Host} begins in clear text on port {port}",
        "On port {port} Storepost starts TLS with the first byte, as is usual there. This server greets in clear text "
        "and encrypts afterwards, by STARTTLS. The server name is right.",
        (
            "Set SMTP Port to {good_port}[, which {tried}], and leave Enable SSL For SMTP ticked: Storepost uses "
            "STARTTLS there.",
            "If the server has port {port} only, ask its operator for STARTTLS on port 587.",
        ),
        "fix_settings",
        "smtp_port",
        "settings",
    ),
    "no_encryption_here": OwnFault(
        "{Host} does not encrypt on port {port}",
        "The server greets in clear text on port {port} and offers no STARTTLS, so no password or token may travel "
        "there.",
        (
            "Set SMTP Port to {good_port}[, which {tried}], and leave Enable SSL For SMTP ticked.",
            "Otherwise ask the operator of {host} which port encrypts.",
        ),
        "fix_settings",
        "smtp_port",
        "settings",
    ),
    "other_port_encrypts": OwnFault(
        "{Host} encrypts on port {good_port}, not on port {port}",
        "On port {port} the server offers no STARTTLS. Port {good_port} {tried}.",
        (
            "Set SMTP Port to {good_port} and leave Enable SSL For SMTP ticked.",
            "If it has to be port {port}, ask the operator of {host} to offer STARTTLS there.",
        ),
        "fix_settings",
        "smtp_port",
        "settings",
    ),
    "other_port_answers": OwnFault(
        "{Host} answers on port {good_port}, not on port {port}",
        "Nothing usable came from port {port}: the server does not offer it, or a firewall on the way stops it. Port "
        "{good_port} {tried}.",
        (
            "Set SMTP Port to {good_port} and leave Enable SSL For SMTP ticked.",
            "If it has to be port {port}, let the firewall pass outgoing connections to {host}, port {port}.",
        ),
        "fix_settings",
        "smtp_port",
        "settings",
    ),
    "not_a_mail_server": OwnFault(
        "{Host} answers on port {port}, but not as a mail server",
        "Something else listens there, such as a web server, an incoming mail server or a firewall's own page. The "
        "network itself is fine.",
        (
            "Check SMTP Server: it has to be the provider's server for outgoing mail, often named smtp.",
            "Check SMTP Port: 587 or 465 as a rule[. Port {good_port} was tried just now and answers as it should].",
        ),
        "fix_settings",
        "smtp_host",
        "settings",
    ),
    # The clock
    "clock_behind": OwnFault(
        "The clock of this server seems to be behind",
        "The certificate of {peer} counts as not yet valid here. That is rarely the certificate's fault[; the clock of "
        "this server is {clock_off}].",
        (
            "Ask the operator of this server to set its date and time, best by NTP.",
            "If the clock is right, the operator of {peer} has installed a certificate too early.",
        ),
        "fix_settings",
        "",
        "us",
    ),
    "clock_ahead": OwnFault(
        "The clock of this server is ahead",
        "The certificate of {peer} counts as expired here, while the clock of this server is {clock_off}.",
        (
            "Ask the operator of this server to set its date and time, best by NTP.",
            "If the error stays with the right time, the certificate has truly expired: tell the operator of {peer}.",
        ),
        "fix_settings",
        "",
        "us",
    ),
    "clock_off": OwnFault(
        "The clock of this server is wrong",
        "The provider found the time in a signed request out of range[; the clock of this server is {clock_off}].",
        ("Ask the operator of this server to set its date and time, best by NTP.", "Test again."),
        "fix_settings",
        "",
        "us",
    ),
    # Getting a token
    "single_tenant_app": OwnFault(
        "The app belongs to one organization, but Tenant Id says {named_tenant}",
        "The app registration accepts accounts of its own directory only (single tenant). Microsoft answers such apps "
        "at the address of that directory, not at {named_tenant}.",
        (
            "Put Directory (tenant) ID into Tenant Id[. It is {learned_tenant}, as learned when the mailbox was "
            "connected].",
            "You find it in Entra admin center > App registrations > {app} > Overview. Access Token URL must carry it "
            "too.",
            "user: Save, then press Connect.",
        ),
        "fix_settings",
        "tenant_id",
        "settings",
    ),
    "app_not_in_directory": OwnFault(
        "Microsoft does not find the app by way of {named_tenant}",
        "With {named_tenant} as tenant, Microsoft looks for the app in the directory of whoever signed in, and it is "
        "not there. Either it belongs to one organization only, or Client Id is not its id.",
        (
            "Compare Client Id (now {client_id}) with Application (client) ID in Entra admin center > App "
            "registrations > Overview.",
            "Put Directory (tenant) ID from the same page into Tenant Id[. The mailbox is in {learned_tenant}].",
            "user: Save, then press Connect.",
        ),
        "fix_settings",
        "tenant_id",
        "settings",
    ),
    "secret_id_pasted": OwnFault(
        "Client Secret holds the Secret ID instead of the secret",
        "Microsoft refused the client secret, and the one stored here has the form of an id. The table of secrets at "
        "Microsoft shows both: the Value is the secret, the Secret ID only names it.",
        (
            "Open Entra admin center > App registrations > {app} > Certificates & secrets.",
            "The Value is shown only when it is made: press New client secret and copy the Value column at once.",
            "Press Replace beside Client Secret here, paste the Value and note its expiry date.",
        ),
        "fix_settings",
        "client_secret",
        "settings",
    ),
    "google_testing": OwnFault(
        "The Google app is in Testing, where consent ends after 7 days",
        "The mailbox was connected on {consented_on}, and Google ended the grant about seven days later. It does that "
        "to every external app whose publishing status is Testing. A changed password ends a grant too.",
        (
            "Open console.cloud.google.com > Google Auth Platform > Audience.",
            "Press Publish app, so that the status is In production. In Google Workspace, choose Internal instead.",
            "Then press Connect and sign in as {mailbox}: only new consent lasts.",
        ),
        "reauthorize",
        "",
        "provider",
    ),
    # Signing in
    "smtp_auth_off_tenant": OwnFault(
        "Microsoft switched SMTP sign-in off for the organization",
        f"{_CONSENT_IS_FINE} What stops it is a switch: authenticated SMTP is off for the whole organization, and "
        "nothing allows it for {mailbox}.",
        (
            _AUTH_IS_ON_PAGE,
            "Tick Authenticated SMTP and save: for this mailbox that overrides the organization.",
            f"{_RUN} The last one switches it on for every mailbox and is only needed if you want that.",
            _WAIT,
        ),
        "fix_provider",
        "",
        "provider",
        (
            _ALLOW_MAILBOX,
            "# For the whole organization:",
            "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
        ),
    ),
    "smtp_auth_off_mailbox": OwnFault(
        "Microsoft switched SMTP sign-in off for {mailbox}",
        f"{_CONSENT_IS_FINE} What stops it is a switch at this mailbox: Authenticated SMTP is not ticked.",
        (_AUTH_IS_ON_PAGE, "Tick Authenticated SMTP and save.", _RUN, _WAIT),
        "fix_provider",
        "",
        "provider",
        (_ALLOW_MAILBOX, "Get-CASMailbox -Identity {mailbox} | Format-List SmtpClientAuthenticationDisabled"),
    ),
    "wrong_service": OwnFault(
        "The token is for {audience}, not for Exchange Online",
        "A token opens one service only, and the mail server takes those for Exchange Online. Microsoft chose "
        "{audience} by Scope[, now {scope_asked}]: a scope that names no service is read as one of Microsoft Graph.",
        (
            "user: Set Scope to {ms_scope} offline_access openid email profile.",
            "user: Save, then press Connect and sign in as {mailbox}.",
            "app: Set Scope to {ms_app_scope} and save.",
        ),
        "fix_settings",
        "scope",
        "settings",
    ),
    "smtp_right_missing": OwnFault(
        "The token lacks the right to send by SMTP",
        "It is for Exchange Online, but carries other rights only: {scopes}.",
        (
            "Open Entra admin center > App registrations > {app} > API permissions and add the delegated permission "
            "SMTP.Send. Press Grant admin consent.",
            "Set Scope to {ms_scope} offline_access openid email profile, and save.",
            "Press Connect and sign in as {mailbox}.",
        ),
        "reauthorize",
        "scope",
        "settings",
    ),
    "wrong_identity_microsoft": OwnFault(
        "The token belongs to {token_user}, but the sign-in is for {asked_for}",
        "Microsoft lets a user sign in only to the own mailbox, or to one with full access to it. Most often an "
        "administrator pressed Connect and consented as themselves.",
        (
            "Press Connect and sign in as {asked_for}, not as {token_user}.",
            "Or, if {token_user} is the mailbox to send from, enter it as Sign-in address.",
            "If {asked_for} is a shared mailbox, give {token_user} rights on it by the commands below.",
        ),
        "reauthorize",
        "login",
        "settings",
        (
            "Add-MailboxPermission -Identity {asked_for} -User {token_user} -AccessRights FullAccess",
            "Add-RecipientPermission -Identity {asked_for} -Trustee {token_user} -AccessRights SendAs",
        ),
    ),
    "wrong_identity": OwnFault(
        "The token belongs to {token_user}, but the sign-in is for {asked_for}",
        "The mail server takes a token only for the account that gave consent.",
        (
            "Press Connect and sign in as {asked_for}, not as {token_user}.",
            "Or, if {token_user} is the account to send from, enter it as Sign-in address.",
        ),
        "reauthorize",
        "login",
        "settings",
    ),
    "app_role_missing": OwnFault(
        "The token of the app lacks the role SMTP.SendAsApp",
        "The app signed in for itself, and its token says nothing of sending by SMTP for {mailbox}. Without that role "
        "Exchange needs a role assignment of its own (RBAC for Applications).",
        (
            "Open Entra admin center > App registrations > {app} > API permissions > Add a permission > APIs my "
            "organization uses > Office 365 Exchange Online > Application permissions, and add SMTP.SendAsApp.",
            "Press Grant admin consent, then test again.",
            "If the app is allowed by RBAC for Applications, run the command below and look for Application "
            "SMTP.SendAsApp with {mailbox} in scope.",
        ),
        "fix_provider",
        "",
        "provider",
        ("Test-ServicePrincipalAuthorization -Identity {client_id} -Resource {mailbox}",),
    ),
    "app_not_registered": OwnFault(
        "Exchange does not let the app send for {mailbox} yet",
        "The token is right: it is for Exchange Online and carries SMTP.SendAsApp. What is missing is on the side of "
        "Exchange: the app's service principal there, made with the right object ID, and rights on the mailbox.",
        (
            "Open Entra admin center > Enterprise applications > the app, and copy Object ID. The one under App "
            "registrations is another and does not work.",
            "Run the commands below in Exchange Online PowerShell, with that Object ID.",
            _WAIT,
        ),
        "fix_provider",
        "",
        "provider",
        (
            "New-ServicePrincipal -AppId {client_id} -ObjectId <object ID from Enterprise applications>",
            "Add-MailboxPermission -Identity {mailbox} -User <object ID from Enterprise applications> "
            "-AccessRights FullAccess",
        ),
    ),
    "google_scope": OwnFault(
        "Gmail takes no SMTP sign-in with this scope",
        "The token was asked for with {scope_asked}. For SMTP only https://mail.google.com/ counts; gmail.send and the "
        "others are for Google's web interfaces.",
        (
            "Set Scope to https://mail.google.com/ openid email, and save.",
            "Add the same scope in console.cloud.google.com > Google Auth Platform > Data access.",
            "Press Connect and sign in as {mailbox}.",
        ),
        "fix_settings",
        "scope",
        "settings",
    ),
    "google_unticked": OwnFault(
        "The mail permission was not given at Google",
        "Scope asks for https://mail.google.com/, but Google did not grant it: the box for it was left unticked when "
        "consent was given.",
        ("Press Connect, sign in as {mailbox}, and leave the box for mail ticked.",),
        "reauthorize",
        "",
        "provider",
    ),
    # Handing over
    "from_not_owned_microsoft": OwnFault(
        "{signed_in} may not send as {from_email}",
        "The sign-in is fine. But {signed_in} signed in, the From address is {from_email}, and Microsoft lets a "
        "mailbox use another address only with the right Send As on it.",
        (
            "user: Set From Email Address to {signed_in}.",
            "user: Or open Exchange admin center > Mailboxes > {from_email} > Delegation > Send as, and add "
            "{signed_in}.",
            "app: Set From Email Address to {signed_in}, or give the app's service principal the right Send As on "
            "{from_email}.",
            _RUN,
            _WAIT,
        ),
        "fix_settings",
        "from_email",
        "settings",
        (
            "user: Add-RecipientPermission -Identity {from_email} -Trustee {signed_in} -AccessRights SendAs",
            "app: Add-RecipientPermission -Identity {from_email} -Trustee <service principal ID> -AccessRights SendAs",
        ),
    ),
    "from_not_owned": OwnFault(
        "{signed_in} may not send as {from_email}",
        "The sign-in is fine. But {signed_in} signed in, and the server does not take {from_email} as an address of "
        "that account.",
        (
            "Set From Email Address to {signed_in}.",
            "Or add {from_email} to the account at {provider}, as an alias or identity.",
            "Or sign in with the account that owns {from_email}.",
        ),
        "fix_settings",
        "from_email",
        "settings",
    ),
}
