"""Calls about devices: the latencies that lookups can limit."""

from typing import Any

from app.client.calls import Calls, Space, json_space
from app.client.paths import device_path
from app.domain.device_measurement import Runtime
from app.schemas.device import DeviceList, DeviceView
from app.schemas.search import SearchView


class DeviceCalls(Calls):
    """Calls about devices."""

    def devices(self) -> list[DeviceView]:
        """Return the devices that you may use; an item per device and search space."""
        return DeviceList.model_validate(self._api.get("/devices")).items

    def device(self, name: str) -> list[DeviceView]:
        """Return one device; an item per search space."""
        return DeviceList.model_validate(self._api.get(device_path(name))).items

    def register_device(self, name: str, search_space: Space = "fairnas", **latencies: Any) -> DeviceView:
        """Store a device's latencies, ``base_ms`` and ``cells_ms`` or ``csv``, in the place of those it had."""
        body = {"search_space": json_space(search_space), **latencies}
        return DeviceView.model_validate(self._api.put(device_path(name), body))

    def measure_device(
        self,
        name: str,
        search_space: Space = "fairnas",
        *,
        runtime: Runtime = "onnxruntime",
        threads: int = 1,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> SearchView:
        """Submit a job that measures the machine of the worker which takes it, and registers it under a name."""
        body = {"search_space": json_space(search_space), "runtime": runtime, "threads": threads}
        return self._submit(device_path(name, "measurement"), body, webhook_url, idempotency_key)

    def delete_device(self, name: str) -> None:
        """Delete a device for all search spaces."""
        self._api.delete(device_path(name))
