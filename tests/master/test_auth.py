"""Login: what is bound into a proof, and what a first frame may look like."""

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.auth import (
    LoginError,
    Opening,
    decode_opening,
    encode_opening,
    is_same,
    join_key,
    new_key,
    new_nonce,
    proof,
    split_key,
)

OPENING = Opening("collector", id="host-0", nonce="11" * 32)
OF_A_RING = Opening("collector", id="host-0", nonce="11" * 32, kid="k01234567")
NONCE = "22" * 32


class TestProof:
    def test_is_an_hmac_over_five_lines_and_who_speaks(self) -> None:
        """As somebody would make it who writes a collector in another language."""
        message = "\n".join(["cm.v1", "client", "collector", "host-0", "11" * 32, "22" * 32])
        by_hand = hmac.new(b"secret", message.encode(), sha256).hexdigest()
        assert proof("secret", "client", OPENING, NONCE) == by_hand
        assert by_hand == "74d3864ce64bd92759feaf0c0b4af69bcaddd36af63f592fe30bef9650bf01b9"

    def test_a_key_of_a_ring_adds_its_id_as_a_seventh_line(self) -> None:
        message = "\n".join(["cm.v1", "client", "collector", "host-0", "11" * 32, "22" * 32, "k01234567"])
        by_hand = hmac.new(b"secret", message.encode(), sha256).hexdigest()
        assert proof("secret", "client", OF_A_RING, NONCE) == by_hand
        assert by_hand == "1d1c477207a15e41289adfe5dd508fbb2f957c1009ab1c894a0a6c5ac3599cfc"

    @pytest.mark.parametrize(
        "other",
        [
            proof("Secret", "client", OPENING, NONCE),
            proof("secret", "server", OPENING, NONCE),
            proof("secret", "client", Opening("consumer", id="host-0", nonce="11" * 32), NONCE),
            proof("secret", "client", Opening("collector", id="host-1", nonce="11" * 32), NONCE),
            proof("secret", "client", Opening("collector", id="host-0", nonce="12" * 32), NONCE),
            proof("secret", "client", OPENING, "23" * 32),
            proof("secret", "client", OF_A_RING, NONCE),
        ],
        ids=["key", "side", "role", "id", "client nonce", "server nonce", "key id"],
    )
    def test_everything_is_bound(self, other: str) -> None:
        """So that a proof cannot be replayed, reflected, or used for another name."""
        assert not is_same(proof("secret", "client", OPENING, NONCE), other)

    def test_a_nonce_is_never_given_twice(self) -> None:
        assert len({new_nonce() for _ in range(1000)}) == 1000
        assert len(bytes.fromhex(new_nonce())) == 32

    def test_comparison_takes_any_text(self) -> None:
        assert is_same("ключ", "ключ")
        assert not is_same("ключ", "")


class TestOpening:
    @given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.text("0123456789abcdef", min_size=1))
    def test_whatever_a_worker_is_called(self, name: str, nonce: str) -> None:
        opening = Opening("collector", id=name, nonce=nonce)
        assert decode_opening(encode_opening(opening)) == opening

    def test_has_no_key_in_it(self) -> None:
        assert encode_opening(OPENING) == f"v=1&role=collector&id=host-0&nonce={'11' * 32}"

    def test_names_the_key_where_there_are_several(self) -> None:
        assert encode_opening(OF_A_RING) == f"v=1&role=collector&id=host-0&nonce={'11' * 32}&kid=k01234567"
        assert decode_opening(encode_opening(OF_A_RING)) == OF_A_RING

    def test_the_old_form(self) -> None:
        assert decode_opening("key=a%26b+c&role=collector") == Opening("collector", "a&b c")

    @pytest.mark.parametrize(
        "frame",
        [
            "",
            "hello",
            '{"op":"login"}',
            "role=collector",
            "key=secret",
            "v=1&role=collector&id=host-0",
            "v=2&role=collector&id=host-0&nonce=11",
            "v=1&role=collector&id=host-0&nonce=11&key=secret",
            "v=2&key=secret&role=collector",
            "v=1&role=collector&role=admin&id=host-0&nonce=11",
            "v=1&role=collector&id=host-0%0A11&nonce=11",
            "key=secret&role=collector%0A",
            "&".join(f"a{number}=1" for number in range(9)),
        ],
    )
    def test_anything_else_is_no_login(self, frame: str) -> None:
        with pytest.raises(LoginError, match="no login"):
            decode_opening(frame)

    def test_a_key_is_no_part_of_an_error(self) -> None:
        with pytest.raises(LoginError) as caught:
            decode_opening("v=2&key=canary&role=collector")
        assert "canary" not in str(caught.value)


class TestConfiguredKey:
    def test_of_a_ring_it_has_two_parts(self) -> None:
        kid, secret = new_key()
        assert split_key(join_key(kid, secret)) == (kid, secret)
        assert len(bytes.fromhex(secret)) == 32

    @pytest.mark.parametrize("text", ["secret", "my.own.key", f"k0123456.{'0' * 64}", f"k01234567.{'0' * 63}", "."])
    def test_any_other_is_the_shared_one_as_it_stands(self, text: str) -> None:
        assert split_key(text) == ("", text)
