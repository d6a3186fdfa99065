"""A shop person edits the mails of a store: typing, looking, sending a sample, going back; and what then arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Page, Request, expect

from mail.templates import kinds
from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import OpenStore, Watched

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def well_behaved_sandbox(house: Installation) -> Iterator[None]:
    house.sandbox.reset()
    yield
    house.sandbox.reset()


def mail(page: Page) -> FrameLocator:
    """The frame that is shown."""
    return page.frame_locator(".stage iframe:not([data-coming])")


def open_editor(page: Page, kind: str = "Password reset") -> None:
    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="Templates").click()
    page.get_by_role("link", name=kind, exact=True).click()
    expect(page.get_by_role("heading", name=kind)).to_be_visible()
    expect(mail(page).locator("body")).to_contain_text("Acme Store")


def press_save(page: Page) -> None:
    page.locator("#save-btn").click()
    expect(page.locator("[data-save-text]")).to_have_text("All changes saved just now")


def posts_of(page: Page) -> list[Request]:
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request) if request.method == "POST" else None)
    return seen


# --- Writing


def test_what_is_typed_is_seen_mended_saved_and_arrives_as_a_sample(open_store: OpenStore, house: Installation) -> None:
    page = open_store()
    steps.fill_sandbox_app(page)
    steps.press_save(page)
    open_editor(page)
    before = page.evaluate("history.length")

    html = page.locator("#html")
    html.fill("<h1>One moment, {{ customer.first_name }}</h1>\n<p>{{ reset.link }}</p>")
    link = page.locator("#html-problems").get_by_role("link", name="Line 2")
    expect(link).to_be_visible()
    expect(page.locator("#html-problems")).to_contain_text("reset.link")
    expect(page.locator("[data-gutter=html] b")).to_have_text("✕ 2\n")
    expect(page.get_by_role("status").filter(has_text="1 problem")).to_contain_text("HTML, line 2")
    expect(html).to_have_attribute("aria-invalid", "true")
    expect(mail(page).locator("body")).not_to_contain_text("One moment")
    link.click()
    expect(html).to_be_focused()
    assert html.evaluate("area => area.selectionStart") == html.input_value().index("\n") + 1

    html.fill("<h1>One moment, {{ customer.first_name }}</h1>\n<p>{{ reset.url | link }}</p>")
    expect(page.locator("#html-problems li")).to_have_count(0)
    expect(page.locator("[data-gutter=html] b")).to_have_count(0)
    expect(mail(page).get_by_role("heading", name=re.compile("^One moment, "))).to_be_visible()
    expect(html).not_to_have_attribute("aria-invalid", "true")
    page.locator("#subject").fill("A new password for {{ store.name }}")
    expect(page.locator(".mail-line")).to_contain_text("A new password for Acme Store")

    page.get_by_role("button", name="Send me a sample").click()
    result = page.locator("#sample-result")
    expect(result).to_contain_text(f"The server accepted the sample for {steps.ADMIN}", timeout=30_000)
    expect(page.locator("#live")).to_contain_text("The server accepted the sample")
    expect(result.get_by_role("link", name="View message")).to_be_visible()
    expect(result).not_to_have_attribute("hx-get", re.compile(".+"))
    [arrived] = steps.received(house, 1)
    sample = steps.parsed(arrived)
    assert sample["Subject"] == "A new password for Acme Store"
    assert sample["To"] == steps.ADMIN
    body = sample.get_body(preferencelist=("html",))
    assert body is not None
    assert "One moment, " in body.get_content()
    expect(page.locator("[data-save-text]")).to_contain_text("unsaved change")

    press_save(page)
    expect(page.locator("#template-form")).to_contain_text("Version 1")
    assert page.evaluate("history.length") == before, "the preview adds nothing to go back through"
    page.reload()
    expect(page.locator("#subject")).to_have_value("A new password for {{ store.name }}")
    expect(mail(page).get_by_role("heading", name=re.compile("^One moment, "))).to_be_visible()


def test_typing_asks_once_and_the_frames_follow_one_another(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    posts = posts_of(page)
    page.locator("#subject").fill("")
    page.locator("#subject").press_sequentially("Hello there", delay=20)
    expect(page.locator(".mail-line")).to_contain_text("Hello there")
    expect(page.locator(".stage iframe")).to_have_count(1)
    checks = [post for post in posts if post.url.endswith("/check")]
    assert 1 <= len(checks) <= 3, "not one for each letter"
    expect(page.locator("#subject")).to_be_focused()
    expect(page.locator("#subject")).to_have_value("Hello there")


def test_the_mail_is_seen_as_each_reader_sees_it(open_store: OpenStore) -> None:
    page = open_store(color_scheme="dark")  # what this browser prefers does not count
    open_editor(page)
    frame, body = page.locator(".stage iframe:not([data-coming])"), mail(page).locator("body")
    light, dark = re.compile(r"rgb\(2[0-5]\d, "), re.compile(r"rgb\([0-5]?\d, ")
    for view, width, background in (("Desktop", 640, light), ("Phone", 360, light), ("Dark", 640, dark)):
        page.locator(".mail-head label", has_text=view).click()
        expect(frame).to_have_css("width", f"{width}px")
        expect(body).to_have_css("background-color", background)
    page.locator(".mail-head label", has_text="Text").click()
    expect(mail(page).locator("pre")).to_contain_text("https://")


def test_the_preview_shows_the_pictures_of_its_sample(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page, "Order confirmation")
    pictures = mail(page).locator(".thumb img")
    expect(pictures).to_have_count(3)
    for picture in pictures.all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_a_mail_can_neither_run_nor_leave_its_frame(open_store: OpenStore, watched: Watched) -> None:
    page = open_store()
    open_editor(page)
    page.locator("#html").fill(
        "<p id=mine>Hello</p><script>parent.document.title = 'taken'</script><img src=x onerror=\"top.location='/'\">"
        '<form action="https://evil.example"><button>Go</button></form><iframe src="/stores"></iframe>'
        '<a href="/stores" target="_top">Away</a>'
    )
    expect(mail(page).get_by_text("Hello")).to_be_visible()
    expect(page).to_have_title(re.compile("^Password reset"))
    for control in ("Away", "Go"):
        target = mail(page).get_by_text(control, exact=True)
        if target.count():
            target.click()
    page.wait_for_timeout(300)
    expect(page).to_have_url(re.compile(r"/templates/password-reset/en$"))
    assert page.evaluate("document.title").startswith("Password reset")
    for words in ("sandbox", "Content Security Policy", "Blocked", "allow-scripts"):
        watched.forgive(words)


def test_names_are_put_in_at_the_cursor_by_keyboard(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    subject = page.locator("#subject")
    subject.fill("For : hello")
    subject.evaluate("field => { field.focus(); field.setSelectionRange(4, 4); }")
    name = page.get_by_role("button", name="customer.email", exact=True)
    name.focus()
    page.keyboard.press("Enter")
    expect(subject).to_have_value("For {{ customer.email }}: hello")
    expect(subject).to_be_focused()
    page.keyboard.press("Control+z")
    expect(subject).to_have_value("For : hello")
    html = page.locator("#html")
    html.fill("")
    page.get_by_role("button", name="reset.url", exact=True).click()
    expect(html).to_have_value("{{ reset.url | link }}")
    expect(mail(page).locator("body")).to_contain_text("https://")


def test_line_numbers_go_along(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    page.locator("#html").fill("\n".join(f"<p>{n}</p>" for n in range(1, 121)) + "\n{{ nothing.at_all }}")
    gutter = page.locator("[data-gutter=html]")
    expect(gutter.locator("b")).to_have_text("✕ 121\n")
    page.locator("#html-problems").get_by_role("link").click()
    area = page.locator("#html")
    assert area.evaluate("a => a.scrollTop") > 0
    expect(gutter).to_have_js_property("scrollTop", area.evaluate("a => a.scrollTop"))
    mark, caret = gutter.locator("b").bounding_box(), area.bounding_box()
    assert mark
    assert caret
    assert caret["y"] <= mark["y"] <= caret["y"] + caret["height"]


# --- Going back


def test_the_default_comes_back_and_versions_are_compared_and_restored(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    html = page.locator("#html")
    default = html.input_value()
    html.fill("<p>First</p>\n<p>{{ reset.url | link }}</p>")
    press_save(page)
    page.get_by_role("button", name="Reset to default").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Keep these texts")).to_be_focused()
    dialog.get_by_role("button", name="Reset to default").click()
    expect(page.get_by_text("The default is in force again.")).to_be_visible()
    expect(html).to_have_value(default)

    html.fill("<p>Second</p>\n<p>{{ reset.url | link }}</p>")
    press_save(page)
    page.get_by_role("link", name="Versions").click()
    expect(page.get_by_role("row", name=re.compile("^2 Reset to the default"))).to_be_visible()
    page.get_by_role("link", name="Compare version 1").click()
    diff = page.get_by_role("region", name=re.compile("^Changes in HTML"))
    assert diff.locator("del").inner_text().strip().endswith("− <p>First</p>")
    assert diff.locator("ins").inner_text().strip().endswith("+ <p>Second</p>")
    page.locator("#restore-compared").click()
    expect(page.get_by_text("Version 1 is in force again.")).to_be_visible()
    expect(html).to_have_value(re.compile("First"))
    expect(mail(page).locator("body")).to_contain_text("First")


def test_a_stale_save_shows_both_versions_in_the_page(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("#subject").fill("Theirs")
    press_save(other)
    page.locator("#subject").fill("Mine")
    page.locator("#save-btn").click()
    conflict = page.locator("#conflict")
    expect(conflict).to_contain_text("saved this template while you were editing it")
    expect(conflict.locator("del").last).to_contain_text("Theirs")
    expect(conflict.locator("ins").last).to_contain_text("Mine")
    expect(page.locator("#subject")).to_have_value("Mine")
    press_save(page)
    expect(conflict).to_have_count(0)


def test_leaving_unsaved_texts_asks_and_looking_at_them_does_not_count_as_leaving(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    page.locator("#subject").fill("Unsaved")
    expect(page.locator(".mail-line")).to_contain_text("Unsaved")
    page.locator(".mail-head label", has_text="Dark").click()
    asked: list[str] = []

    def answer(dialog) -> None:  # type: ignore[no-untyped-def]
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", answer)
    page.get_by_role("link", name="Versions").click(no_wait_after=True)
    page.wait_for_timeout(300)
    assert asked == ["beforeunload"]
    expect(page.locator("#subject")).to_have_value("Unsaved")


# --- Around the texts


def test_a_kind_is_turned_off_after_saying_what_that_means(open_store: OpenStore) -> None:
    page = open_store("templates")
    switch = page.get_by_role("switch", name="Send Password reset")
    row = page.locator("#kind-password-reset")
    expect(row.get_by_role("button", name="Turn off")).to_be_hidden()
    switch.focus()
    page.keyboard.press("Space")
    expect(row).to_contain_text("Nobody gets this mail then.")
    row.get_by_role("button", name="Turn off").click()
    expect(row).to_contain_text("by Maya Chen")
    expect(page.locator("#live")).to_have_text("Password reset is off now.")
    page.reload()
    expect(switch).not_to_be_checked()
    switch.check()
    row.get_by_role("button", name="Turn on").click()
    expect(page.locator("#live")).to_have_text("Password reset is on now.")
    expect(switch).to_be_checked()


def test_the_brand_shows_in_the_mail_while_it_is_typed(open_store: OpenStore) -> None:
    page = open_store("templates/brand")
    expect(mail(page).locator("body")).to_contain_text("Acme Store")
    page.get_by_label("Name in mails").fill("Acme & Söhne")
    page.get_by_label("Postal address").fill("Hauptstraße 1\n1010 Wien")
    expect(mail(page).locator("body")).to_contain_text("Hauptstraße 1")
    expect(mail(page).locator("body")).to_contain_text("Acme & Söhne")
    page.locator("[data-color=accent]").fill("#aa0000")
    expect(page.locator("#accent")).to_have_value("#aa0000")
    expect(mail(page).get_by_role("link", name="View your order")).to_have_css("background-color", "rgb(170, 0, 0)")
    page.locator("#accent").fill("#00aa00")
    expect(page.locator("[data-color=accent]")).to_have_value("#00aa00")
    page.get_by_label("Time zone").fill("Berlin")
    page.get_by_label("Currency").focus()
    expect(page.locator("#time_zone-error")).to_contain_text("like Europe/Berlin")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("Language").fill("de-AT")
    press_save(page)
    expect(mail(page).locator("body")).to_contain_text("Bestellung")
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Templates").click()
    expect(page.get_by_role("complementary")).to_contain_text("German (Austria)")


def test_another_language_begins_with_what_stands_in_for_it(open_store: OpenStore) -> None:
    page = open_store()
    open_editor(page)
    page.get_by_text("Add a language").click()
    field = page.get_by_label("Language", exact=True)
    field.focus()
    expect(page.locator("#locale-choices option[value=fr]")).to_have_count(1)
    field.fill("fr")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("main")).to_contain_text("English stands in")
    page.locator("#subject").fill("Votre mot de passe")
    press_save(page)
    expect(page.get_by_role("navigation", name="Languages")).to_contain_text("French (edited)")


def test_with_emails_off_a_sample_is_not_sent_and_says_so(open_store: OpenStore, house: Installation) -> None:
    page = open_store()
    steps.fill_sandbox_app(page)
    page.get_by_label("Turn Off Emails").check()
    steps.press_save(page)
    open_editor(page)
    page.get_by_role("button", name="Send me a sample").click()
    expect(page.locator("#sample-result")).to_contain_text("Emails are turned off for Acme Store")
    assert house.sandbox.messages() == ()


def test_all_of_it_without_javascript(open_store: OpenStore) -> None:
    page = open_store("templates", java_script_enabled=False)
    switch = page.get_by_role("switch", name="Send Password reset")
    switch.uncheck()
    page.locator("#kind-password-reset").get_by_role("button", name="Turn off").click()
    expect(page.get_by_text("Password reset is off now.")).to_be_visible()
    page.get_by_role("link", name="Password reset", exact=True).click()
    frame = page.frame_locator("iframe")
    expect(frame.locator("body")).to_contain_text("Acme Store")
    page.locator("#html").fill("<p>Typed</p>\n<p>{{ reset.link }}</p>")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(frame.locator("body")).to_contain_text("HTML, line 2")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#err-sum")).to_contain_text("HTML, line 2")
    expect(page.locator("#html-problems")).to_contain_text("reset.link")
    expect(page.locator("#html")).to_have_value("<p>Typed</p>\n<p>{{ reset.link }}</p>")
    page.locator("#html").fill("<p>Typed</p>\n<p>{{ reset.url | link }}</p>")
    page.locator(".mail-head label", has_text="Text").click()
    page.get_by_role("button", name="Show", exact=True).click()
    expect(frame.locator("pre")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    page.get_by_role("button", name="Send me a sample").click()
    expect(page.locator("#sample-result")).to_contain_text(re.compile("sample|Held|complete", re.IGNORECASE))
    page.get_by_role("link", name="Versions").click()
    expect(page.get_by_role("row", name=re.compile("^1 Present"))).to_be_visible()


# --- What goes out


def use_smtp(page: Page, house: Installation) -> None:
    """Fill the SMTP tab for the sandbox and make it the active method."""
    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="SMTP", exact=True).click()
    page.get_by_label("SMTP Server").fill("localhost")
    page.get_by_label("SMTP Port").fill(str(house.sandbox.smtps_port))
    page.get_by_label("Username").fill(steps.MAILBOX)
    page.locator("#password").fill("sandbox-password")
    steps.press_save(page)
    page.get_by_role("button", name=re.compile("Switch to SMTP|Use SMTP")).first.click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Switch")).last.click()
    expect(page.get_by_role("main")).to_contain_text("Acme Store sends with SMTP")


def bodies(message: Any) -> tuple[str, str, str]:
    """Subject, HTML and text of a mail that arrived."""
    sent = steps.parsed(message)
    html, text = (sent.get_body(preferencelist=(kind,)) for kind in ("html", "plain"))
    assert html is not None
    assert text is not None
    return str(sent["Subject"]), html.get_content(), text.get_content()


def test_a_message_by_template_is_the_same_by_both_methods(open_store: OpenStore, house: Installation) -> None:
    kind = kinds.find("order_confirmation")
    assert kind is not None
    page = open_store("templates/brand")
    page.get_by_label("Postal address").fill("Hauptstraße 1\n1010 Wien")
    page.get_by_label("Language").fill("de-AT")
    press_save(page)
    open_editor(page, "Order confirmation")
    expect(page.locator("[aria-current=page]", has_text="German")).to_be_visible()
    page.locator("#subject").fill("{{ order.number }}: danke von {{ store.name }} 🛍")
    press_save(page)

    page.goto(re.sub("/templates/.*", "/advanced-smtp", page.url))
    steps.fill_sandbox_app(page)
    steps.press_save(page)
    key = steps.make_api_key(page)
    data = kinds.sample(kind, "de")
    steps.send_by_template(house, key, kind.key, data)
    steps.received(house, 1)
    use_smtp(page, house)
    steps.send_by_template(house, key, kind.key, data)

    advanced, classic = steps.received(house, 2)
    assert advanced.mechanism in ("XOAUTH2", "OAUTHBEARER")
    assert classic.mechanism in ("PLAIN", "LOGIN")
    assert bodies(advanced) == bodies(classic)
    subject, html, text = bodies(classic)
    assert subject == f"{data['order']['number']}: danke von Acme Store 🛍"
    for words in ("Hauptstraße 1", "1010 Wien", data["order"]["number"], data["order"]["lines"][0]["name"]):
        assert words in html
        assert words in text
    assert "{{" not in html + text
    assert set(advanced.recipients) == set(classic.recipients) == {"lena.brandt@inbox.example", steps.COPY}
    open_editor(page, "Order confirmation")
    expect(mail(page).locator("body")).to_contain_text(data["order"]["lines"][0]["name"])


def test_a_message_of_a_kind_that_is_off_is_kept_as_cancelled(open_store: OpenStore, house: Installation) -> None:
    kind = kinds.find("password_reset")
    assert kind is not None
    page = open_store("templates")
    page.get_by_role("switch", name="Send Password reset").uncheck()
    page.locator("#kind-password-reset").get_by_role("button", name="Turn off").click()
    expect(page.locator("#live")).to_have_text("Password reset is off now.")
    key = steps.make_api_key(page)
    answer = steps.send_by_template(house, key, kind.key, kinds.sample(kind, "en"))
    assert answer["status"] == "cancelled"
    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="Messages").click()
    expect(page.locator("#log-table tbody tr")).to_contain_text("Cancelled")
