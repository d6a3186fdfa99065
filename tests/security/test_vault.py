import base64
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.secret import Secret
from security.vault import Keyring, KeyringError, Place, Unreadable, Vault

PLACE = Place("connections", "0193-uid", "client_secret")
MARKER = "FAKE-client-secret-0815"
TEXT = Keyring.generate("2025-a")
OTHER = Keyring.generate("2025-b")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def vault() -> Vault:
    return Vault(Keyring.parse(TEXT))


class TestKeyring:
    def test_it_makes_a_key_that_it_can_read(self):
        ring = Keyring.parse(Keyring.generate("main"))
        assert ring.names == ("main",)
        assert ring.first == "main"

    def test_it_makes_another_key_each_time(self):
        assert Keyring.generate("a") != Keyring.generate("a")

    @pytest.mark.parametrize("name", ["", "a.b", "a:b", "a,b", "ä", "x" * 33, "-a", "a b", "a\n"])
    def test_it_refuses_odd_names_for_new_keys(self, name):
        with pytest.raises(KeyringError):
            Keyring.generate(name)

    @pytest.mark.parametrize("joint", ["", "\n", "\n\n# a comment, with a comma\n", "\r\n", " , "])
    def test_it_reads_lines_and_commas_and_the_first_key_seals(self, joint):
        ring = Keyring.parse(TEXT.rstrip() + (joint or ",") + OTHER)
        assert ring.names == ("2025-a", "2025-b")
        assert ring.first == "2025-a"

    def test_it_reads_both_alphabets_with_and_without_padding(self):
        key = bytes.fromhex("fbefbeff" * 2) + os.urandom(24)
        for text in (b64(key), b64(key).rstrip("="), base64.urlsafe_b64encode(key).decode()):
            vault = Vault(Keyring.parse(f"k:{text}"))
            assert vault.open(Vault(Keyring.parse(f"k:{b64(key)}")).seal("x", PLACE), PLACE) == b"x"

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param("\n# only a comment\n , ,\n", id="only blanks"),
            pytest.param(b64(os.urandom(32)), id="no name"),
            pytest.param(f":{b64(os.urandom(32))}", id="empty name"),
            pytest.param("name:", id="no key"),
            pytest.param("name:not base64 at all!", id="not base64"),
            pytest.param(f"name:{b64(os.urandom(31))}", id="31 bytes"),
            pytest.param(f"name:{b64(os.urandom(33))}", id="33 bytes"),
            pytest.param(f"name:{b64(os.urandom(16))}", id="16 bytes"),
            pytest.param(f"name:{os.urandom(32).hex()}", id="hex"),
            pytest.param(f"a:{b64(os.urandom(32))}\na:{b64(os.urandom(32))}", id="name twice"),
            pytest.param(f"{TEXT}b:{TEXT.partition(':')[2]}", id="key twice"),
            pytest.param(f"name:{b64(bytes(32))}", id="zeros"),
            pytest.param(f"name:{b64(b'x' * 32)}", id="one byte repeated"),
            pytest.param(f"name:{b64(os.urandom(16) * 2)}", id="half repeated"),
            pytest.param(f"name:{b64(os.urandom(4) * 8)}", id="short block repeated"),
            pytest.param(f"name:{b64(bytes(range(32)))}", id="counted up"),
            pytest.param(f"name:{b64(bytes(range(255, 223, -1)))}", id="counted down"),
            pytest.param(f"name:{b64(b'storepost-sample-key-do-not-use!')}", id="sample"),
            pytest.param(f"name:{b64(b'changeme changeme changeme 12345')}", id="typed"),
        ],
    )
    def test_it_refuses_a_keyring_that_is_none_in_one_sentence_without_the_key(self, text):
        with pytest.raises(KeyringError) as caught:
            Keyring.parse(text)
        said = str(caught.value)
        assert "\n" not in said
        assert said.endswith(".")
        for entry in text.replace("\n", ",").split(","):
            key = entry.partition(":")[2].strip() or entry.strip()
            assert len(key) < 8 or key not in said
        assert caught.value.__cause__ is None

    def test_it_shows_names_only(self):
        ring = Keyring.parse(TEXT + OTHER)
        assert repr(ring) == "Keyring(2025-a, 2025-b)"

    def test_it_refuses_to_be_pickled(self):
        with pytest.raises(TypeError):
            pickle.dumps(Keyring.parse(TEXT))


class TestSealing:
    @given(plain=st.binary(max_size=300))
    @settings(max_examples=60, deadline=None)
    def test_it_opens_what_it_sealed(self, plain):
        vault = Vault(Keyring.parse(TEXT))
        assert vault.open(vault.seal(plain, PLACE), PLACE) == plain

    @given(plain=st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
    @settings(max_examples=60, deadline=None)
    def test_it_opens_text_as_a_secret(self, plain):
        vault = Vault(Keyring.parse(TEXT))
        assert vault.open_secret(vault.seal(Secret(plain), PLACE), PLACE) == Secret(plain)

    def test_it_writes_version_and_key_id_and_nothing_of_the_value(self, vault):
        sealed = vault.seal(MARKER, PLACE)
        version, key_id, data = sealed.split(".")
        assert (version, key_id) == ("v1", "2025-a")
        assert sealed.isascii()
        assert MARKER not in sealed
        assert MARKER.encode() not in base64.urlsafe_b64decode(data + "==")

    def test_it_never_uses_a_nonce_twice(self, vault):
        nonces = {base64.urlsafe_b64decode(vault.seal("same", PLACE).split(".")[2][:16]) for _ in range(500)}
        assert len(nonces) == 500

    @pytest.mark.parametrize(
        "place",
        [
            PLACE._replace(table="email_settings"),
            PLACE._replace(row="0194-uid"),
            PLACE._replace(column="refresh_token"),
            # The same characters, cut elsewhere: what a separator would not tell apart.
            Place("connections0", "193-uid", "client_secret"),
            Place("connections", "0193-uidclient", "_secret"),
            Place("connections.0193-uid", "client_secret", "x"),
        ],
    )
    def test_it_does_not_open_a_value_that_was_moved(self, vault, place):
        sealed = vault.seal(MARKER, PLACE)
        with pytest.raises(Unreadable) as caught:
            vault.open(sealed, place)
        assert place.row in str(caught.value)
        assert caught.value.__cause__ is None

    def test_it_does_not_open_a_value_with_any_bit_changed(self, vault):
        version, key_id, data = vault.seal("v", PLACE).split(".")
        raw = bytearray(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))
        for bit in range(len(raw) * 8):
            raw[bit // 8] ^= 1 << bit % 8
            changed = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
            with pytest.raises(Unreadable):
                vault.open(f"{version}.{key_id}.{changed}", PLACE)
            raw[bit // 8] ^= 1 << bit % 8

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: "",
            lambda s: "plain text",
            lambda s: s.replace("v1.", "v2.", 1),
            lambda s: s.replace("v1.", "", 1),
            lambda s: s.replace("v1.2025-a.", "v1..", 1),
            lambda s: s[:-4],
            lambda s: s + "A",
            lambda s: s + "=",
            lambda s: s + "\n",
            lambda s: s + ".x",
            lambda s: "v1.2025-a.",
            lambda s: "v1.2025-a.AAAA",
            lambda s: "v1.2025-a.ä" + s[11:],
            lambda s: "v1.2025-a." + s[10:20] + "+/" + s[22:],
        ],
    )
    def test_it_refuses_what_is_no_sealed_value(self, vault, change):
        with pytest.raises(Unreadable):
            vault.open(change(vault.seal(MARKER, PLACE)), PLACE)

    def test_it_accepts_one_spelling_of_a_value_only(self, vault):
        # 29 bytes are 39 characters, and the last one has spare bits.
        sealed = vault.seal("x", PLACE)
        assert len(sealed.split(".")[2]) == 39
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        twin = sealed[:-1] + alphabet[alphabet.index(sealed[-1]) ^ 1]
        with pytest.raises(Unreadable):
            vault.open(twin, PLACE)

    def test_it_does_not_open_under_a_renamed_key(self):
        sealed = Vault(Keyring.parse(TEXT)).seal(MARKER, PLACE)
        renamed = Vault(Keyring.parse("new" + TEXT))
        with pytest.raises(Unreadable):
            renamed.open(sealed.replace("2025-a", "new2025-a"), PLACE)

    def test_it_names_the_key_that_is_missing(self, vault):
        sealed = Vault(Keyring.parse(OTHER)).seal(MARKER, PLACE)
        assert vault.key_id_of(sealed) == "2025-b"
        with pytest.raises(Unreadable, match="2025-b"):
            vault.open(sealed, PLACE)

    def test_it_says_when_the_bytes_are_no_text_without_showing_them(self, vault):
        with pytest.raises(Unreadable) as caught:
            vault.open_secret(vault.seal(b"\xff" + MARKER.encode(), PLACE), PLACE)
        assert MARKER not in repr(caught.value)
        assert caught.value.__suppress_context__

    def test_it_refuses_broken_text_without_showing_it(self, vault):
        with pytest.raises(ValueError, match="Unicode") as caught:
            vault.seal(MARKER + "\ud800", PLACE)
        assert MARKER not in repr(caught.value)
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize("place", [Place("", "r", "c"), Place("t", "", "c"), Place("t", "r", "")])
    def test_it_refuses_to_seal_for_no_place(self, vault, place):
        with pytest.raises(ValueError, match="table, a row and a column"):
            vault.seal(MARKER, place)


class TestResealing:
    def test_it_leaves_values_of_the_first_key_alone(self, vault):
        assert vault.reseal_if_old(vault.seal(MARKER, PLACE), PLACE) is None

    def test_it_seals_values_of_older_keys_with_the_first(self):
        sealed = Vault(Keyring.parse(OTHER)).seal(MARKER, PLACE)
        both = Vault(Keyring.parse(TEXT + OTHER))
        again = both.reseal_if_old(sealed, PLACE)
        assert again is not None
        assert both.key_id_of(again) == "2025-a"
        assert Vault(Keyring.parse(TEXT)).open_secret(again, PLACE).reveal() == MARKER

    def test_it_does_not_reseal_what_was_moved(self):
        sealed = Vault(Keyring.parse(OTHER)).seal(MARKER, PLACE)
        with pytest.raises(Unreadable):
            Vault(Keyring.parse(TEXT + OTHER)).reseal_if_old(sealed, PLACE._replace(row="other"))
