"""The programs that a stack starts."""

from pathlib import Path

from app.embedded.services import ServicePlan, default_services


def test_default_services_are_the_api_a_worker_and_the_reaper(tmp_path: Path) -> None:
    plan = ServicePlan(tmp_path, "127.0.0.1", 8123, with_workers=True)
    assert [spec.name for spec in default_services(plan)] == ["api", "worker", "reaper"]
    assert "8123" in default_services(plan)[0].command
    assert [spec.name for spec in default_services(ServicePlan(tmp_path, "::1", 1, with_workers=False))] == ["api"]
