"""The attack on deadlines, with few answers: nothing wrong is taken, and no call waits for the server."""

from benchmarks.network.deadline import attack


def test_a_hostile_server_gives_no_wrong_answer_and_holds_nobody_up():
    figures = attack(60, deadlines_ms=(5, 20))
    assert figures.wrong == 0
    assert figures.right > 0
    assert figures.right + sum(figures.errors.values()) == figures.answers
    assert set(figures.errors) <= {"DeadlineError", "ProtocolError", "TokenError", "UnreachableError"}
    assert figures.late == figures.late_with_control + figures.late_alone
    assert figures.late_with_control <= figures.control_late <= figures.answers
    assert figures.latest_less_all_waits_ms < 250  # the server hangs for 500
