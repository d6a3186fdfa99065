"""What stands beside the texts while somebody types: the mail, its problems, and names to put in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mail.templates import kinds
from mail.templates.drafts import Draft
from mail.templates.finishing import CLIPPED_AT_BYTES
from mail.templates.kinds import Kind, ValueType
from mail.templates.previews import BLOCKS, preview, snippet, with_pictures
from mail.templates.rendering import Look

LOOK = Look(name="Acme Store")


def draft(kind: Kind, **change: str) -> Draft:
    source = kinds.default_source(kind, "en")
    texts = {"subject": source.subject, "preheader": source.preheader, "html": source.html, "text": source.text}
    return Draft(**{**texts, "sample": json.dumps(kinds.sample(kind, "en")), **change})


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.key)
def test_every_name_that_is_offered_can_be_put_in_as_it_is(kind: Kind) -> None:
    loops = {one.path.removesuffix("[]"): one for one in kind.variables if one.type is ValueType.LIST}
    lines = []
    for one in kind.variables:
        code = snippet(one, kind.variables)
        assert bool(code) == (one.type is not ValueType.OBJECT)
        listed = one.path.partition("[]")[0]
        within = one.path != listed and not (one.path.endswith("[]") or listed not in loops)
        lines.append(f"<p>{{% for item in {listed} %}}{code}{{% endfor %}}</p>" if within else f"<p>{code}</p>")
    shown = preview(kind, draft(kind, html="\n".join(lines)), LOOK, "en")
    assert shown.examined.errors == ()
    assert shown.mail is not None


def test_every_block_that_is_offered_renders() -> None:
    kind = kinds.KINDS[0]
    shown = preview(kind, draft(kind, html="\n".join(code for _, _, code in BLOCKS)), LOOK, "en")
    assert shown.examined.problems == ()
    assert shown.mail is not None
    assert "Good to know" in shown.mail.html


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.key)
def test_the_default_is_without_problems_in_its_own_editor(kind: Kind) -> None:
    shown = preview(kind, draft(kind), LOOK, "en")
    assert shown.examined.problems == ()
    assert not shown.is_clipped


def test_a_mail_that_gmail_clips_says_so() -> None:
    kind = kinds.KINDS[0]
    shown = preview(kind, draft(kind, html="<p>" + "Long. " * 16_000 + "</p>"), LOOK, "en")
    assert shown.is_clipped
    assert shown.size_bytes > CLIPPED_AT_BYTES
    assert "Gmail" in shown.examined.problems[0].message, "the page and the list of problems agree on what is too much"


def test_texts_with_problems_have_no_mail() -> None:
    shown = preview(kinds.KINDS[0], draft(kinds.KINDS[0], html="{{ nothing.here }}"), LOOK, "en")
    assert shown.mail is None
    assert shown.size_bytes == 0
    assert [one.part for one in shown.examined.errors] == ["html"]


@pytest.mark.parametrize("locale", kinds.DEFAULT_LOCALES)
@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.key)
def test_every_picture_of_a_sample_is_there(kind: Kind, locale: str) -> None:
    html = with_pictures(json.dumps(kinds.sample(kind, locale)), "there")
    assert "https://shop.example/images/" not in html
    for name in re.findall(r'there/([^"]+)"', html):
        assert (Path(__file__).parents[3] / "static/samples" / name).is_file()
