"""The form that submits a search."""

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import AppSettings, Database
from app.dashboard.rendering import PageRoute, page
from app.db.engine import transaction
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import PRESETS
from app.services import data_sets

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)

_PRESETS = ("quick", "paper")
_ASKED = {
    "epochs": ("Epochs", "Passes over the images, to train the supernet."),
    "num_images": ("Images", "At most this many, each class in proportion."),
    "num_sampled": ("Sampled architectures", "Evaluated in every round."),
    "num_reevaluated": ("Re-evaluated architectures", "The best of every round's table."),
    "proxy_resolution": ("Resolution of the proxy", "Pixels that the trained networks see."),
    "proxy_width": ("Width of the proxy", "Multiplier of the trained networks' channels."),
}
"""The fields that have a place of their own in the form: they decide how long a search takes."""

_EXAMPLE_SPACE = {
    "name": "my-space",
    "input_resolution": 32,
    "num_classes": 10,
    "stem": {"out_channels": 16, "stride": 1},
    "cells": [
        {
            "out_channels": channels,
            "stride": stride,
            "choices": [{"kernel_size": k, "expansion": e} for e in (3, 6) for k in (3, 5)],
        }
        for channels, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (32, 1))
    ],
    "head": {"out_channels": 128},
}


@router.get("/submit")
def show_form(request: Request, engine: Database, settings: AppSettings, caller: Reader) -> HTMLResponse:
    """Show the form."""
    with transaction(engine) as session:
        found = data_sets.list_data_sets(session, caller, settings)
    configs = {name: from_preset(name, {}) for name in _PRESETS}
    return page(
        request,
        "submit.html",
        who=caller,
        data_sets=[item.name for item in found.items],
        spaces=sorted(PRESETS.values(), key=lambda space: space.name),
        example_space=json.dumps(_EXAMPLE_SPACE, indent=2),
        asked=[
            {**_field(name, configs), "label": label, "description": hint} for name, (label, hint) in _ASKED.items()
        ],
        all_fields=[_field(name, configs) for name in SearchConfig.model_fields],
        may_submit="submit" in caller.scopes,
    )


def _field(name: str, configs: dict[str, SearchConfig]) -> dict[str, Any]:
    """A field of the configuration as the form shows it, with each preset's value."""
    values = {preset: json.dumps(getattr(config, name)) for preset, config in configs.items()}
    return {"name": name, "description": SearchConfig.model_fields[name].description or "", "values": values}
