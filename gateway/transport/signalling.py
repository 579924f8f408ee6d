"""What is posted to open a call, and what the answer says about addresses: text in, text out."""

from __future__ import annotations

import ipaddress
from email.parser import BytesParser
from email.policy import HTTP

from gateway.errors import GatewayError, InvalidRequest

OFFER_BYTES = 64 * 1024
CANDIDATES = 32
"""More candidates than this in one offer are ignored: each would be sent checks."""


class UnsupportedMediaType(GatewayError):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


def invalid_sdp(why: str) -> InvalidRequest:
    """The refusal of an offer."""
    return InvalidRequest(f"The SDP offer cannot be used: {why}.", code="invalid_sdp", param="sdp")


def offer_of(content_type: str, body: bytes) -> str:
    """The SDP in a request's body: raw, or the part `sdp` of a form.

    Raises UnsupportedMediaType, and InvalidRequest for a form without it or text that is none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/sdp":
        raw = body
    elif kind == "multipart/form-data":
        raw = _part(content_type, body)
    else:
        raise UnsupportedMediaType(
            "The offer must be sent as application/sdp, or in the part `sdp` of multipart/form-data, "
            f"not as {kind[:60] or 'nothing'!r}."
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise invalid_sdp("it is not UTF-8") from None


def cleaned_offer(offer: str) -> str:
    """The offer without what this end does not use. Raises InvalidRequest unless it offers data alone.

    Candidates by mDNS name go too: only a browser's own network could resolve them, and its checks tell
    its address anyway. So does the mark that no more candidates come: without it those checks are awaited.
    """
    lines = offer.replace("\r\n", "\n").split("\n")
    if lines[0] != "v=0":
        raise invalid_sdp("its first line is not v=0")
    media = [line for line in lines if line.startswith("m=")]
    if not any(line.startswith("m=application ") and "webrtc-datachannel" in line for line in media):
        raise invalid_sdp("it has no data channel (m=application ... webrtc-datachannel)")
    if len(media) > 1:
        raise invalid_sdp("only a data channel can be answered, no audio or video")
    kept: list[str] = []
    candidates = 0
    for line in lines:
        if line == "a=end-of-candidates":
            continue
        if line.startswith("a=candidate:"):
            fields = line.split(" ")
            if candidates >= CANDIDATES or len(fields) < 8 or not _is_address(fields[4]):
                continue
            candidates += 1
        kept.append(line)
    return "\r\n".join(kept)


def advertised(answer: str, address: str) -> str:
    """The answer with its host candidates at `address`, for a host that others reach by that one."""
    version = ipaddress.ip_address(address).version
    lines = answer.split("\r\n")
    for number, line in enumerate(lines):
        fields = line.split(" ")
        if line.startswith("a=candidate:") and line.endswith("typ host") and _version(fields[4]) == version:
            lines[number] = " ".join((*fields[:4], address, *fields[5:]))
        elif line.startswith(f"c=IN IP{version} "):
            lines[number] = f"c=IN IP{version} {address}"
    return "\r\n".join(lines)


def _part(content_type: str, body: bytes) -> bytes:
    header = b"content-type: %b\r\n\r\n" % content_type.encode("latin-1", "replace")
    form = BytesParser(policy=HTTP).parsebytes(header + body)
    for part in form.iter_parts() if form.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "sdp":
            payload = part.get_payload(decode=True)
            return payload if isinstance(payload, bytes) else b""
    raise InvalidRequest("The form has no part named `sdp`.", code="invalid_sdp", param="sdp")


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version if _is_address(address) else 0


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
