"""Each arrow of figures 5 to 8 of RFC 3261, with the Accepted states of RFC 6026, as ladders.

`<<` is what we send, `>>` what comes up to the transaction user; before it the time, where time passes.
"""

from __future__ import annotations

from sipd.transaction import tables
from tests.unit.transaction.ladder import TCP, Recorder, request, response


class TestInviteClient:
    """Figure 5, RFC 6026 8.4."""

    def test_calling_timer_a_doubles_until_timer_b(self) -> None:
        wire = Recorder()
        tx = wire.request()
        assert wire.take() == ["<< INVITE"]
        assert wire.pass_time(100) == [
            "0.5 << INVITE", "1.5 << INVITE", "3.5 << INVITE", "7.5 << INVITE", "15.5 << INVITE", "31.5 << INVITE",
            "32 timeout",
        ]  # fmt: skip
        assert tx.terminated
        assert len(wire.layer) == len(wire.timers) == 0

    def test_calling_over_a_stream_is_sent_once(self) -> None:
        wire = Recorder()
        wire.request(flow=TCP)
        assert wire.take() == ["<< INVITE"]
        assert wire.pass_time(100) == ["32 timeout"]

    def test_calling_provisional(self) -> None:
        wire = Recorder()
        tx = wire.request()
        assert wire.receive(response(100)) == ["<< INVITE", ">> 100"]
        assert tx.state == tables.PROCEEDING
        assert wire.pass_time(1000) == [], "neither timer A nor B runs any longer"

    def test_proceeding_provisional(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(100))
        assert wire.receive(response(180)) == [">> 180"]
        assert wire.receive(response(180)) == [">> 180"]
        assert tx.state == tables.PROCEEDING

    def test_calling_success(self) -> None:
        wire = Recorder()
        tx = wire.request()
        assert wire.receive(response(200)) == ["<< INVITE", ">> 200"]
        assert tx.state == tables.ACCEPTED
        assert wire.pass_time(31.9) == []
        assert len(wire.layer) == 1
        wire.pass_time(32)  # timer M
        assert len(wire.layer) == 0

    def test_proceeding_success(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(180))
        assert wire.receive(response(200)) == [">> 200"]
        assert tx.state == tables.ACCEPTED

    def test_accepted_each_2xx_goes_up(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(200))
        assert wire.receive(response(200)) == [">> 200"]
        assert wire.receive(response(200, tag="another fork".replace(" ", "-"))) == [">> 200"]
        assert wire.receive(response(180)) == []
        assert wire.receive(response(486)) == []
        assert tx.state == tables.ACCEPTED

    def test_accepted_also_waits_over_a_stream(self) -> None:
        wire = Recorder()
        tx = wire.request(flow=TCP)
        wire.receive(response(200), TCP)
        wire.layer.flow_lost(TCP, wire.now)
        assert tx.state == tables.ACCEPTED
        wire.pass_time(32)
        assert tx.terminated

    def test_calling_failure(self) -> None:
        wire = Recorder()
        tx = wire.request()
        assert wire.receive(response(486)) == ["<< INVITE", "<< ACK", ">> 486"]
        assert tx.state == tables.COMPLETED

    def test_proceeding_failure(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(180))
        assert wire.receive(response(302)) == ["<< ACK", ">> 302"]
        assert tx.state == tables.COMPLETED

    def test_completed_acknowledges_again_until_timer_d(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(486))
        assert wire.receive(response(486)) == ["<< ACK"]
        assert wire.receive(response(200)) == []
        assert wire.receive(response(180)) == []
        wire.pass_time(31.9)
        assert tx.state == tables.COMPLETED
        wire.pass_time(32)
        assert tx.terminated
        assert wire.receive(response(486)) == [">> stray 486"]

    def test_completed_over_a_stream_ends_at_once(self) -> None:
        wire = Recorder()
        tx = wire.request(flow=TCP)
        assert wire.receive(response(486), TCP) == ["<< INVITE", "<< ACK", ">> 486"]
        assert tx.terminated
        assert len(wire.layer) == len(wire.timers) == 0

    def test_calling_transport_error(self) -> None:
        wire = Recorder()
        tx = wire.request(flow=TCP)
        wire.take()
        wire.layer.flow_lost(TCP, wire.now)
        assert wire.take() == ["transport error"]
        assert tx.terminated
        assert len(wire.layer) == len(wire.timers) == 0

    def test_proceeding_transport_error(self) -> None:
        wire = Recorder()
        tx = wire.request(flow=TCP)
        wire.receive(response(180), TCP)
        wire.layer.flow_lost(TCP, wire.now)
        assert wire.take() == ["transport error"]
        assert tx.terminated

    def test_completed_transport_error(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(486))
        wire.layer._step(tx, tables.ERROR, None, wire.now)
        assert wire.take() == ["transport error"]
        assert tx.terminated
        assert len(wire.timers) == 0


class TestClient:
    """Figure 6."""

    def test_trying_timer_e_doubles_up_to_t2_until_timer_f(self) -> None:
        wire = Recorder()
        tx = wire.request("OPTIONS")
        assert wire.take() == ["<< OPTIONS"]
        times = ["0.5", "1.5", "3.5", "7.5", "11.5", "15.5", "19.5", "23.5", "27.5", "31.5"]
        assert wire.pass_time(100) == [f"{time} << OPTIONS" for time in times] + ["32 timeout"]
        assert tx.terminated
        assert len(wire.layer) == len(wire.timers) == 0

    def test_over_a_stream_it_is_sent_once(self) -> None:
        wire = Recorder()
        wire.request("OPTIONS", flow=TCP)
        wire.take()
        assert wire.pass_time(100) == ["32 timeout"]

    def test_proceeding_timer_e_is_t2(self) -> None:
        wire = Recorder()
        tx = wire.request("OPTIONS")
        assert wire.receive(response(100, "OPTIONS")) == ["<< OPTIONS", ">> 100"]
        assert tx.state == tables.PROCEEDING
        assert wire.receive(response(183, "OPTIONS")) == [">> 183"]
        times = ["0.5", "4.5", "8.5", "12.5", "16.5", "20.5", "24.5", "28.5"]
        assert wire.pass_time(100) == [f"{time} << OPTIONS" for time in times] + ["32 timeout"]

    def test_trying_final(self) -> None:
        for status in (200, 302, 404, 503, 603):
            wire = Recorder()
            tx = wire.request("OPTIONS")
            assert wire.receive(response(status, "OPTIONS")) == ["<< OPTIONS", f">> {status}"]
            assert tx.state == tables.COMPLETED

    def test_proceeding_final(self) -> None:
        for status in (200, 404):
            wire = Recorder()
            tx = wire.request("OPTIONS")
            wire.receive(response(100, "OPTIONS"))
            assert wire.receive(response(status, "OPTIONS")) == [f">> {status}"]
            assert tx.state == tables.COMPLETED

    def test_completed_absorbs_until_timer_k(self) -> None:
        wire = Recorder()
        tx = wire.request("OPTIONS")
        wire.receive(response(200, "OPTIONS"))
        assert wire.receive(response(200, "OPTIONS")) == []
        assert wire.receive(response(100, "OPTIONS")) == []
        assert wire.pass_time(4.9) == []
        assert tx.state == tables.COMPLETED
        wire.pass_time(5)
        assert tx.terminated
        assert wire.receive(response(200, "OPTIONS")) == [">> stray 200"]

    def test_completed_over_a_stream_ends_at_once(self) -> None:
        wire = Recorder()
        tx = wire.request("OPTIONS", flow=TCP)
        assert wire.receive(response(200, "OPTIONS"), TCP) == ["<< OPTIONS", ">> 200"]
        assert tx.terminated
        assert len(wire.layer) == len(wire.timers) == 0

    def test_transport_error(self) -> None:
        for answers in ([], [100]):
            wire = Recorder()
            tx = wire.request("OPTIONS", flow=TCP)
            for status in answers:
                wire.receive(response(status, "OPTIONS"), TCP)
            wire.take()
            wire.layer.flow_lost(TCP, wire.now)
            assert wire.take() == ["transport error"]
            assert tx.terminated
            assert len(wire.timers) == 0


class TestInviteServer:
    """Figure 7, RFC 6026 7.1 and 8.5."""

    def test_proceeding_repeats_the_last_provisional(self) -> None:
        wire = Recorder()
        assert wire.receive(request()) == [">> INVITE"]
        assert wire.receive(request()) == [], "nothing was answered yet"
        assert wire.respond(100) == ["<< 100"]
        assert wire.receive(request()) == ["<< 100"]
        assert wire.respond(180) == ["<< 180"]
        assert wire.receive(request()) == ["<< 180"]
        assert wire.requests[0].state == tables.PROCEEDING

    def test_proceeding_has_no_end_of_its_own(self) -> None:
        wire = Recorder()
        wire.receive(request())
        wire.respond(180)
        assert wire.pass_time(1000) == []
        assert len(wire.layer) == 1

    def test_failure_is_repeated_by_timer_g_until_timer_h(self) -> None:
        wire = Recorder()
        wire.receive(request())
        assert wire.respond(486) == ["<< 486"]
        assert wire.requests[0].state == tables.COMPLETED
        times = ["0.5", "1.5", "3.5", "7.5", "11.5", "15.5", "19.5", "23.5", "27.5", "31.5"]
        assert wire.pass_time(100) == [f"{time} << 486" for time in times]
        assert len(wire.layer) == len(wire.timers) == 0

    def test_failure_over_a_stream_is_sent_once(self) -> None:
        wire = Recorder()
        wire.receive(request(), TCP)
        assert wire.respond(486) == ["<< 486"]
        assert wire.pass_time(31.9) == []
        assert len(wire.layer) == 1
        wire.pass_time(32)
        assert len(wire.layer) == 0

    def test_completed_answers_the_invite_again(self) -> None:
        wire = Recorder()
        wire.receive(request())
        wire.respond(486)
        assert wire.receive(request()) == ["<< 486"]
        assert wire.respond(603) == [], "one final answer is enough"
        assert wire.respond(200) == []

    def test_confirmed_absorbs_until_timer_i(self) -> None:
        wire = Recorder()
        wire.receive(request())
        wire.respond(486)
        assert wire.receive(request("ACK")) == []
        tx = wire.requests[0]
        assert tx.state == tables.CONFIRMED
        assert wire.receive(request("ACK")) == []
        assert wire.receive(request()) == []
        assert wire.pass_time(4.9) == []
        assert tx.state == tables.CONFIRMED
        wire.pass_time(5)
        assert tx.terminated
        assert len(wire.timers) == 0

    def test_confirmed_over_a_stream_ends_at_once(self) -> None:
        wire = Recorder()
        wire.receive(request(), TCP)
        wire.respond(486)
        assert wire.receive(request("ACK"), TCP) == []
        assert len(wire.layer) == len(wire.timers) == 0

    def test_accepted_absorbs_the_invite_until_timer_l(self) -> None:
        wire = Recorder()
        wire.receive(request())
        assert wire.respond(200) == ["<< 200"]
        assert wire.receive(request()) == [], "the transaction user repeats its 2xx"
        assert wire.respond(200) == ["<< 200"]
        assert wire.respond(486) == []
        assert wire.respond(180) == []
        assert wire.pass_time(31.9) == []
        assert wire.requests[0].state == tables.ACCEPTED
        wire.pass_time(32)
        assert len(wire.layer) == 0

    def test_accepted_passes_the_ack_up(self) -> None:
        """Its branch should be another one (17.1.1.3), but not all clients know that."""
        wire = Recorder()
        wire.receive(request())
        wire.respond(200)
        assert wire.receive(request("ACK")) == [">> ACK"]
        assert wire.requests[0].state == tables.ACCEPTED

    def test_transport_error_is_told_before_the_final_answer_and_changes_nothing(self) -> None:
        for status, state, told in (
            (180, tables.PROCEEDING, ["caller lost"]),
            (486, tables.COMPLETED, []),
            (200, tables.ACCEPTED, []),
        ):
            wire = Recorder()
            wire.receive(request(), TCP)
            wire.respond(status)
            wire.layer.flow_lost(TCP, wire.now)
            assert wire.take() == told
            assert wire.requests[0].state == state

    def test_ack_before_the_answer_is_absorbed(self) -> None:
        wire = Recorder()
        wire.receive(request())
        assert wire.receive(request("ACK")) == []
        assert wire.requests[0].state == tables.PROCEEDING


class TestServer:
    """Figure 8."""

    def test_trying_absorbs_the_request_again(self) -> None:
        wire = Recorder()
        assert wire.receive(request("OPTIONS")) == [">> OPTIONS"]
        assert wire.requests[0].state == tables.TRYING
        assert wire.receive(request("OPTIONS")) == []

    def test_proceeding_repeats_the_provisional(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS"))
        assert wire.respond(100) == ["<< 100"]
        assert wire.requests[0].state == tables.PROCEEDING
        assert wire.respond(182) == ["<< 182"]
        assert wire.receive(request("OPTIONS")) == ["<< 182"]

    def test_final_from_trying_and_proceeding(self) -> None:
        for first in ([], [100]):
            for status in (200, 404):
                wire = Recorder()
                wire.receive(request("OPTIONS"))
                for provisional in first:
                    wire.respond(provisional)
                assert wire.respond(status) == [f"<< {status}"]
                assert wire.requests[0].state == tables.COMPLETED

    def test_completed_repeats_the_final_until_timer_j(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS"))
        wire.respond(200)
        assert wire.receive(request("OPTIONS")) == ["<< 200"]
        assert wire.respond(404) == []
        assert wire.receive(request("OPTIONS")) == ["<< 200"]
        assert wire.pass_time(31.9) == []
        assert len(wire.layer) == 1
        wire.pass_time(32)
        assert len(wire.layer) == 0
        assert wire.receive(request("OPTIONS")) == [">> OPTIONS"]

    def test_completed_over_a_stream_ends_at_once(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS"), TCP)
        assert wire.respond(200) == ["<< 200"]
        assert len(wire.layer) == len(wire.timers) == 0

    def test_transport_error_ends_it(self) -> None:
        for answers in ([], [100]):
            wire = Recorder()
            wire.receive(request("OPTIONS"), TCP)
            for status in answers:
                wire.respond(status)
            wire.layer.flow_lost(TCP, wire.now)
            assert wire.requests[0].terminated
            assert wire.respond(200) == []
            assert len(wire.layer) == 0

    def test_completed_transport_error(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS"))
        wire.respond(200)
        wire.layer._step(wire.requests[0], tables.ERROR, None, wire.now)
        assert len(wire.layer) == len(wire.timers) == 0


class TestTables:
    """Faults that a table can have."""

    ALL = (tables.INVITE_CLIENT, tables.CLIENT, tables.INVITE_SERVER, tables.SERVER)

    def test_arrows_lead_to_states_that_exist(self) -> None:
        for table in self.ALL:
            assert {arrow[1] for arrows in table.values() for arrow in arrows.values()} <= set(table)
            assert table[tables.TERMINATED] == {}

    def test_every_timer_that_is_started_has_an_arrow_where_it_fires(self) -> None:
        for table in self.ALL:
            for arrows in table.values():
                for actions, state in arrows.values():
                    for action in actions:
                        if len(action) == 1:
                            assert action in table[state], (action, state)
