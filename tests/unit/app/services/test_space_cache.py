"""Spaces of stored searches: built once for all searches of the same ones."""

import uuid

from app.domain.multi_adds import count, feasible_range
from app.domain.search_config import from_preset
from app.domain.search_space import preset
from app.services.space_cache import searched_space

SPACE = preset("nas-bench-macro")
SPACE_JSON = SPACE.model_dump(mode="json")


def test_the_target_is_as_it_was_stored_and_the_proxy_as_it_was_trained() -> None:
    config = from_preset("quick", {"proxy_resolution": 16, "num_classes": 5}).model_dump(mode="json")
    searched = searched_space(uuid.uuid4(), SPACE_JSON, config)
    assert searched.space == SPACE
    assert searched.proxy == SPACE.proxy(resolution=16, width=0.25, num_classes=5)
    assert searched.target_costs == feasible_range(SPACE)
    assert searched.proxy_costs == feasible_range(searched.proxy)


def test_a_search_of_before_there_were_proxies_trained_its_target() -> None:
    searched = searched_space(uuid.uuid4(), SPACE_JSON, {})
    assert searched.proxy == SPACE.proxy()
    assert searched.proxy_costs == searched.target_costs


def test_searches_of_the_same_spaces_share_them_and_others_do_not() -> None:
    config = {"proxy_width": 0.5}
    first, again = (searched_space(uuid.uuid4(), dict(SPACE_JSON), dict(config)) for _ in range(2))
    assert first is again
    assert searched_space(uuid.uuid4(), SPACE_JSON, {"proxy_width": 0.25}) is not first
    renamed = searched_space(uuid.uuid4(), {**SPACE_JSON, "name": "mine"}, config)
    assert renamed.space.name == "mine"


def test_an_architecture_by_its_code() -> None:
    searched = searched_space(uuid.uuid4(), SPACE_JSON, {})
    assert searched.cost("12212021") == count(SPACE, (1, 2, 2, 1, 2, 0, 2, 1))
    assert searched.readable("00000000") == " ".join(["ID"] * 8)
