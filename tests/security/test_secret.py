import copy
import dataclasses
import json
import logging
import pickle

import pytest

from security.secret import Secret

PLAIN = "FAKE-secret-value-4711"


@pytest.mark.parametrize(
    "render",
    [
        str,
        repr,
        ascii,
        "{}".format,
        "{!r}".format,
        "{:>40.5}".format,
        lambda s: f"{[s]} { ({1: s}) }",
    ],
)
def test_it_renders_as_a_mask_however_it_is_printed(render):
    rendered = render(Secret(PLAIN))
    assert "***" in rendered
    assert PLAIN not in rendered
    assert PLAIN[:4] not in rendered


def test_it_does_not_tell_the_length():
    assert repr(Secret("a")) == repr(Secret("a" * 300))
    with pytest.raises(TypeError):
        len(Secret(PLAIN))


def test_it_stays_masked_in_a_dataclass_and_a_log_line(caplog):
    @dataclasses.dataclass
    class Login:
        password: Secret

    login = Login(Secret(PLAIN))
    logging.getLogger("test").warning("login %s", login)
    assert PLAIN not in repr(login) + caplog.text + str(dataclasses.asdict(login))


def test_it_reveals_the_text_only_when_asked():
    assert Secret(PLAIN).reveal() == PLAIN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_refuses_to_be_pickled(protocol):
    with pytest.raises(TypeError) as caught:
        pickle.dumps(Secret(PLAIN), protocol)
    assert PLAIN not in str(caught.value)


def test_it_refuses_to_become_json():
    with pytest.raises(TypeError) as caught:
        json.dumps({"password": Secret(PLAIN)})
    assert PLAIN not in str(caught.value)


def test_it_has_no_attributes_to_look_through():
    with pytest.raises(TypeError):
        vars(Secret(PLAIN))


def test_it_compares_by_value_with_secrets_only():
    assert Secret(PLAIN) == Secret(PLAIN)
    assert Secret(PLAIN) != Secret(PLAIN + "x")
    assert Secret(PLAIN) != PLAIN
    assert Secret("\ud800") != Secret("\ud801")


def test_it_is_true_when_there_is_something_in_it():
    assert Secret("x")
    assert not Secret("")


def test_it_cannot_be_a_key():
    with pytest.raises(TypeError):
        hash(Secret(PLAIN))


def test_it_survives_copying():
    secret = Secret(PLAIN)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] == secret


def test_it_is_made_from_text_only_and_the_refusal_is_silent():
    with pytest.raises(TypeError) as caught:
        Secret(PLAIN.encode())  # type: ignore[arg-type]  # the mistake under test
    assert PLAIN not in str(caught.value)
