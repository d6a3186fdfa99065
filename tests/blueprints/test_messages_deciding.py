"""What people decide about single messages: send now, send again, say what became of one; and who delivers at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from extensions import db as database
from mail import outbox, workers
from mail.equipment import Equipment
from mail.outbox import NewMessage
from models import AuditEntry, Message, Store
from models.email_settings import UncertainChoice
from models.outbox import MessageStatus
from models.types import utcnow
from tests import factories
from tests.conftest import Browser
from tests.message_states import change, fill


@pytest.fixture
def url(store: Store) -> str:
    return f"/stores/{store.id}/messages"


@pytest.fixture
def hand_in(store: Store, equipment: Equipment) -> Any:
    own = store.id

    def hand_in(store_id: int = 0) -> str:
        new = NewMessage(to=("lena@shop.example",), subject="Your order", text="Thank you.")
        uid = outbox.enqueue(store_id or own, new, equipment=equipment).uid
        database.session.commit()
        return uid

    return hand_in


def status_of(uid: str) -> MessageStatus:
    database.session.rollback()
    return database.session.scalars(select(Message.status).where(Message.uid == uid)).one()


# Later, urgent, once more


def write(uid: str, **columns: Any) -> None:
    change(uid, **columns)
    database.session.commit()


def text_of(answer: TestResponse) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def actions() -> list[str]:
    database.session.rollback()
    return list(database.session.scalars(select(AuditEntry.action)))


def test_rows_say_what_comes_next(alice: Browser, url: str, store: Store, equipment: Equipment) -> None:
    fill(store.id, equipment)
    page = text_of(alice.get(url))
    assert re.search(r"Waiting Scheduled for \d+ \w+, \d\d:\d\d UTC The spring sale", page)
    assert re.search(r"Retrying Next at [\w, :]+ UTC Expires [\w, :]+ UTC Your parcel", page)
    assert re.search(r"May have been sent Next at [\w, :]+ UTC Thanks", page)
    assert "Reset your password High priority" in page
    assert "Low stock: Oak side table Low priority" in page
    assert "Invoice INV-2261 purchasing@brightco.example The server’s last answer never came" in page
    assert page.count("High priority") == 2
    assert "Normal" not in page


def test_a_scheduled_message_says_so_on_its_page(alice: Browser, url: str, store: Store, equipment: Equipment) -> None:
    uid = fill(store.id, equipment)["scheduled"]
    page = text_of(alice.get(f"{url}/{uid}"))
    assert re.search(r"Waiting, scheduled for \d+ \w+ 20\d\d, \d\d:\d\d:\d\d UTC", page)
    assert re.search(r"First attempt [\w, :]+ UTC , in [23] days", page)


@pytest.mark.parametrize("name", ["retrying", "uncertain", "scheduled"])
def test_what_waits_is_sent_now_on_request(
    alice: Browser, url: str, store: Store, equipment: Equipment, name: str
) -> None:
    uid = fill(store.id, equipment)[name]
    assert "Send now" in alice.get(f"{url}/{uid}").text
    assert alice.post(f"{url}/{uid}/send-now").location == f"{url}/{uid}"
    page = alice.get(f"{url}/{uid}").text
    assert "The message is next in line." in page
    assert "Send now" not in page
    assert "message_hurried" in actions()


def test_what_has_gone_meanwhile_is_not_sent_now(alice: Browser, url: str, hand_in: Any) -> None:
    uid = hand_in()
    write(uid, status=MessageStatus.SENT)
    alice.post(f"{url}/{uid}/send-now")
    assert "does not wait any more" in alice.get(f"{url}/{uid}").text
    assert "message_hurried" not in actions()


@pytest.mark.parametrize(
    ("name", "doubt"),
    [("sent", "recipients get it twice"), ("failed", ""), ("expired", ""), ("cancelled", "")],
)
def test_what_has_ended_is_sent_again_as_a_new_message(
    alice: Browser, url: str, store: Store, equipment: Equipment, name: str, doubt: str
) -> None:
    uid = fill(store.id, equipment)[name]
    page = alice.get(f"{url}/{uid}").text
    assert "Send again" in page
    assert ("recipients get it twice" in page) == bool(doubt), "only what somebody has is asked about"
    answer = alice.post(f"{url}/{uid}/resend")
    assert answer.status_code == 303
    copy = answer.location.rsplit("/", 1)[1]
    assert copy != uid
    assert f'Repeats <a href="{url}/{uid}"' in alice.get(answer.location).text
    assert f'Sent again as <a href="{url}/{copy}"' in alice.get(f"{url}/{uid}").text
    assert status_of(copy) is MessageStatus.QUEUED
    assert "message_resent" in actions()


def test_what_an_earlier_attempt_may_have_sent_is_asked_about(
    alice: Browser, url: str, store: Store, equipment: Equipment
) -> None:
    uid = fill(store.id, equipment)["cancelled"]
    write(uid, committing_at=utcnow())
    page = alice.get(f"{url}/{uid}").text
    assert "recipients may get it twice" in page
    assert "An earlier attempt may have got through already." in page


@pytest.mark.parametrize("name", ["waiting", "retrying", "unanswered"])
def test_what_has_not_ended_is_not_sent_again(
    alice: Browser, url: str, store: Store, equipment: Equipment, name: str
) -> None:
    uid = fill(store.id, equipment)[name]
    assert f"{uid}/resend" not in alice.get(f"{url}/{uid}").text
    alice.post(f"{url}/{uid}/resend")
    assert "It cannot be sent again" in alice.get(f"{url}/{uid}").text
    assert "message_resent" not in actions()


def test_what_was_purged_is_not_offered_again(alice: Browser, url: str, store: Store, equipment: Equipment) -> None:
    uid = fill(store.id, equipment)["sent"]
    write(uid, purged_at=utcnow())
    page = alice.get(f"{url}/{uid}").text
    assert "Send again" not in page
    assert "(removed)" in page


def test_the_copies_of_a_message_are_found_by_their_index(alice: Browser, url: str, hand_in: Any) -> None:
    uid = hand_in()
    asked = statements(lambda: alice.get(f"{url}/{uid}"))
    ((statement, values),) = [one for one in asked if "resent_from <> ''" in one[0]]
    plan = database.session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert "ix_messages_resent_from" in str(plan)


# While it goes


def test_what_is_about_to_go_is_looked_at_again_and_what_has_ended_is_not(
    alice: Browser, url: str, store: Store, equipment: Equipment
) -> None:
    uids = fill(store.id, equipment)
    asks = {name for name, uid in uids.items() if "every 2s" in alice.get(f"{url}/{uid}").text}
    assert asks == {"waiting"}
    write(uids["retrying"], due_at=utcnow())
    write(uids["scheduled"], status=MessageStatus.SENDING)
    asks = {name for name, uid in uids.items() if "every 2s" in alice.get(f"{url}/{uid}").text}
    assert asks == {"waiting", "retrying", "scheduled"}


def test_htmx_gets_the_message_its_buttons_and_facts(
    alice: Browser, url: str, store: Store, equipment: Equipment
) -> None:
    uids = fill(store.id, equipment)
    going = alice.htmx_get(f"{url}/{uids['waiting']}").text
    assert going.lstrip().startswith('<div id="message"')
    assert "<html" not in going
    assert 'hx-target=".page-actions"' in going
    assert 'hx-target="#live"' not in going, "nothing is said aloud before it has ended"
    ended = alice.htmx_get(f"{url}/{uids['sent']}").text
    assert 'hx-target="#live"' in ended
    assert 'id="resend"' in ended


# Nobody knows


def test_a_message_without_an_answer_says_what_to_look_for(
    alice: Browser, url: str, store: Store, equipment: Equipment
) -> None:
    uid = fill(store.id, equipment)["unanswered"]
    page = text_of(alice.get(f"{url}/{uid}"))
    message = database.session.scalars(select(Message).where(Message.uid == uid)).one()
    assert "Open the mailbox of orders@acmestore.example and look into its Sent Items." in page
    assert f"Message-ID {message.message_id.replace('<', '&lt;').replace('>', '&gt;')}." in page
    assert "It arrived: mark as sent" in page
    assert "It did not arrive: send again" in page


@pytest.mark.parametrize(
    ("provider", "words"),
    [("google", "rfc822msgid:"), ("microsoft365", "message trace"), ("other", "ask for the server’s log")],
)
def test_each_provider_has_its_place_to_look(
    alice: Browser, url: str, store: Store, equipment: Equipment, provider: str, words: str
) -> None:
    uid = fill(store.id, equipment)["unanswered"]
    database.session.get(Store, store.id).email_settings.connection.provider = provider
    database.session.commit()
    assert words in text_of(alice.get(f"{url}/{uid}"))


def test_it_arrived(alice: Browser, url: str, store: Store, equipment: Equipment) -> None:
    uid = fill(store.id, equipment)["unanswered"]
    assert alice.post(f"{url}/{uid}/mark-sent").status_code == 303
    assert status_of(uid) is MessageStatus.SENT
    page = alice.get(f"{url}/{uid}").text
    assert "Somebody found it in the mailbox" in page
    assert "Marked as sent" in alice.get(url).text
    assert actions().count("message_marked_sent") == 1
    alice.post(f"{url}/{uid}/mark-sent")
    assert "Nobody is asked about this message any more." in alice.get(f"{url}/{uid}").text
    assert actions().count("message_marked_sent") == 1


def test_it_did_not_arrive(alice: Browser, url: str, store: Store, equipment: Equipment) -> None:
    uid = fill(store.id, equipment)["unanswered"]
    alice.post(f"{url}/{uid}/release")
    assert status_of(uid) is MessageStatus.QUEUED


def test_sending_all_of_them_again_asks_first(alice: Browser, url: str, store: Store, equipment: Equipment) -> None:
    fill(store.id, equipment)
    page = alice.get(url).text
    assert "1 message is held: the server’s last answer never came" in page
    assert "Send 1 message again?" in page


def test_the_choice_for_them_is_kept_with_the_settings(alice: Browser, url: str, store: Store) -> None:
    store_id = store.id
    assert re.search(r'value="retry" checked', alice.get(url).text)
    answer = alice.post(f"{url}/on-uncertain", {"on_uncertain": "ask"})
    assert answer.status_code == 303
    assert re.search(r'value="ask" checked', alice.get(url).text)
    settings = database.session.get(Store, store_id).email_settings
    assert (settings.on_uncertain, settings.version) == (UncertainChoice.ASK, 1)
    assert actions().count("uncertain_choice_changed") == 1
    alice.post(f"{url}/on-uncertain", {"on_uncertain": "ask"})
    assert actions().count("uncertain_choice_changed") == 1, "nothing changed"


def test_the_choice_is_answered_in_its_card(alice: Browser, url: str) -> None:
    answer = alice.htmx_post(f"{url}/on-uncertain", {"on_uncertain": "ask"})
    assert answer.text.lstrip().startswith('<section class="card" id="uncertain-card"')
    assert "Saved just now" in answer.text


@pytest.mark.parametrize("value", ["", "nonsense"])
def test_a_choice_that_is_none_is_told_beside_it(alice: Browser, url: str, store: Store, value: str) -> None:
    store_id = store.id
    for post in (alice.post, alice.htmx_post):
        answer = post(f"{url}/on-uncertain", {"on_uncertain": value})
        assert answer.status_code == 422
        assert "Choose one of the two" in answer.text
    database.session.rollback()
    assert database.session.get(Store, store_id).email_settings.on_uncertain is UncertainChoice.RETRY


@pytest.mark.parametrize("deed", ["resend", "send-now", "mark-sent", "release", "cancel"])
def test_nobody_decides_about_messages_of_other_stores(alice: Browser, url: str, hand_in: Any, deed: str) -> None:
    foreign = hand_in(store_id=factories.make_store("Other Store").id)
    assert alice.post(f"{url}/{foreign}/{deed}").status_code == 404


# Nobody delivers


@pytest.mark.parametrize("page", ["/stores", "advanced-smtp", "smtp", "messages", "api-keys", "edit", "tests"])
def test_pages_say_when_no_worker_is_alive(alice: Browser, store: Store, page: str) -> None:
    url = page if page.startswith("/") else f"/stores/{store.id}/{page}"
    assert "None has run so far." in text_of(alice.get(url))
    workers.say_alive("a" * 32, name="here 1", threads=4)
    assert "No worker is running" not in alice.get(url).text
    workers.sign_off("a" * 32)
    found = text_of(alice.get(url))
    assert "No worker is running Mail is accepted and waits; nothing is sent until a worker runs." in found
    assert "Start it with flask worker , or make run . One was last seen just now ." in found


def test_the_banner_costs_one_query_and_fragments_none(alice: Browser, url: str, hand_in: Any) -> None:
    hand_in()

    def asked(read: Any) -> int:
        return sum("worker_processes" in statement for statement, _ in statements(lambda: read(url)))

    assert (asked(alice.get), asked(alice.htmx_get)) == (1, 0)


def statements(act: Any) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []
    listener = lambda *stuff: seen.append((stuff[2], stuff[3]))  # noqa: E731  a name is needed to take it away again
    event.listen(database.engine, "before_cursor_execute", listener)
    try:
        act()
    finally:
        event.remove(database.engine, "before_cursor_execute", listener)
    return seen
