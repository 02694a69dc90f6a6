"""The cells of an architecture, one by one, and how two architectures differ."""

from pydantic import BaseModel, Field


class CellView(BaseModel):
    """One cell of an architecture with the operator that it chose."""

    cell_index: int
    choice: int
    label: str = Field(description="The choice's name, e.g. K3E6.")
    kernel_size: int | None = Field(description="Null for the identity.")
    expansion: int | None = Field(description="Null for the identity.")
    se_ratio: float
    stride: int
    in_channels: int
    out_channels: int
    resolution: int = Field(description="Output height and width in pixels.")
    keeps_shape: bool = Field(description="Whether it has a residual connection.")
    multi_adds: int
    params: int


class CellDifference(BaseModel):
    """A cell in which two architectures chose differently."""

    first: CellView
    second: CellView
    multi_adds: int = Field(description="What the second has more.")
    params: int = Field(description="What the second has more.")
