"""Lower rates in graph mode, where a compiled graph may contain a rate as a constant."""

from steering import SMALL, begins_exactly, plateau_changes


def test_plateau_changes_what_a_graph_trains(inside, three):
    plateau_changes(three | SMALL | {"mode": "graph"})


def test_a_rollback_begins_exactly_where_the_epoch_began_in_a_graph(inside, three, monkeypatch):
    begins_exactly(three | {"mode": "graph"}, monkeypatch)
