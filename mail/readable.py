"""Which stored values of a store do not open, in words: one unreadable value stops one store (security.md 33).

The pages of the store show these sentences; its mail is held by whoever needs the value. Nothing here writes: what
does not open today may open tomorrow, when the operator restores a key.
"""

from __future__ import annotations

from mail.completeness import Missing
from mail.drafts import custom_value_place, password_place
from mail.equipment import Equipment
from mail.tokens import open_sealed
from models.connection import Connection
from models.email_settings import EmailSettings, Method
from security.vault import Place, Unreadable

PASSWORD = Missing("password", "Password", "The saved password cannot be read. Enter it again")
CUSTOM_FIELDS = Missing("custom_fields", "Custom Fields", "The saved custom fields cannot be read. Enter them again")
_OF_CONNECTION = {
    "client_secret_sealed": Missing(
        "client_secret", "Client Secret", "The saved client secret cannot be read. Enter it again"
    ),
    "refresh_token_sealed": Missing(
        "refresh_token",
        "Refresh Token",
        "The saved refresh token cannot be read. Press Connect to get a new one, or paste it again",
    ),
    "access_token_sealed": Missing(
        "client_secret",
        "Access token",
        "The saved access token cannot be read. Press Connect, or enter the client secret again",
    ),
    "token_parameters_sealed": Missing(
        "custom_fields",
        "Custom Fields",
        "What they add to token calls cannot be read. Look at them and save this page once more",
    ),
}
# What Connect itself sends; the tokens are what it brings.
NEEDED_TO_CONNECT = ("client_secret_sealed", "token_parameters_sealed")


def unreadable(settings: EmailSettings, equipment: Equipment, *, method: Method) -> tuple[Missing, ...]:
    """Return the stored values of this method that do not open, as things to enter again; mostly none."""
    if method == Method.SMTP:
        sealed = settings.password_sealed
        is_fine = sealed is None or _opens(sealed, password_place(settings), equipment)
        return () if is_fine else (PASSWORD,)
    found = [*of_connection(settings.connection, equipment)] if settings.connection else []
    if not all(_opens(row.value_sealed, custom_value_place(row.uid), equipment) for row in settings.custom_fields):
        found.append(CUSTOM_FIELDS)
    return tuple(found)


def of_connection(
    connection: Connection, equipment: Equipment, columns: tuple[str, ...] = tuple(_OF_CONNECTION)
) -> tuple[Missing, ...]:
    """Return those of these sealed columns of a connection that do not open."""
    return tuple(_OF_CONNECTION[column] for column in columns if not column_opens(connection, column, equipment))


def column_opens(connection: Connection, column: str, equipment: Equipment) -> bool:
    """Tell whether a sealed column of a connection opens; an empty one does."""
    try:
        open_sealed(connection, column, equipment)
    except Unreadable:
        return False
    return True


def _opens(sealed: str, place: Place, equipment: Equipment) -> bool:
    try:
        equipment.vault.open_secret(sealed, place)
    except Unreadable:
        return False
    return True
