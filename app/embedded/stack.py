"""The whole service on one machine: servers, migrations, API, worker and reaper, up and down as one thing."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.db.migrate import migrate
from app.embedded.api_endpoint import ApiEndpoint
from app.embedded.directories import make_socket_directory, remove_socket_directory
from app.embedded.errors import DirectoryInUseError, EmbeddedStackError
from app.embedded.lifecycle import Startable
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.process import ChildProcess, ProcessSpec
from app.embedded.process_table import is_alive
from app.embedded.running_stack import RunningStack, read_stack_file, remove_stack_file, stack_lock
from app.embedded.services import ServiceList, ServicePlan, ServiceSpec, default_services
from app.embedded.supervision import ServiceFailure, Supervised
from app.embedded.valkey import EmbeddedValkey
from app.settings import Settings
from app.thread_waiting import THREAD_WAITING

_IMPORT_ROOT = Path(__file__).resolve().parents[2]
_PREDECESSOR_TIMEOUT_S = 45.0
_READY_TIMEOUT_S = 120.0


class Stack(Startable):
    """PostgreSQL, Valkey, the API, a worker and the reaper, started in order and stopped in order.

    Whatever ends this process, SIGKILL included, ends all of them. Data, logs, artifacts and the lock live in the state
    directory; sockets in a short-lived directory of their own.

    Args:
        state_dir: Where everything is kept; made if need be. One stack at a time works on it.
        with_workers: False for the API alone (the workers are elsewhere).
        api_host: Where the API listens.
        api_port: Its port; None for a free one.
        database_url: A PostgreSQL server to use instead of our own; by default ``NASATLAS_DATABASE_URL``, if set.
        broker_url: A Redis server to use instead of our own; by default ``NASATLAS_BROKER_URL``, if set.
        artifact_url: Where checkpoints and weights go; by default ``NASATLAS_ARTIFACT_URL``, else below the state
            directory.
        services: The programs to run.
        migrate: Brings the schema of a database URL to the newest version.
        on_phase: Told what the start and the stop are doing, in words for the user.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        with_workers: bool = True,
        api_host: str = "127.0.0.1",
        api_port: int | None = None,
        database_url: str | None = None,
        broker_url: str | None = None,
        artifact_url: str | None = None,
        services: ServiceList = default_services,
        migrate: Callable[[str], None] = migrate,
        on_phase: Callable[[str], None] | None = None,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._with_workers = with_workers
        self._api_host = api_host
        self._api_port = api_port
        settings = Settings()
        self._given_database_url = database_url or settings.database_url
        self._given_broker_url = broker_url or settings.broker_url
        self._artifact_url = artifact_url or settings.artifact_url or f"file://{self._state_dir / 'artifacts'}"
        self._services = services
        self._migrate = migrate
        self._on_phase = on_phase
        self._programs: list[Supervised] = []
        self._cleanup = contextlib.ExitStack()
        self._running: RunningStack | None = None

    @property
    def state_dir(self) -> Path:
        """The state directory, absolute."""
        return self._state_dir

    @property
    def url(self) -> str:
        """Where the API answers, e.g. ``http://127.0.0.1:41234``."""
        return self.running.api_url

    @property
    def running(self) -> RunningStack:
        """The addresses of the stack while it is up."""
        assert self._running is not None, "the stack is not up"
        return self._running

    def start(self) -> None:
        """Start everything and return when the API says that it is ready.

        Raises:
            DirectoryInUseError: Another stack works on the state directory.
            EmbeddedStackError: Something cannot start; what was started is stopped again.
        """
        try:
            self._lock()
            socket_dir = self._make_socket_dir()
            database_url = self._given_database_url or self._start_postgres(socket_dir)
            broker_url = self._given_broker_url or self._start_valkey(socket_dir)
            self._tell("bringing the database schema up to date")
            self._migrate(database_url)
            endpoint = ApiEndpoint.choose(self._api_host, self._api_port)
            running = RunningStack(
                pid=os.getpid(),
                api_url=endpoint.url,
                database_url=database_url,
                broker_url=broker_url,
                socket_dir=None if socket_dir is None else str(socket_dir),
            )
            self._start_services(running, endpoint)
            self._wait_until_ready(endpoint)
            running.write(self._state_dir)
            self._running = running
        except BaseException:
            self.stop()
            raise
        self._tell(f"ready at {running.api_url}")

    def stop(self) -> None:
        """Stop everything in the reverse order, and wait until it is gone. Nothing happens if nothing is up."""
        if self._programs:
            self._tell("stopping")
        self._running = None
        try:
            self._cleanup.close()
        finally:
            self._programs = []

    def pid(self, name: str) -> int:
        """Return the process that holds a program, its guardian; what runs descends from it.

        Raises:
            ValueError: If no program of the stack has that name.
        """
        for program in self._programs:
            if program.process.spec.name == name:
                return program.process.pid
        raise ValueError(f"there is no {name!r}; there are {', '.join(p.process.spec.name for p in self._programs)}")

    def failures(self) -> list[ServiceFailure]:
        """Return the programs that have ended by themselves, each with the end of its log."""
        return [failure for program in self._programs if (failure := program.failure()) is not None]

    def keep_up(self) -> list[ServiceFailure]:
        """Start programs again that have ended by themselves; to be called every now and then.

        Returns:
            Those that have ended too often to be started again.

        Raises:
            EmbeddedStackError: One cannot be started again.
        """
        given_up = []
        for program in self._programs:
            failure = program.failure()
            if failure is None:
                continue
            if program.start_again():
                self._tell(f"{failure.name} ended with status {failure.exit_status}, started again")
            else:
                given_up.append(failure)
        return given_up

    def wait(self, timeout_s: float | None = None) -> list[ServiceFailure]:
        """Keep everything up until a program ends again and again.

        Args:
            timeout_s: How long at most; None for ever.

        Returns:
            What was given up, empty after the time.

        Raises:
            EmbeddedStackError: A program cannot be started again.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (failures := self.keep_up()):
            if deadline is not None and time.monotonic() >= deadline:
                return []
            time.sleep(0.2)
        return failures

    def _tell(self, phase: str) -> None:
        if self._on_phase is not None:
            # The terminal may be gone (SIGHUP); that must not keep us from stopping the rest.
            with contextlib.suppress(OSError):
                self._on_phase(phase)

    def _lock(self) -> None:
        self._state_dir.mkdir(parents=True, exist_ok=True)
        lock = stack_lock(self._state_dir)
        try:
            lock.acquire()
        except DirectoryInUseError:
            self._refuse_if_owned(lock.holder())
            # The owner is dead (SIGKILL), its programs are just ending: they hold the lock until the last is gone.
            self._tell("waiting for the programs of an earlier run to end")
            try:
                lock.acquire(_PREDECESSOR_TIMEOUT_S)
            except DirectoryInUseError:
                self._refuse_if_owned(lock.holder())
                raise
        self._cleanup.callback(lock.release)
        self._lock_fd = lock.fd
        predecessor = read_stack_file(self._state_dir)
        if predecessor is not None and predecessor.socket_dir is not None:
            remove_socket_directory(Path(predecessor.socket_dir))
        remove_stack_file(self._state_dir)
        self._cleanup.callback(remove_stack_file, self._state_dir)

    def _refuse_if_owned(self, holder: int | None) -> None:
        if holder is None or not is_alive(holder):
            return
        other = read_stack_file(self._state_dir)
        where = f"its API is {other.api_url}" if other is not None and other.pid == holder else "it is just starting"
        raise DirectoryInUseError(
            f"A stack already runs on {self._state_dir}: process {holder}, {where}. Use it, stop it (kill {holder}), "
            "or give another directory with NASATLAS_STATE_DIR."
        )

    def _make_socket_dir(self) -> Path | None:
        if self._given_database_url and self._given_broker_url:
            return None
        socket_dir = make_socket_directory()
        self._cleanup.callback(remove_socket_directory, socket_dir)
        return socket_dir

    def _start_postgres(self, socket_dir: Path | None) -> str:
        assert socket_dir is not None
        data_dir = self._state_dir / "postgres"
        self._tell("starting PostgreSQL" if data_dir.exists() else "creating the database (first start only)")
        return self._start_server(EmbeddedPostgres(data_dir, socket_dir, log_path=self._log_path("postgres")))

    def _start_valkey(self, socket_dir: Path | None) -> str:
        assert socket_dir is not None
        self._tell("starting Valkey")
        return self._start_server(
            EmbeddedValkey(self._state_dir / "valkey", socket_dir, log_path=self._log_path("valkey"))
        )

    def _start_server(self, server: EmbeddedPostgres | EmbeddedValkey) -> str:
        def restart() -> ChildProcess:
            server.stop()  # its lock, and what a killed one left
            server.start()
            assert server.process is not None
            return server.process

        self._cleanup.callback(server.stop)
        url = server.start()
        assert server.process is not None
        self._programs.append(Supervised(server.process, restart))
        return url

    def _start_services(self, running: RunningStack, endpoint: ApiEndpoint) -> None:
        plan = ServicePlan(self._state_dir, endpoint.host, endpoint.port, self._with_workers)
        (self._state_dir / "beat").mkdir(exist_ok=True)
        # counts of an earlier run are not this one's
        shutil.rmtree(self._metrics_dir, ignore_errors=True)
        self._metrics_dir.mkdir()
        environment = self._service_environment(running, endpoint)
        specs = list(self._services(plan))
        self._tell(f"starting {', '.join(spec.name for spec in specs)}")
        services: list[Supervised] = []
        self._cleanup.callback(_stop_together, services)
        for spec in specs:
            start = partial(self._start_service, spec, environment)
            services.append(Supervised(start(), start))
            self._programs.append(services[-1])

    def _start_service(self, spec: ServiceSpec, environment: dict[str, str]) -> ChildProcess:
        child = ChildProcess(
            ProcessSpec(
                name=spec.name,
                command=spec.command,
                log_path=self._log_path(spec.name),
                env=environment,
                stop_signals=spec.stop_signals,
                inherited_fds=(self._lock_fd,),
            )
        )
        child.start()
        return child

    def _service_environment(self, running: RunningStack, endpoint: ApiEndpoint) -> dict[str, str]:
        # The services import the same code as we do, also from a checkout that is not installed.
        import_path = [str(_IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**THREAD_WAITING, **os.environ} | {
            "NASATLAS_DATABASE_URL": running.database_url,
            "NASATLAS_BROKER_URL": running.broker_url,
            # on any other address than loopback the API needs keys, or does not start
            "NASATLAS_HOST": endpoint.host,
            "NASATLAS_STATE_DIR": str(self._state_dir),
            "NASATLAS_ARTIFACT_URL": self._artifact_url,
            "PYTHONPATH": os.pathsep.join(import_path),
            "PYTHONUNBUFFERED": "1",
            # One API process is one core; what they count is added up.
            "WEB_CONCURRENCY": os.environ.get("WEB_CONCURRENCY") or "2",
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics_dir),
        }

    def _wait_until_ready(self, endpoint: ApiEndpoint) -> None:
        self._tell("waiting for the API")
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not endpoint.is_ready():
            failures = self.failures()
            if failures:
                raise EmbeddedStackError("\n".join(str(failure) for failure in failures))
            if time.monotonic() > deadline:
                raise EmbeddedStackError(
                    f"The API was not ready after {_READY_TIMEOUT_S:g} s; see the logs in {self._state_dir / 'logs'}."
                )
            time.sleep(0.05)

    @property
    def _metrics_dir(self) -> Path:
        return self._state_dir / "metrics"

    def _log_path(self, name: str) -> Path:
        return self._state_dir / "logs" / f"{name}.log"


def _stop_together(services: list[Supervised]) -> None:
    """Ask all to stop, then wait for each: the stop takes as long as the slowest, not as long as the sum."""
    for service in services:
        service.process.signal_stop()
    with contextlib.ExitStack() as rest:
        for service in services:
            rest.callback(service.process.stop)
