"""The Messages tab: what became of each message, in words; and what people decide about those that are held."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, select

from extensions import db as database
from mail import outbox, outcomes, purge
from mail.equipment import Equipment
from mail.errors import Refused, Stage, TryLater
from mail.outbox import NewMessage, Outcome
from mail.outcomes import Waiting
from models import AuditEntry, Message, Store, clock
from models.outbox import HoldReason, MessageStatus, RecipientKind
from tests import factories
from tests.conftest import Browser


@pytest.fixture
def url(store: Store) -> str:
    return f"/stores/{store.id}/messages"


@pytest.fixture
def hand_in(store: Store, equipment: Equipment) -> Any:
    own = store.id

    def hand_in(subject: str = "Your order", to: tuple[str, ...] = ("lena@shop.example",), store_id: int = 0) -> str:
        new = NewMessage(to=to, subject=subject, text="The body nobody may read here.")
        uid = outbox.enqueue(store_id or own, new, equipment=equipment).uid
        database.session.commit()
        return uid

    return hand_in


def finish(outcome: Outcome) -> None:
    (claimed,) = outbox.claim(limit=1)
    assert outbox.finish(claimed, outcome)


def fail(words: str = "550 5.1.1 no such user") -> None:
    waiting = [Waiting("lena@shop.example", RecipientKind.TO)]
    error = Refused("message_refused", words, stage=Stage.MESSAGE, reply_code=550)
    finish(outcomes.of_error(error, waiting, attempts=0))


def hold(store: Store, reason: HoldReason) -> None:
    outbox.hold_queue(store.id, reason)
    database.session.commit()


def status_of(uid: str) -> MessageStatus:
    database.session.rollback()
    return database.session.scalars(select(Message.status).where(Message.uid == uid)).one()


# The list


def test_an_empty_list_says_where_messages_come_from(alice: Browser, url: str) -> None:
    page = alice.get(url).text
    assert "No messages yet" in page
    assert "/api-keys" in page


def test_it_lists_newest_first_with_state_recipient_and_subject(alice: Browser, url: str, hand_in: Any) -> None:
    hand_in("First order")
    finish(Outcome(MessageStatus.SENT))
    hand_in("Second order", ("tom@shop.example", "eve@shop.example"))
    page = alice.get(url).text
    assert page.index("Second order") < page.index("First order")
    assert "Waiting" in page
    assert "Accepted" in page
    assert "tom@shop.example and 1 more" in page
    assert "The body nobody may read here." not in page


def test_it_says_why_in_words(alice: Browser, url: str, hand_in: Any, store: Store) -> None:
    hand_in()
    fail()
    uid = hand_in()
    finish(outcomes.of_error(TryLater("timed_out", "timed out", stage=Stage.CONNECT), [], attempts=0))
    page = alice.get(url).text
    assert "Failed" in page
    assert "Retrying" in page
    detail = alice.get(f"{url}/{uid}").text
    assert "The next attempt is at" in detail


@pytest.mark.parametrize(
    ("status", "shown", "hidden"),
    [("sent", "Sent one", "Waiting one"), ("queued", "Waiting one", "Sent one"), ("nonsense", "Sent one", "Nobody")],
)
def test_it_filters_by_state(alice: Browser, url: str, hand_in: Any, status: str, shown: str, hidden: str) -> None:
    hand_in("Sent one")
    finish(Outcome(MessageStatus.SENT))
    hand_in("Waiting one")
    page = alice.get(f"{url}?status={status}").text
    assert shown in page
    assert hidden not in page


@pytest.mark.parametrize("q", ["lena@shop", "LENA", "100% off_", "uid"])
def test_it_finds_by_recipient_subject_and_id(alice: Browser, url: str, hand_in: Any, q: str) -> None:
    uid = hand_in("100% OFF_today")
    hand_in("1000 other OFFtoday", ("tom@else.example",))
    page = alice.get(url, query_string={"q": uid if q == "uid" else q}).text
    assert "100% OFF_today" in page
    assert "tom@else.example" not in page


def test_a_search_without_matches_offers_the_way_back(alice: Browser, url: str, hand_in: Any) -> None:
    hand_in()
    page = alice.get(f"{url}?q=nobody").text
    assert "No messages match" in page
    assert f'href="{url}"' in page


def test_htmx_gets_the_table_alone(alice: Browser, url: str, hand_in: Any) -> None:
    hand_in()
    answer = alice.htmx_get(f"{url}?q=lena")
    assert answer.text.lstrip().startswith('<div id="log-table"')
    assert 'role="status">1 message shown' in answer.text


def test_pages_follow_the_key_both_ways(alice: Browser, url: str, hand_in: Any) -> None:
    for number in range(60):
        hand_in(f"Order {number:02}")
    first = alice.get(url).text
    assert "Order 59" in first
    assert "Order 34" not in first
    second = alice.get(_link(first, "Older")).text
    assert "Order 34" in second
    third = alice.get(_link(second, "Older")).text
    assert "Order 00" in third
    assert "Older" not in third
    back = alice.get(_link(third, "Newer")).text
    assert "Order 34" in back
    assert "Order 59" in alice.get(_link(back, "Newer")).text


def test_the_number_of_queries_does_not_grow(alice: Browser, url: str, hand_in: Any) -> None:
    def queries() -> int:
        seen = []
        listener = lambda *stuff: seen.append(1)  # noqa: E731  a name is needed to take it away again
        event.listen(database.engine, "before_cursor_execute", listener)
        try:
            alice.get(url)
        finally:
            event.remove(database.engine, "before_cursor_execute", listener)
        return len(seen)

    hand_in()
    queries()  # the first page of a session also writes the session
    few = queries()
    for _ in range(20):
        hand_in()
    assert queries() == few


# One message


def test_its_page_tells_the_whole_story(alice: Browser, url: str, hand_in: Any) -> None:
    uid = hand_in("Your <b>order</b>")
    fail("550 5.1.1 <script>no such user</script>")
    page = alice.get(f"{url}/{uid}").text
    assert "Your &lt;b&gt;order&lt;/b&gt;" in page
    assert "<script>no" not in page
    assert "no such user" in page
    assert "lena@shop.example" in page
    assert "Refused" in page
    assert "The body nobody may read here." not in page


def test_an_interrupted_attempt_is_named(alice: Browser, url: str, hand_in: Any, store: Store) -> None:
    uid = hand_in()
    outbox.claim(limit=1)
    assert "Under way" in alice.get(f"{url}/{uid}").text
    database.session.execute(Message.__table__.update().values(status=MessageStatus.QUEUED))
    database.session.commit()
    assert "Interrupted" in alice.get(f"{url}/{uid}").text


@pytest.mark.parametrize("reason", list(HoldReason))
def test_each_hold_has_its_words(alice: Browser, url: str, hand_in: Any, store: Store, reason: HoldReason) -> None:
    uid = hand_in()
    hold(store, reason)
    assert alice.get(url).status_code == 200
    page = alice.get(f"{url}/{uid}").text
    assert "Held: " in page
    assert "Discard" in page


def test_messages_of_other_stores_do_not_exist(alice: Browser, url: str, hand_in: Any) -> None:
    foreign = hand_in(store_id=factories.make_store("Other Store").id)
    assert alice.get(f"{url}/{foreign}").status_code == 404
    assert alice.get(f"{url}/{'0' * 32}").status_code == 404
    assert alice.post(f"{url}/{foreign}/cancel").status_code == 404


# Deciding


def test_held_messages_are_released_together(alice: Browser, url: str, hand_in: Any, store: Store) -> None:
    uids = [hand_in(), hand_in()]
    hold(store, HoldReason.EMAILS_OFF)
    page = alice.get(url).text
    assert "2 messages are held: emails were turned off" in page
    assert "/messages/release" in page
    answer = alice.post(f"{url}/release", {"reason": "emails_off"})
    assert answer.status_code == 303
    assert {status_of(uid) for uid in uids} == {MessageStatus.QUEUED}
    assert "2 messages are on the way, oldest first." in alice.get(url).text
    assert "messages_released" in database.session.scalars(select(AuditEntry.action)).all()


def test_while_emails_are_off_nothing_can_be_released(alice: Browser, url: str, hand_in: Any, store: Store) -> None:
    store.email_settings.emails_off = True
    database.session.commit()
    uid = hand_in()
    page = alice.get(url).text
    assert "/messages/release" not in page
    assert "Review settings" in page
    alice.post(f"{url}/release", {"reason": "emails_off"})
    alice.post(f"{url}/{uid}/release")
    assert status_of(uid) is MessageStatus.HELD


def test_held_messages_are_discarded_after_a_question(alice: Browser, url: str, hand_in: Any, store: Store) -> None:
    uid = hand_in()
    hold(store, HoldReason.SETTINGS_WRONG)
    assert "Discard 1 held message?" in alice.get(url).text
    alice.post(f"{url}/discard", {"reason": "settings_wrong"})
    assert status_of(uid) is MessageStatus.CANCELLED


def test_one_message_can_be_released_alone(alice: Browser, url: str, hand_in: Any, store: Store) -> None:
    uid, other = hand_in(), hand_in()
    hold(store, HoldReason.POISON)
    alice.post(f"{url}/{uid}/release")
    assert (status_of(uid), status_of(other)) == (MessageStatus.QUEUED, MessageStatus.HELD)


def test_a_waiting_message_can_be_cancelled_and_one_on_its_way_cannot(alice: Browser, url: str, hand_in: Any) -> None:
    going = hand_in()
    outbox.claim(limit=1)
    uid = hand_in()
    alice.post(f"{url}/{uid}/cancel")
    alice.post(f"{url}/{going}/cancel")
    assert (status_of(uid), status_of(going)) == (MessageStatus.CANCELLED, MessageStatus.SENDING)
    assert "Too late" in alice.get(f"{url}/{going}").text


@pytest.mark.parametrize("reason", ["", "nonsense"])
def test_an_unknown_reason_changes_nothing(alice: Browser, url: str, hand_in: Any, store: Store, reason: str) -> None:
    uid = hand_in()
    hold(store, HoldReason.SETTINGS_WRONG)
    assert alice.post(f"{url}/discard", {"reason": reason}).status_code == 400
    assert status_of(uid) is MessageStatus.HELD


def _link(page: str, words: str) -> str:
    head = page[: page.index(f">{words}</a>")]
    found = head[head.rindex('href="') + 6 :]
    return found[: found.index('"')].replace("&amp;", "&")


# What was removed


@pytest.fixture
def purged(hand_in: Any) -> str:
    """A message whose content was removed after its days."""
    uid: str = hand_in("Secret order")
    finish(Outcome(MessageStatus.SENT))
    with clock.shifted(purge.CONTENT_AFTER):
        assert purge.purge() == 1
    return uid


def test_pages_say_what_was_removed(purged: str, alice: Browser, url: str) -> None:
    for page in (alice.get(url), alice.get(f"{url}/{purged}")):
        assert page.status_code == 200
        assert "(removed)" in page.text
        assert "Secret order" not in page.text
        assert "(no subject)" not in page.text


def test_a_message_without_subject_is_not_called_removed(hand_in: Any, alice: Browser, url: str) -> None:
    uid = hand_in("")
    for page in (alice.get(url), alice.get(f"{url}/{uid}")):
        assert "(no subject)" in page.text
        assert "(removed)" not in page.text
