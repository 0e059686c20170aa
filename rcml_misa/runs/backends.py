"""Where runs go: workers of this machine, or of a dask, ray or SLURM cluster, through joblib."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from rcml_misa.exceptions import OptionError, nearest, shortened
from rcml_misa.runs.interrupts import group_spared, handlers_left, interrupts_deferred
from rcml_misa.runs.parent import follow_parent

__all__ = ["ENGINES", "Engine", "EngineName"]

EngineName = Literal["local", "dask", "ray", "slurm"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
CONNECT = 10  # seconds that a scheduler has to answer
OURS = "rcml-misa-"  # begins the names that joblib knows our backends by
HERE = "local"  # address for SLURM: processes of this machine in place of jobs
HOURS = 12  # of a job of SLURM, unless the address says otherwise


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Choice of what carries out runs.

    Parameters
    ----------
    name : {"local", "dask", "ray", "slurm"}
        ``"local"``: processes of this machine (loky).
    address : str, optional
        Of a dask scheduler or a ray cluster that is there; without one, both are started on this
        machine for the time of the runs. For SLURM, parameters of submitit such as
        ``partition=gpu,time=120,mem_gb=8``, or ``local``.
    jobs : int
        Workers. On a cluster that is there: runs at a time.

    Raises
    ------
    OptionError
        If there is no such engine, or it takes no address.

    Examples
    --------
    >>> Engine(name="dask", jobs=2)
    Engine(name='dask', address=None, jobs=2)
    """

    name: EngineName = "local"
    address: str | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise OptionError(f"there is no engine {self.name!r}; {nearest(self.name, ENGINES)}")
        if self.name == "local" and self.address is not None:
            raise OptionError(
                f"the local engine has no address {self.address}; choose --engine dask, ray or "
                "slurm with it."
            )
        if self.address is not None and not self.address.strip():
            raise OptionError(
                "the address of the engine is empty; give one, or leave --address out."
            )

    @property
    def here(self) -> bool:
        """Whether runs are made in this process."""
        return self.name == "local" and self.jobs == 1

    @contextmanager
    def start(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Start or reach the workers; give joblib's options that send calls to them.

        Files of the engine's own go to `folder`. An engine that isn't installed, or doesn't answer,
        is an `OptionError`.
        """
        if self.here:
            yield {"n_jobs": 1, "backend": "sequential"}
            return
        from multiprocessing import resource_tracker

        # as it starts it lets Ctrl-C through to workers that start later; see `interrupts_deferred`
        with group_spared():
            resource_tracker.ensure_running()
        with ExitStack() as stack:
            try:
                options = _STARTS[self.name](self, folder, stack)
            except ImportError as error:
                raise OptionError(
                    f"--engine {self.name} needs the package {error.name or self.name}, which is "
                    f"not installed; pip install 'rcml-misa[{self.name}]'."
                ) from error
            yield {"n_jobs": self.jobs, "batch_size": 1, **options}

    @contextmanager
    def spread(self, folder: Path) -> Iterator[None]:
        """Let joblib's calls without options of their own, those of a fit, go over the workers.

        Those of the local engine are threads. A worker that dies ends the fit. Files of the
        engine's own go to `folder`.

        Raises
        ------
        OptionError
            As by `start`; for SLURM, whose jobs wait longer than a part of a fit takes.
        """
        from joblib import parallel_config, register_parallel_backend

        if self.name == "slurm":
            raise OptionError(
                "a fit does not go over jobs of SLURM; choose --engine local, dask or ray."
            )
        with self.start(folder) as options:
            # threads share the libraries and the table's sample, of which processes hold copies
            backend = "sequential" if self.here else "threading"
            if self.name != "local":
                backend = f"{OURS}fit"
                register_parallel_backend(backend, _plain(self.name))
            with parallel_config(backend, n_jobs=options["n_jobs"], temp_folder=str(folder)):
                yield


def _plain(name: EngineName) -> type[Any]:
    """Find joblib's backend of an engine, for calls of which none may be lost."""
    if name == "dask":
        from joblib._dask import DaskDistributedBackend

        return cast("type[Any]", DaskDistributedBackend)
    from ray.util.joblib.ray_backend import RayBackend

    return cast("type[Any]", RayBackend)


def _start_local(engine: Engine, folder: Path, stack: ExitStack) -> dict[str, Any]:  # noqa: ARG001
    from joblib import parallel_config

    stack.enter_context(parallel_config("loky", inner_max_num_threads=1))
    return {
        "pre_dispatch": 2 * engine.jobs,
        "initializer": follow_parent,
        "initargs": (os.getpid(),),
        "max_nbytes": None,  # data sets are mapped already
    }


def _start_dask(engine: Engine, folder: Path, stack: ExitStack) -> dict[str, Any]:
    import dask
    from distributed import Client, LocalCluster
    from joblib import parallel_config, register_parallel_backend
    from joblib._dask import DaskDistributedBackend

    register_parallel_backend(f"{OURS}dask", _losing(DaskDistributedBackend))
    _hush(stack, "distributed")
    settings = {
        "distributed.worker.daemon": False,
        # who gave an order counts its tries
        "distributed.scheduler.allowed-failures": 1000,
        "distributed.comm.timeouts.connect": CONNECT,
    }
    stack.enter_context(dask.config.set(settings))
    place: Any = engine.address
    if place is None:
        with interrupts_deferred():  # it can't be closed while it starts
            place = stack.enter_context(
                LocalCluster(
                    n_workers=engine.jobs,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # a port that nobody has
                    local_directory=str(folder),
                )
            )
    try:
        client = stack.enter_context(Client(place, timeout=CONNECT))
    except (OSError, ValueError) as error:
        raise _no_answer(engine) from error
    stack.enter_context(parallel_config(f"{OURS}dask", client=client))
    return {"pre_dispatch": engine.jobs}


def _start_ray(engine: Engine, folder: Path, stack: ExitStack) -> dict[str, Any]:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it warns of this change
    import ray
    from joblib import parallel_config, register_parallel_backend
    from ray._private import worker
    from ray.util.joblib.ray_backend import RayBackend

    class Spread(RayBackend):  # type: ignore[misc]
        """Gives calls to workers that have none; ray's pool gives them to each in turn."""

        def configure(self, *args: Any, **more: Any) -> Any:
            jobs = super().configure(*args, **more)
            pool = self._pool
            send, calls = pool._run_batch, dict.fromkeys(range(len(pool._actor_pool)))

            def run_batch(_: int, func: Any, batch: Any) -> Any:
                sent = [call for call in calls.values() if call is not None]
                waiting = ray.wait(sent, num_returns=len(sent), timeout=0)[1] if sent else []
                idle = (place for place, call in calls.items() if call not in waiting)
                place = next(idle, 0)
                calls[place] = call = send(place, func, batch)
                return call

            pool._run_batch = run_batch
            return jobs

    register_parallel_backend(f"{OURS}ray", _losing(Spread))
    _hush(stack, "ray")
    # it prints on stdout of workers that died, whatever is asked for
    stack.callback(setattr, worker, "print_to_stdstream", worker.print_to_stdstream)
    worker.print_to_stdstream = lambda *_, **__: None
    options: dict[str, Any] = {"address": engine.address}
    if engine.address is None:  # one of its own, whatever other cluster there is
        cpus = max(engine.jobs, 2)
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        # seconds after which workers end whose cluster was killed
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    if not ray.is_initialized():
        try:
            if engine.address is not None:
                _knock(engine.address)
            # its workers look for modules in the current folder before any other
            with handlers_left(), group_spared(), chdir(folder):
                ray.init(log_to_driver=False, configure_logging=False, **options)
        except (OSError, ValueError, RuntimeError) as error:
            if engine.address is None:
                cause = shortened(error, 120)
                raise OptionError(
                    f"ray can't start here ({type(error).__name__}: {cause}); try it again, or "
                    "another --engine."
                ) from error
            raise _no_answer(engine) from error
        stack.callback(ray.shutdown)
    stack.enter_context(parallel_config(f"{OURS}ray", ray_remote_args={"max_restarts": -1}))
    return {
        "pre_dispatch": engine.jobs,
        "n_jobs": max(engine.jobs, 2),  # with one worker joblib would stay in this process
        "initializer": follow_parent,  # of ray on the worker's machine
    }


def _knock(address: str) -> None:
    """Fail now where nothing listens at an address of ray, which itself tries for minutes."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    place = address.removeprefix("ray://")
    if place == "auto":
        place = canonicalize_bootstrap_address_or_die(place)
    host, _, port = place.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT):
        pass


def _losing(kind: type[Any]) -> type[Any]:
    """Make a backend of joblib that goes on where the worker of some calls died."""
    from rcml_misa.runs.orders import lost

    class Losing(kind):  # type: ignore[misc]
        """Gives results as they come, `orders.lost` for calls whose worker died."""

        supports_return_generator = True

        def configure(self, *args: Any, **more: Any) -> Any:
            # with one worker joblib would stay in this process
            return max(super().configure(*args, **more), 2)

        def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
            told = threading.Lock()

            def ended(out: Any) -> None:
                if told.acquire(blocking=False):
                    callback((func, out))

            future = super().submit(func, ended)
            if hasattr(future, "add_done_callback"):  # dask's backend is silent about errors
                future.add_done_callback(
                    lambda future: ended(future.exception()) if future.exception() else None
                )
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            func, result = out
            if isinstance(result, BaseException):
                return lost(func)
            return super().retrieve_result_callback(result)

    return Losing


def _hush(stack: ExitStack, *names: str) -> None:
    """Let libraries log nothing meanwhile, by no logger of theirs."""
    for name in [*names, *logging.root.manager.loggerDict]:
        if name.startswith(names):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)


def _start_slurm(engine: Engine, folder: Path, stack: ExitStack) -> dict[str, Any]:
    from joblib import parallel_config, register_parallel_backend

    from rcml_misa.runs.slurm import SlurmBackend

    register_parallel_backend(f"{OURS}slurm", SlurmBackend)
    cluster = HERE if engine.address == HERE else "slurm"
    parameters: dict[str, Any] = {"timeout_min": 60 * HOURS}
    if cluster != HERE:
        parameters.update(_sbatch(engine.address))
    own = {"folder": folder / "slurm", "cluster": cluster, "parameters": parameters}
    try:
        stack.enter_context(parallel_config(f"{OURS}slurm", **own))
    except (AssertionError, NameError, RuntimeError, ValueError) as error:
        cause = shortened(error, 120)
        given = f" with --address {shortened(engine.address, 60)}" if engine.address else ""
        raise OptionError(
            f"no jobs can be given to SLURM{given} here ({cause}); start the command where sbatch "
            "is, or try it out with --address local."
        ) from error
    return {"pre_dispatch": engine.jobs}


def _sbatch(address: str | None) -> Mapping[str, Any]:
    """Read ``partition=gpu,time=120``: parameters of submitit, those of SLURM without a prefix."""
    from submitit import AutoExecutor

    general = AutoExecutor._typed_parameters()
    parameters: dict[str, Any] = {}
    for part in (address or "").split(","):
        key, equals, text = part.strip().partition("=")
        if not part.strip():
            continue
        if not equals:
            raise OptionError(f"--address {part} has no value; write it as partition=NAME.")
        kind = general.get(key, str)
        try:
            parameters[key if key in general else f"slurm_{key}"] = (
                int(text) if kind is str and text.isdigit() else kind(text)
            )
        except ValueError:
            raise OptionError(f"--address {part} is no {kind.__name__}; give a number.") from None
    return parameters


def _no_answer(engine: Engine) -> OptionError:
    return OptionError(
        f"no {engine.name} cluster answers at {engine.address} within {CONNECT} s; start it, give "
        "another --address, or leave --address out for one on this machine."
    )


_STARTS: Mapping[str, Callable[[Engine, Path, ExitStack], dict[str, Any]]] = {
    "local": _start_local,
    "dask": _start_dask,
    "ray": _start_ray,
    "slurm": _start_slurm,
}
