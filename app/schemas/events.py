"""What the event stream of a search carries beside the search itself."""

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.search import SearchState


class MilestoneView(BaseModel):
    """Something that a search has reached for good. None is ever missed by a client that resumes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sequence": 4,
                    "at": "2026-01-05T10:03:20Z",
                    "kind": "step_done",
                    "state": None,
                    "step": "evaluate_shard",
                    "round_index": 0,
                    "shard_index": 1,
                }
            ]
        }
    )

    sequence: int = Field(description="1, 2, 3, ... of this search, without gaps.")
    at: dt.datetime
    kind: Literal["state", "step_done"]
    state: SearchState | None = Field(description="The new state, of a change of the state.")
    step: str | None = Field(description="The kind of the step that is done, e.g. `fit_gcn`.")
    round_index: int | None
    shard_index: int | None
