"""What can be handed out of an architecture: its network in a format that others read, and with which weights."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from app.domain.search_space import SearchSpace
from app.domain.standalone_recipe import Retraining

ExportFormat = Literal["onnx", "safetensors", "python"]
WeightsSource = Literal["supernet", "retrained"]
SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "safetensors": ".safetensors", "python": ".py"}

DESCRIPTION_KEY = "description"
"""Under which the files' own metadata hold the description, as JSON."""


class Export(BaseModel):
    """A network to be written to a file by a worker.

    Attributes:
        code: M.
        format: ``onnx`` or ``safetensors``.
        weights: The supernet's, with the sub-network's own BN statistics, or those of a retraining.
        job_id: The retraining whose weights are taken, or the folder of its search in which they lie.
        retraining: What it trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    format: Literal["onnx", "safetensors"]
    weights: WeightsSource
    job_id: str | None = None
    retraining: Retraining | None = None

    @model_validator(mode="after")
    def _weights_are_somewhere(self) -> Self:
        is_retrained = self.weights == "retrained"
        if is_retrained != (self.job_id is not None) or is_retrained != (self.retraining is not None):
            raise ValueError("retrained weights need the job that trained them, the supernet's need none")
        return self

    def space_of(self, space: SearchSpace, proxy: SearchSpace) -> SearchSpace:
        """Return the space of the network that is handed out, given the search's target and proxy space."""
        return proxy if self.retraining is None else self.retraining.space_of(space, proxy)


def artifact_name(export_format: ExportFormat) -> str:
    """Return the file's name in the artifact directory of its job."""
    return f"export{SUFFIXES[export_format]}"
