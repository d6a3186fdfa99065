"""Everything is sealed anew under the first key, while others write, and a key goes only when nothing needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app import create_app
from extensions import db
from mail import key_rotation, keys, sealed_columns
from mail.key_rotation import Rotation, rotate
from mail.sealed_columns import SEALED_COLUMNS, SealedColumn
from models import CustomField, KeyringCheck, Message, MessageContent, Store, User
from models.authorization_request import AuthorizationRequest
from models.database import reading
from models.email_settings import Method
from models.outbox import MessageBlob
from models.test_run import TestRun
from models.types import new_uid, utcnow
from security.vault import Keyring, KeyringError, Place, Vault
from tests import factories
from tests.conftest import settings_for

OLD, NEW = Keyring.generate("k1"), Keyring.generate("K1")  # apart by case only: SQLite's LIKE would mix them up
OLD_VAULT, NEW_VAULT = Vault(Keyring.parse(OLD)), Vault(Keyring.parse(NEW))
BOTH = Vault(Keyring.parse(NEW + OLD))
FIELDS = 450  # more than two batches


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'keys.sqlite3'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def app(url: str) -> Iterator[Flask]:
    application = create_app(settings_for(url, KEYRING=OLD))
    with application.app_context():
        factories.make_tables()
        keys.check(OLD_VAULT)
        yield application
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def plain(app: Flask) -> dict[tuple[str, str], str]:
    """A database with values in every sealed column, all under the old key; what they say, by place."""
    store = factories.make_store("Acme Store")
    user = factories.make_user()
    settings, connection = store.email_settings, store.email_settings.connection
    assert connection is not None
    said: dict[tuple[str, str], str] = {}

    def seal(table: str, uid: str, column: str) -> str:
        said[(f"{table}.{column}", uid)] = f"fake {column} of {uid}"
        return OLD_VAULT.seal(f"fake {column} of {uid}", Place(table, uid, column))

    settings.password_sealed = seal("email_settings", settings.uid, "password_sealed")
    for column in ("client_secret", "refresh_token", "access_token", "token_parameters"):
        setattr(connection, f"{column}_sealed", seal("connections", connection.uid, f"{column}_sealed"))
    for position in range(FIELDS):
        uid = new_uid()
        sealed = seal("custom_fields", uid, "value_sealed")
        settings.custom_fields.append(CustomField(uid=uid, position=position, key="key", value_sealed=sealed))
    db.session.add_all([_request(store, user, seal), _run(store, seal)])
    for _ in range(3):
        message = _message(store)
        db.session.add(message)
        db.session.flush()
        sealed = seal("message_contents", message.uid, "sealed")
        db.session.add(MessageContent(message_id=message.id, sealed=sealed))
        uid = new_uid()
        sealed = seal("message_blobs", uid, "sealed")
        db.session.add(MessageBlob(uid=uid, message_id=message.id, part=0, piece=0, sealed=sealed))
    db.session.commit()
    assert {label for label, _ in said} == {column.label for column in SEALED_COLUMNS}
    return said


def _request(store: Store, user: User, seal: Any) -> AuthorizationRequest:
    uid = new_uid()
    return AuthorizationRequest(
        uid=uid, state_hash="0" * 64, user_id=user.id, session_hash="0" * 64, store_id=store.id, provider="other",
        settings_fingerprint="0" * 64, redirect_uri="http://localhost/", token_url="https://token.example/",
        client_id="fake", scope="", verifier_sealed=seal("authorization_requests", uid, "verifier_sealed"),
        created_at=utcnow(), expires_at=utcnow(),
    )  # fmt: skip


def _run(store: Store, seal: Any) -> TestRun:
    uid = new_uid()
    sealed = seal("test_runs", uid, "settings_sealed")
    return TestRun(
        uid=uid, store_id=store.id, method=Method.SMTP, recipient="", started_at=utcnow(), settings_sealed=sealed
    )


def _message(store: Store) -> Message:
    now, uid = utcnow(), new_uid()
    return Message(uid=uid, store_id=store.id, due_at=now, created_at=now, message_id=f"<{uid}@shop.example>", date=now)


def stored() -> dict[tuple[str, str], str]:
    """Every sealed value as it is stored now, by place."""
    with reading():
        db.session.rollback()
        found = {
            (column.label, uid): sealed
            for column in SEALED_COLUMNS
            for uid, sealed in db.session.execute(select(column.uid, column.column).select_from(column.source))
            if sealed is not None
        }
        db.session.rollback()
    return found


def opened(vault: Vault) -> dict[tuple[str, str], str]:
    by_label = {column.label: column for column in SEALED_COLUMNS}
    return {
        (label, uid): vault.open(sealed, by_label[label].place(uid)).decode()
        for (label, uid), sealed in stored().items()
    }


def find(label: str) -> SealedColumn:
    return next(column for column in SEALED_COLUMNS if column.label == label)


def overwrite(label: str, sealed: str, *, where: Any = True) -> None:
    """As another process does it: on a connection of its own, at once."""
    column = find(label)
    with Session(db.engine) as session:
        session.execute(update(column.table).where(where).values({column.name: sealed}))
        session.commit()


def damage(label: str, uid: str) -> str:
    """Change one character of a stored ciphertext."""
    sealed = stored()[(label, uid)]
    changed = sealed[:-20] + ("A" if sealed[-20] != "A" else "B") + sealed[-19:]
    overwrite(label, changed, where=find(label).column == sealed)
    return changed


def known_keys() -> set[str]:
    with reading():
        db.session.rollback()
        found = set(db.session.scalars(select(KeyringCheck.key_id)))
        db.session.rollback()
    return found


def is_accepted(keyring: str) -> bool:
    """Whether web and workers would start with this keyring: the check that they make."""
    try:
        keys.check(Vault(Keyring.parse(keyring)))
    except KeyringError:
        return False
    return True


def test_it_seals_every_value_anew_and_changes_none(plain: dict[tuple[str, str], str]) -> None:
    seen: list[tuple[str, int]] = []
    done = rotate(BOTH, tell=lambda label, count: seen.append((label, count)))
    assert done == Rotation(resealed=len(plain), droppable=("k1",))
    assert opened(NEW_VAULT) == plain
    assert [count for label, count in seen if label == "custom_fields.value_sealed"] == [200, 400, FIELDS]


def test_the_old_key_is_needed_before_and_may_be_dropped_after(plain: dict[tuple[str, str], str]) -> None:
    assert not is_accepted(NEW)
    assert is_accepted(NEW + OLD)
    assert not is_accepted(NEW), "seen with both keys, nothing rotated"
    rotate(BOTH)
    assert known_keys() == {"K1"}
    assert is_accepted(NEW + OLD)
    assert is_accepted(NEW)
    assert not is_accepted(OLD)


@pytest.mark.usefixtures("plain")
def test_a_second_rotation_finds_nothing_to_do() -> None:
    rotate(BOTH)
    before = stored()
    assert rotate(BOTH) == Rotation(droppable=("k1",))
    assert stored() == before


def test_an_interrupted_rotation_goes_on_where_it_stopped(plain: dict[tuple[str, str], str]) -> None:
    def stop(label: str, count: int) -> None:
        if label == "custom_fields.value_sealed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate(BOTH, tell=stop)
    db.session.rollback()
    assert opened(BOTH) == plain, "half done, everything opens"
    assert not is_accepted(NEW)
    so_far = sum(sealed.startswith("v1.K1.") for sealed in stored().values())
    assert so_far == 201, "the password and one batch"
    assert rotate(BOTH).resealed == len(plain) - so_far
    assert opened(NEW_VAULT) == plain


def test_what_somebody_saves_meanwhile_wins(plain: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A token refresh lands between reading the old value and writing it anew."""
    label = "connections.refresh_token_sealed"
    (place,) = [key for key in plain if key[0] == label]
    real = key_rotation._write

    def late(column: SealedColumn, sealed: Any) -> Any:
        if column.label == label:
            overwrite(label, BOTH.seal("fake rotated token", column.place(place[1])))
        return real(column, sealed)

    monkeypatch.setattr(key_rotation, "_write", late)
    assert rotate(BOTH).droppable == ("k1",)
    assert opened(NEW_VAULT) == {**plain, place: "fake rotated token"}


def test_a_process_with_the_older_keyring_keeps_the_old_key_in_use(plain: dict[tuple[str, str], str]) -> None:
    uid = new_uid()

    def hand_in(label: str, count: int) -> None:
        # The last column: by then the custom fields have been gone through.
        if label == "message_contents.sealed" and count == 3:
            with Session(db.engine) as session:
                field = session.scalars(select(CustomField).limit(1)).one()
                new = CustomField(uid=uid, position=FIELDS, key="late", email_settings_id=field.email_settings_id)
                new.value_sealed = OLD_VAULT.seal("late", Place("custom_fields", uid, "value_sealed"))
                session.add(new)
                session.commit()

    done = rotate(BOTH, tell=hand_in)
    assert (done.late, done.droppable) == (1, ())
    assert opened(NEW_VAULT) == {**plain, ("custom_fields.value_sealed", uid): "late"}
    assert not is_accepted(NEW)
    assert rotate(BOTH).droppable == ("k1",)
    assert is_accepted(NEW)


def test_a_value_that_does_not_open_stays_as_it_is_and_keeps_its_key(plain: dict[tuple[str, str], str]) -> None:
    place = next(key for key in plain if key[0] == "connections.client_secret_sealed")
    changed = damage(*place)
    done = rotate(BOTH)
    assert (done.unreadable, done.in_use, done.droppable) == (1, {"k1": 1}, ())
    assert stored()[place] == changed
    assert not is_accepted(NEW)
    overwrite(place[0], NEW_VAULT.seal("typed again", find(place[0]).place(place[1])))
    assert rotate(BOTH).droppable == ("k1",)
    assert opened(NEW_VAULT) == {**plain, place: "typed again"}


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    "keyring",
    [Keyring.generate("k1"), NEW, Keyring.generate("K1") + Keyring.generate("k1")],
    ids=["another key of that name", "the key is gone", "two other keys"],
)
def test_nothing_is_written_with_a_wrong_keyring(keyring: str) -> None:
    before, known = stored(), known_keys()
    with pytest.raises(KeyringError, match="key"):
        rotate(Vault(Keyring.parse(keyring)))
    assert (stored(), known_keys()) == (before, known)


def test_large_values_do_not_come_all_at_once(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    store = factories.make_store()
    for _ in range(6):
        message = _message(store)
        db.session.add(message)
        db.session.flush()
        sealed = OLD_VAULT.seal("x" * 3_000, Place("message_contents", message.uid, "sealed"))
        db.session.execute(insert(MessageContent).values(message_id=message.id, sealed=sealed))
    db.session.commit()
    monkeypatch.setattr(sealed_columns, "BATCH_BYTES", 8_000)
    batches = list(sealed_columns.batches(find("message_contents.sealed")))
    assert [len(batch) for batch in batches] == [2, 2, 2]
    assert rotate(BOTH).resealed == 6


@pytest.mark.postgres
def test_rows_that_somebody_is_changing_are_not_waited_for(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    application = create_app(settings_for(postgres_url, KEYRING=OLD))
    with application.app_context():
        factories.make_tables()
        keys.check(OLD_VAULT)
        settings = factories.make_store().email_settings
        settings.password_sealed = OLD_VAULT.seal("fake", Place("email_settings", settings.uid, "password_sealed"))
        db.session.commit()
        db.session.remove()
        holder = Session(db.engine)
        holder.execute(update(find("email_settings.password_sealed").table).values(from_name="Renamed"))
        pauses: list[float] = []

        def give_way(seconds: float) -> None:
            pauses.append(seconds)
            holder.commit()

        monkeypatch.setattr(key_rotation.time, "sleep", give_way)
        assert rotate(BOTH) == Rotation(resealed=1, droppable=("k1",)), "late is only what nobody was waiting for"
        assert len(pauses) == 1
        holder.close()
        db.session.remove()
        db.engine.dispose()


def test_the_use_of_keys_counts_per_column_and_names_strangers(plain: dict[tuple[str, str], str]) -> None:
    stranger = Vault(Keyring.parse(Keyring.generate("gone")))
    label = "email_settings.password_sealed"
    overwrite(label, stranger.seal("fake", Place("email_settings", "0", "password_sealed")))
    overwrite("connections.access_token_sealed", "no sealed value")
    new, old, gone, none = keys.use_of_keys(BOTH)
    assert (new.name, new.seals, new.is_known, new.total) == ("K1", True, False, 0)
    assert (old.name, old.seals, old.is_known, old.total) == ("k1", False, True, len(plain) - 2)
    assert dict(old.sealed)["custom_fields.value_sealed"] == FIELDS
    assert (gone.name, gone.is_in_keyring, gone.sealed) == ("gone", False, ((label, 1),))
    assert (none.name, none.sealed) == ("", (("connections.access_token_sealed", 1),))


def test_the_doctor_names_place_store_and_remedy_of_each_value(plain: dict[tuple[str, str], str]) -> None:
    assert list(keys.find_damage(BOTH)) == []
    for label, uid in {label: (label, uid) for label, uid in plain}.values():
        damage(label, uid)
    before = stored()
    found = {one.reason.split()[2]: one for one in keys.find_damage(BOTH)}
    assert set(found) == {column.label for column in SEALED_COLUMNS}
    assert {one.stores for one in found.values()} == {("Acme Store (acme-store)",)}
    for column in SEALED_COLUMNS:
        uids = [uid for label, uid in plain if label == column.label]
        assert found[column.label].remedy == column.remedy
        assert any(uid in found[column.label].reason for uid in uids)
    credentials = [one for label, one in found.items() if label.startswith(("connections", "email_", "custom_"))]
    assert all(one.remedy.startswith("Enter the credentials again") for one in credentials)
    assert stored() == before
