"""Answers of the routes for those who run the service."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "version": "0.1.0"}]})

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """Everything that the service needs is there."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready"}]})

    status: Literal["ready"] = "ready"
