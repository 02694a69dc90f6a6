"""Answers of the routes for those who run the service."""

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """Everything that the service needs is there."""

    status: Literal["ready"] = "ready"
