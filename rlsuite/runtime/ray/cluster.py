"""Connects to Ray: joins a running cluster or starts our own, and refuses one that cannot serve the run."""

import contextlib
import functools
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import auto_init_hook, ray_constants, services
from ray._private import utils as ray_utils
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import RayError

from rlsuite.config import schema
from rlsuite.core import limits
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError, one_line

STORE_SHARE = 0.3  # object store's share of the free memory, the same as Ray's default
REACH_SECONDS = 5.0  # to wait for a cluster's address to answer
LONGEST_FOLDER = 35  # bytes: to 107, the limit of a socket's path, Ray adds /session_DATE_TIME_PID/sockets/plasma_store.N
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


@contextlib.contextmanager
def connected(config: schema.Config) -> Iterator[None]:
    """Connects to Ray for the duration of a run: to the cluster at `runtime.address`, or to one of our own that ends with the run.

    UsageError within seconds if that cannot work.
    """
    runtime = config.runtime
    if ray.is_initialized():  # by the user's own program: its Ray is used, and not shut down
        _refuse_small(config)
        yield
        return
    with _session() as stack:
        if runtime.address is None:
            _start(config, stack)
        else:
            _join(runtime.address, stack)
        stack.callback(ray.shutdown)
        _refuse_small(config)
        yield


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """Connects to the cluster at an address for something other than a run. UsageError within seconds if that cannot work."""
    if ray.is_initialized():  # by the user's own program: its Ray is used, and not shut down
        yield
        return
    with _session() as stack:
        _join(address, stack)
        stack.callback(ray.shutdown)
        yield


@contextlib.contextmanager
def _session() -> Iterator[contextlib.ExitStack]:
    """Context in which Ray may be started or joined; yields a stack for callbacks that undo things at its end."""
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # errors of calls to a worker that died
    with _signals_stay_ours(), _no_other_ray(), contextlib.ExitStack() as stack:
        yield stack


def _start(config: schema.Config, stack: contextlib.ExitStack) -> None:
    """Starts a Ray of our own. `stack` restores the environment variables that are changed for it."""
    _warn_of_threads(config)
    own: dict[str, Any] = {
        "address": "local",  # overrides RAY_ADDRESS, which Ray would follow
        "num_cpus": max(limits.cores(), _cpus_wanted(config)),
        "include_dashboard": config.runtime.dashboard,
        "dashboard_host": "127.0.0.1",
    }
    if (store := _store_bytes(config.runtime.object_store_gb)) is not None:
        own["object_store_memory"] = store
    if (folder := _short_folder()) is not None:
        own["_temp_dir"] = folder
    stack.enter_context(own_token())
    try:
        with on_loopback(), _in_a_session_of_its_own():
            ray.init(**own, **_QUIET)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UsageError(f"Ray cannot start here: {one_line(error)}; its files are in {folder or _default_folder()}") from error


def own_token() -> contextlib.AbstractContextManager[None]:
    """Context in which a Ray that is started accepts only processes with a new random token, which keeps out other users.

    RAY_AUTH_MODE in the environment takes precedence: it can turn tokens off or, together with a token of the user, make Ray use
    that one. Ray itself would save a new token in ~/.ray, and any `ray start` would then require it.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    if mode != "token" or ("RAY_AUTH_MODE" in os.environ and AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)):
        return contextlib.nullcontext()
    return _environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _join(address: str, stack: contextlib.ExitStack) -> None:
    """Joins the cluster at an address; `stack` as for `_start`. UsageError if that is not possible."""
    alone = _reach(address)
    if "RAY_AUTH_MODE" not in os.environ and AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        stack.enter_context(_environment(RAY_AUTH_MODE="token"))  # as `ray start` does; a cluster without tokens ignores it
    try:
        with on_loopback() if alone else contextlib.nullcontext():
            ray.init(address=address, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError, RayError, TimeoutError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"runtime.address = {address!r}: something answers there, but this process cannot join a Ray cluster: {reason}. "
            "Does the cluster ask for a token (RAY_AUTH_MODE, RAY_AUTH_TOKEN or ~/.ray/auth_token, the same on all nodes), "
            "and is it of the same Ray and Python?"
        ) from error


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Context in which these environment variables are set, for Ray too."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _read_environment_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        _read_environment_again()


def _read_environment_again() -> None:
    """Makes Ray read the environment variables again; it has read them when it was imported."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _with(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Context in which an attribute of `owner`, a part of Ray, has another value."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _signals_stay_ours() -> contextlib.AbstractContextManager[None]:
    """Context in which Ray does not replace the SIGTERM handler: its own would end this process without a checkpoint."""
    return _with(ray_utils, "set_sigterm_handler", lambda handler: None)


def _no_other_ray() -> contextlib.AbstractContextManager[None]:
    """Context in which a call to Ray after its end is an error, instead of starting another Ray."""
    return _with(auto_init_hook, "enable_auto_connect", False)


def _in_a_session_of_its_own() -> contextlib.AbstractContextManager[None]:
    """Context in which Ray starts its processes in a new session, which signals to this process's group or terminal do not reach.

    The processes still end with this one.
    """
    return _with(services, "ConsolePopen", functools.partial(services.ConsolePopen, start_new_session=True))


def _default_folder() -> str:
    """The folder where Ray keeps its files by default."""
    chosen: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    return chosen


def _short_folder() -> str | None:
    """A folder for the files of a Ray of our own, if its default would make socket paths too long; None to use the default."""
    chosen = _default_folder()
    if len(os.fsencode(chosen)) <= LONGEST_FOLDER:
        return None
    folder = "/tmp/ray"  # Ray's default
    say(f"rlsuite: {chosen} is too long for the paths of Ray's sockets, so Ray keeps its files in {folder} (RAY_TMPDIR moves them)")
    return folder


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Context in which a Ray that is started listens on 127.0.0.1 only, and a Ray that was started that way can be joined.

    Its workers import from the same paths as this process. Ray otherwise binds to every interface and replaces 127.0.0.1 by this
    machine's network address, unless it believes that there can be no cluster (as on Windows).
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)  # for environments beside a script
    try:
        with _with(ray_constants, "ENABLE_RAY_CLUSTER", False):
            yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _reach(address: str) -> bool:
    """Whether the cluster at an address listens on 127.0.0.1 only. UsageError if nothing answers: Ray would retry for minutes."""
    found = address
    if address == "auto":
        try:
            found = services.get_ray_address_from_environment("auto", None)
        except ConnectionError as error:
            raise UsageError(f"runtime.address = 'auto': no Ray cluster runs on this machine ({one_line(error)})") from error
    host, _, port = found.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"runtime.address = {address!r}: give auto, ray://host:10001, or host:6379 of the head node")
    refusal = _refusal(host.strip("[]"), int(port))
    if refusal is not None:
        raise UsageError(
            f"runtime.address = {address!r}: nothing answers there ({getattr(refusal, 'strerror', None) or refusal})"
        ) from refusal
    return host in ("127.0.0.1", "localhost") and _refusal(services.get_node_ip_address(), int(port)) is not None  # type: ignore[no-untyped-call]


def _refusal(host: str, port: int) -> Exception | None:
    """The error if nothing answers at a port; None if something does."""
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except (OSError, UnicodeError, OverflowError) as error:  # the last two: an invalid host name or port
        return error
    return None


def _store_bytes(gigabytes: float | None) -> int | None:
    """The object store's size in bytes; None lets Ray decide, which goes by the machine's memory and ignores a cgroup's limit.

    UsageError for more than the memory that the machine has free.
    """
    free, of_machine = limits.free_in_groups(), limits.free_in_machine()
    if gigabytes is not None:
        if of_machine is not None and gigabytes * 1e9 > of_machine:
            raise UsageError(f"runtime.object_store_gb = {gigabytes:g}: {of_machine / 1e9:.1f} GB of memory are free here")
        return int(gigabytes * 1e9)
    if free is None or (of_machine is not None and of_machine <= free):
        return None
    share = min(int(STORE_SHARE * free), ray_constants.REQUIRE_SHM_SIZE_THRESHOLD)  # a larger store must fit into /dev/shm
    return max(share, ray_constants.OBJECT_STORE_MINIMUM_MEMORY_BYTES)


def _cpus_wanted(config: schema.Config) -> int:
    return _acting_threads(config) + config.runtime.learners


def _acting_threads(config: schema.Config) -> int:
    """Threads of all collectors and of their inference server."""
    runtime = config.runtime
    return (runtime.collectors + (runtime.inference == "server")) * runtime.collector_threads


def _refuse_small(config: schema.Config) -> None:
    """UsageError if the cluster has fewer CPUs or GPUs than the run needs: Ray itself would wait for more forever."""
    runtime, have = config.runtime, resources()
    acting = runtime.collectors * runtime.collector_gpus + runtime.inference_gpus
    gpus = acting + runtime.learners * (runtime.learner_gpus or 0)
    for what, wanted, key in (("CPUs", _cpus_wanted(config), "CPU"), ("GPUs", gpus, "GPU")):
        if wanted > have.get(key, 0):
            raise UsageError(
                f"{runtime.collectors} collectors and the learner ask for {wanted:g} {what}, the cluster has {have.get(key, 0):g}: "
                "see runtime.collectors, collector_threads, collector_gpus, inference_gpus, learner_gpus"
            )


def resources() -> dict[str, float]:
    """The cluster's total CPUs, GPUs and other resources, by Ray's names."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def learner_threads(config: schema.Config) -> int:
    """The maximum number of threads of a learner: as configured, or as many as the collectors leave."""
    runtime = config.runtime
    left = limits.cores() - _acting_threads(config)
    return runtime.learner_threads or config.run.threads or max(left, 1)


def _warn_of_threads(config: schema.Config) -> None:
    threads, cores = _acting_threads(config) + learner_threads(config), limits.cores()
    if threads > cores:
        say(
            f"rlsuite: {config.runtime.collectors} collectors x {config.runtime.collector_threads} threads and "
            f"{learner_threads(config)} of the learner are more than the {cores} cores here: they will take turns, and processes "
            "with several threads may run ten times slower"
        )


def object_store_bytes() -> float | None:
    """Bytes in use in the object stores of all nodes; None if Ray does not report it."""
    try:
        from ray._private.internal_api import get_memory_info_reply, get_state_from_address

        state = get_state_from_address(  # type: ignore[no-untyped-call]
            ray.get_runtime_context().gcs_address
        )
        reply = get_memory_info_reply(state, timeout_seconds=2.0)  # type: ignore[no-untyped-call]
        return float(reply.store_stats.object_store_bytes_used)
    except Exception:
        return None
