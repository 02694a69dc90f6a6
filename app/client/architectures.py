"""Calls about what searches found: pairs, tables, architectures, their training and their networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from app.client.calls import Calls, SearchId, read_pages
from app.client.paths import architecture_path, search_path
from app.client.results import Lookup, Pairs, Pareto, Table
from app.domain.architecture_export import ExportFormat, WeightsSource
from app.domain.standalone_recipe import RecipeName
from app.schemas.search import ArchitectureView, PairView, SearchView

_PAIRS = TypeAdapter(tuple[PairView, ...])


class ArchitectureCalls(Calls):
    """Calls about architectures."""

    def pairs(
        self,
        search_id: SearchId,
        *,
        round_index: int | None = None,
        source: Literal["sampled", "reevaluated"] | None = None,
        limit: int = 0,
    ) -> Pairs:
        """Return the arch-accuracy pairs of a search; all of them where ``limit`` is 0."""
        path = search_path(search_id, "pairs")
        return Pairs(_PAIRS.validate_python(read_pages(self._api, path, limit, round_index=round_index, source=source)))

    def lookup(
        self,
        *,
        max_madds: float | None = None,
        max_params: float | None = None,
        max_latency_ms: Mapping[str, float] | None = None,
        devices: Sequence[str] = (),
        search_id: SearchId | None = None,
        round_index: int | None = None,
        scope: Literal["table", "space"] = "table",
        limit: int = 10,
    ) -> Lookup:
        """Return the best architectures under limits, in millions and milliseconds.

        Args:
            max_madds: Limit of the multi-adds.
            max_params: Limit of the parameters.
            max_latency_ms: Limit by device.
            devices: Devices whose latency is shown, without limits; not together with ``max_latency_ms``.
            search_id: By default the latest succeeded search.
            round_index: By default the search's last table.
            scope: A round's table, or the whole search space.
            limit: How many, 1 to 100.
        """
        limits = dict(max_latency_ms or {})
        answer = self._api.get(
            "/lookup",
            max_madds=max_madds,
            max_params=max_params,
            device=[*limits, *devices] or None,
            max_latency_ms=list(limits.values()) or None,
            search_id=search_id,
            round_index=round_index,
            scope=scope,
            limit=limit,
        )
        return Lookup.model_validate(answer)

    def pareto(
        self,
        *,
        cost: Literal["multi_adds", "params"] = "multi_adds",
        search_id: SearchId | None = None,
        round_index: int | None = None,
    ) -> Pareto:
        """Return the architectures of a table that no other beats in both predicted accuracy and the cost."""
        answer = self._api.get("/lookup/pareto", cost=cost, search_id=search_id, round_index=round_index)
        return Pareto.model_validate(answer)

    def table(self, search_id: SearchId, round_index: int) -> Table:
        """Return a whole lookup table; of 279,936 rows some megabytes."""
        path = search_path(search_id, "rounds", str(round_index), "table")
        return Table(self._api.read(path, format="parquet"))

    def architecture(self, search_id: SearchId, code: str) -> ArchitectureView:
        """Return all that a search knows of one architecture."""
        return ArchitectureView.model_validate(self._api.get(architecture_path(search_id, code)))

    def retrain(
        self,
        search_id: SearchId,
        code: str,
        *,
        recipe: RecipeName = "small",
        network: Literal["proxy", "target"] = "proxy",
        from_supernet: bool = False,
        num_classes: int | Literal["all"] | None = None,
        num_images: int | Literal["all"] | None = None,
        validation_fraction: float | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> SearchView:
        """Submit the training of one architecture by itself.

        Args:
            search_id: The search.
            code: M.
            recipe: ``small`` or ``paper``.
            network: The one that the search trained (``proxy``), or the one that limits are about (``target``).
            from_supernet: Begin with the supernet's weights.
            num_classes: A random class subset, or ``"all"`` classes; None: the search's.
            num_images: At most so many images, or ``"all"``; None: the search's.
            validation_fraction: Share of the images in D_val; None: the search's.
            webhook_url: Told when it has ended.
            idempotency_key: The same key gives the same job.
            **fields: Those of the recipe, and ``seed``.

        Returns:
            The job; :meth:`wait` for it as for a search.
        """
        body = {"recipe": recipe, "network": network, "from_supernet": from_supernet, **fields}
        images = {"num_classes": num_classes, "num_images": num_images, "validation_fraction": validation_fraction}
        body |= {name: value for name, value in images.items() if value is not None}
        path = architecture_path(search_id, code, "retraining")
        return self._submit(path, body, webhook_url, idempotency_key)

    def export(
        self,
        search_id: SearchId,
        code: str,
        target: Path | str,
        *,
        format: ExportFormat = "onnx",  # noqa: A002 - the route's own name
        weights: WeightsSource = "supernet",
    ) -> Path:
        """Write an architecture's network to a file, waiting for the job that makes it where it is new.

        Raises:
            SearchEndedError: If that job has failed or was cancelled.
            OSError: If the file cannot be written.
        """
        path, file = architecture_path(search_id, code, "export"), Path(target)
        while (job := self._api.download(path, file, format=format, weights=weights)) is not None:
            # waits for the end of a job each time: a file that goes in between is made again
            self.wait(job["id"])
        return file
