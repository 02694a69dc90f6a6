"""The form that submits a search, and what it says about the data set that is chosen."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from app.api.authentication import Reader
from app.api.dependencies import AppSettings
from app.dashboard.rendering import PageRoute, page
from app.domain.data_sets import DataSetError, DataSetInfo, available, inspect_data_set, is_hub_data_set
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import PRESETS

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
def show_form(request: Request, settings: AppSettings, caller: Reader) -> HTMLResponse:
    """Show the form."""
    configs = {name: from_preset(name, {}) for name in _PRESETS}
    return page(
        request,
        "submit.html",
        who=caller,
        data_sets=available(settings.data_root),
        spaces=sorted(PRESETS.values(), key=lambda space: space.name),
        example_space=json.dumps(_EXAMPLE_SPACE, indent=2),
        asked=[
            {**_field(name, configs), "label": label, "description": hint} for name, (label, hint) in _ASKED.items()
        ],
        all_fields=[_field(name, configs) for name in SearchConfig.model_fields],
        may_submit="submit" in caller.scopes,
    )


@router.get("/data-set")
def show_data_set(
    request: Request, settings: AppSettings, caller: Reader, dataset: Annotated[str, Query(max_length=200)] = ""
) -> HTMLResponse:
    """Say what a data set holds, beside the field that names it."""
    info: DataSetInfo | None = None
    error = None
    try:
        is_hub = is_hub_data_set(dataset)
        info = None if is_hub or not dataset else inspect_data_set(dataset, settings.data_root)
    except DataSetError as found:
        is_hub, error = False, str(found)
    return page(request, "parts/data_set.html", who=caller, info=info, is_hub=is_hub, error=error)


def _field(name: str, configs: dict[str, SearchConfig]) -> dict[str, Any]:
    """A field of the configuration as the form shows it, with each preset's value."""
    values = {preset: json.dumps(getattr(config, name)) for preset, config in configs.items()}
    return {"name": name, "description": SearchConfig.model_fields[name].description or "", "values": values}
