"""Calls about data sets: those there are, what they hold, and uploads of one's own."""

from pathlib import Path

from app.client.calls import Calls
from app.client.paths import data_set_path
from app.schemas.data_set import DataSetList, DataSetSummary, DataSetView, UploadView


class DataSetCalls(Calls):
    """Calls about data sets."""

    def data_sets(self) -> list[DataSetSummary]:
        """Return the data sets that you may search on."""
        return DataSetList.model_validate(self._api.get("/datasets")).items

    def data_set(self, name: str, *, examine: int | None = None) -> DataSetView:
        """Return what a data set holds; ``examine`` of its images are decoded in full, by default as for a search."""
        return DataSetView.model_validate(self._api.get(data_set_path(name), examine=examine))

    def upload_data_set(self, name: str, archive: Path | str) -> UploadView:
        """Upload a zip archive of images as a data set of your own.

        Raises:
            OSError: If the file cannot be read.
        """
        with Path(archive).open("rb") as content:
            return UploadView.model_validate(self._api.upload(data_set_path(name), content))

    def delete_data_set(self, name: str) -> None:
        """Delete a data set that you have uploaded."""
        self._api.delete(data_set_path(name))
