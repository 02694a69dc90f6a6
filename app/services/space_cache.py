"""Search spaces and their costs, read from a search's row once and kept: they never change."""

import json
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.domain.multi_adds import Cost, count, feasible_range
from app.domain.search_space import SearchSpace


@dataclass(frozen=True)
class SearchedSpace:
    """The target space of a search, the proxy that is trained in its place, and the range of both's costs.

    Attributes:
        space: The search space S.
        proxy: The space of the networks that are really trained.
        target_costs: Smallest and largest cost of the target's architectures.
        proxy_costs: The same of the proxy's.
    """

    space: SearchSpace
    proxy: SearchSpace
    target_costs: tuple[Cost, Cost]
    proxy_costs: tuple[Cost, Cost]

    def cost(self, code: str) -> Cost:
        """Cost of the target network of an architecture."""
        return count(self.space, self.space.parse_code(code))

    def readable(self, code: str) -> str:
        """The names of an architecture's choices."""
        return self.space.readable(self.space.parse_code(code))


@lru_cache(maxsize=256)
def _searched_space(space_json: str, resolution: int | None, width: float, num_classes: int | None) -> SearchedSpace:
    space = SearchSpace.model_validate_json(space_json)
    proxy = space.proxy(resolution=resolution, width=width, num_classes=num_classes)
    return SearchedSpace(space, proxy, feasible_range(space), feasible_range(proxy))


def searched_space(_search_id: uuid.UUID, space: dict[str, Any], config: dict[str, Any]) -> SearchedSpace:
    """Return the spaces of a search from the JSON of its row; searches of the same spaces share them."""
    # validated when they were stored
    return _searched_space(
        json.dumps(space), config.get("proxy_resolution"), config.get("proxy_width", 1.0), config.get("num_classes")
    )
