import threading

import pytest

from worker.nas.trie_walk import TrieWalk


@pytest.mark.parametrize("num_threads", [1, 3])
def test_every_task_is_visited_once(num_threads):
    visited = []

    def visit(number):
        visited.append(number)
        return [2 * number, 2 * number + 1] if number < 256 else []

    TrieWalk(visit).run([1], num_threads=num_threads, while_waiting=lambda: None)
    assert sorted(visited) == list(range(1, 512))


def test_one_thread_walks_depth_first_in_the_order_given():
    visited = []

    def visit(name):
        visited.append(name)
        return [name + "a", name + "b"] if len(name) < 2 else []

    TrieWalk(visit).run(["x", "y"], num_threads=1, while_waiting=lambda: None)
    assert visited == ["x", "xa", "xb", "y", "ya", "yb"]


def test_a_walk_can_be_taken_again():
    visited = []

    def visit(name):
        visited.append(name)
        return [name + "a"] if len(name) < 2 else []

    walk = TrieWalk(visit)
    for name in "xyz":
        walk.run([name], num_threads=2, while_waiting=lambda: None)
    assert sorted(visited) == ["x", "xa", "y", "ya", "z", "za"]


def test_a_walk_can_be_taken_again_after_an_error():
    visited = []

    def visit(name):
        visited.append(name)
        if name == "bad":
            raise ZeroDivisionError
        return []

    walk = TrieWalk(visit)
    with pytest.raises(ZeroDivisionError):
        walk.run(["bad", "left"], num_threads=1, while_waiting=lambda: None)
    walk.run(["x"], num_threads=1, while_waiting=lambda: None)
    assert visited == ["bad", "x"]


def test_nothing_to_do_ends_at_once():
    TrieWalk(lambda _: []).run([], num_threads=2, while_waiting=lambda: None)


def test_what_a_visit_raises_is_passed_on_and_stops_the_others():
    def visit(number):
        if number == 5:
            raise ZeroDivisionError("five")
        return [number + 1]  # endless without the error

    with pytest.raises(ZeroDivisionError, match="five"):
        TrieWalk(visit).run([0, 1], num_threads=2, while_waiting=lambda: None)


def test_what_the_waiting_thread_raises_stops_the_walk():
    def cancel():
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        TrieWalk(lambda number: [number + 1]).run([0], num_threads=2, while_waiting=cancel)
    assert threading.active_count() == before
