from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.transport.signalling import CANDIDATES, UnsupportedMediaType, advertised, cleaned_offer, offer_of

OFFER = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"


def candidate(address: str, kind: str = "host") -> str:
    return f"a=candidate:1 1 udp 2130706431 {address} 5000 typ {kind}\r\n"


def test_raw_and_form() -> None:
    assert offer_of("application/sdp; charset=utf-8", b"v=0") == "v=0"
    form = (
        b'--x\r\nContent-Disposition: form-data; name="session"\r\n\r\n{}\r\n'
        b'--x\r\nContent-Disposition: form-data; name="sdp"\r\nContent-Type: application/sdp\r\n\r\n'
        b"v=0\r\nm=application\r\n\r\n--x--\r\n"
    )
    assert offer_of("multipart/form-data; boundary=x", form) == "v=0\r\nm=application\r\n"


def test_what_is_neither() -> None:
    with pytest.raises(UnsupportedMediaType, match="text/plain"):
        offer_of("text/plain", b"v=0")
    with pytest.raises(InvalidRequest, match="no part named"):
        offer_of("multipart/form-data; boundary=x", b"--x\r\n\r\nv=0\r\n--x--\r\n")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        offer_of("application/sdp", b"\xff")


def test_candidates_that_are_not_used() -> None:
    named = candidate("0f7f0a6c-1c1e-4d7e-a3f9-7d6f1d2f6a11.local")
    offer = OFFER + named + candidate("192.0.2.1") + "a=candidate:x\r\na=end-of-candidates\r\n"
    assert cleaned_offer(offer) == OFFER + candidate("192.0.2.1")
    assert cleaned_offer(OFFER.replace("\r\n", "\n")) == OFFER
    many = cleaned_offer(OFFER + candidate("192.0.2.1") * 1000)
    assert many.count("a=candidate:") == CANDIDATES


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        ("", "v=0"),
        ("hello", "v=0"),
        ("v=0\r\n", "no data channel"),
        ("v=0\r\nm=audio 9 RTP/SAVPF 0\r\n", "no data channel"),
        (OFFER + "m=video 9 RTP/SAVPF 0\r\n", "no audio or video"),
    ],
)
def test_offers_that_cannot_be_answered(offer: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        cleaned_offer(offer)


def test_an_advertised_address_takes_the_place_of_the_hosts_own() -> None:
    answer = (
        "c=IN IP4 10.0.0.5\r\n"
        + candidate("10.0.0.5")
        + candidate("fd00::1")
        + candidate("203.0.113.9", "srflx raddr 0.0.0.0 rport 0")
    )
    assert advertised(answer, "198.51.100.7") == (
        "c=IN IP4 198.51.100.7\r\n"
        + candidate("198.51.100.7")
        + candidate("fd00::1")
        + candidate("203.0.113.9", "srflx raddr 0.0.0.0 rport 0")
    )
