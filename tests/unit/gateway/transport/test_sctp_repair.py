from __future__ import annotations

import pytest

from gateway.transport.sctp_repair import RTO_INITIAL, problem_of, repair

SOURCE = "self._cwnd self._rto self._srtt self._rttvar self._outbound_queue"


class Association:
    """What the repair needs of aiortc's, with its arithmetic."""

    def __init__(self) -> None:
        self._cwnd = 3600
        self._rto = 3.0
        self._srtt = 0.0
        self._rttvar = 0.0

    def _update_rto(self, R: float) -> None:
        self._srtt, self._rttvar = R, R / 2
        self._rto = max(1.0, R * 3)

    def _t3_expired(self) -> None:
        self._cwnd = 1200

    def _t3_start(self) -> None: ...

    async def _transmit(self) -> None:
        raise ConnectionError("gone")

    async def _data_channel_flush(self) -> None:
        raise ConnectionError("gone")


def test_the_timer_follows_the_round_trip_and_the_window_stays() -> None:
    association = Association()
    repair(association, 1200)
    assert association._rto == RTO_INITIAL
    assert association._cwnd == 12_000
    association._update_rto(0.02)
    assert association._rto == 0.2
    association._update_rto(0.1)
    assert association._rto == pytest.approx(0.3)
    association._update_rto(5.0)
    assert association._rto == 2.0
    association._cwnd = 50_000
    association._t3_expired()
    assert association._cwnd == 12_000


async def test_a_lost_connection_leaves_no_traceback() -> None:
    association = Association()
    with pytest.raises(ConnectionError):
        await association._transmit()
    repair(association, 1200)
    await association._transmit()
    await association._data_channel_flush()


def test_a_version_that_it_does_not_fit_is_told_by_name() -> None:
    assert problem_of(Association, SOURCE) is None
    assert "_rttvar" in str(problem_of(Association, SOURCE.replace("self._rttvar", "")))

    class Renamed(Association):
        _t3_expired = None

    assert "_t3_expired" in str(problem_of(Renamed, SOURCE))


def test_it_fits_the_pinned_version() -> None:
    pytest.importorskip("aiortc")
    from gateway.transport import webrtc

    assert webrtc.NO_REPAIR is None
