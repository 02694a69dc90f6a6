"""The plot of ``benchmarks.scaling``: time and memory over size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured part.

    Attributes:
        part: What was measured.
        size: Nodes of the subspace, tables, or workers.
        seconds: Median time.
        peak_mb: Peak memory of its process and of the servers that it asks; None where several workers take part.
    """

    part: str
    size: int
    seconds: float
    peak_mb: int | None


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw time, memory and lookups over size: time on a logarithmic scale, the others from zero."""
    # only where it is drawn: the library would count in the memory of every part that is measured
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    of_tables = [f for f in figures if f.part == "lookup among tables"]
    of_subspaces = [f for f in figures if f.part not in ("lookup among tables", "evaluate by workers")]
    figure, (times, memory, tables) = pyplot.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    for part in dict.fromkeys(f.part for f in of_subspaces):
        points = [f for f in of_subspaces if f.part == part]
        sizes = [f.size for f in points]
        times.plot(sizes, [f.seconds for f in points], marker="o", label=part)
        memory.plot(sizes, [f.peak_mb for f in points], marker="o", label=part)
    tables.plot([f.size for f in of_tables], [1000 * f.seconds for f in of_tables], marker="o", color="C4")
    times.set(title="seconds", xlabel="architectures in the subspace", yscale="log")
    memory.set(title="peak memory, MB", xlabel="architectures in the subspace")
    tables.set(title="a lookup, milliseconds", xlabel="tables stored")
    for axes in (times, memory, tables):
        axes.set_xscale("log")
        axes.grid(visible=True, which="major", alpha=0.3)
    for axes in (memory, tables):
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
