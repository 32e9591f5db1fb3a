"""metalcast's commands as functions that return its JSON documents; q_bits=4 is --q-bits 4."""

from __future__ import annotations

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, Union

from metalcast._documents import ConvertOptions, Inspection, Plan, PlanOptions, Report, Verification, VerifyOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Error", "Inspection", "Interrupted", "InvalidCheckpoint", "MetalcastWarning", "Mismatch", "NoSpace", "NothingToDo", "Plan", "Progress",
           "Report", "Unsupported", "UsageError", "Verification", "binary", "convert", "inspect", "plan", "verify"]

Path = Union[str, "os.PathLike[str]"]
Document = TypeVar("Document")
Progress = Callable[[str, int, int, float], object]  # phase, bytes done, bytes in all, seconds


class Error(Exception):
    """No result: status 1, or a subclass's. document is what metalcast printed as JSON."""

    def __init__(self, message: str, status: int, document: dict[str, Any]) -> None:
        self.message, self.status, self.document = message, status, document
        self.hint: Optional[str] = document.get("hint")
        super().__init__(message, status, document)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(Error): """Status 2: contradictory or unknown options."""
class InvalidCheckpoint(Error): """Status 3: the checkpoint is malformed or incomplete."""
class Unsupported(Error): """Status 4: a sound checkpoint that is not supported."""
class NoSpace(Error): """Status 5: not enough disk or memory."""
class Mismatch(Error): """Status 7: a difference; verify's document is a Verification."""
class NothingToDo(Error): """Status 8: usable as it is, in document["source"]."""
class Interrupted(Error): """Status 130: a signal; the call resumes from document["kept"]."""
class MetalcastWarning(UserWarning): """A warning that a person should read."""


ERRORS = {2: UsageError, 3: InvalidCheckpoint, 4: Unsupported, 5: NoSpace, 7: Mismatch, 8: NothingToDo, 130: Interrupted}


def convert(src: Path, dst: Path, *, progress: Optional[Progress] = None, **options: Unpack[ConvertOptions]) -> Report:
    """Converts src, a directory or model id, into the new directory dst, or resumes doing so."""
    return _run(Report, "convert", (src, dst), options, progress)


def plan(src: Path, **options: Unpack[PlanOptions]) -> Plan:
    """Returns what convert would write, reading only headers and scales."""
    return _run(Plan, "plan", (src,), options, None)


def inspect(src: Path, *, scan: bool = False, revision: Optional[str] = None, progress: Optional[Progress] = None) -> Inspection:
    """Describes a checkpoint; with scan it reads every weight."""
    return _run(Inspection, "inspect", (src,), {"scan": scan, "revision": revision}, progress)


def verify(src: Path, dst: Path, *, progress: Optional[Progress] = None, **options: Unpack[VerifyOptions]) -> Verification:
    """Compares a converted checkpoint with its source byte for byte; raises Mismatch."""
    return _run(Verification, "verify", (src, dst), options, progress)


def binary() -> str:
    """Returns the program's path: METALCAST_BINARY, or where pip put it, or the one in PATH."""
    if named := os.environ.get("METALCAST_BINARY"):
        return named
    beside = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # pip install --target
    places = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable), os.path.join(site.getuserbase(), "bin"), os.path.join(beside, "bin")]
    for place in [*places, None]:
        if found := shutil.which("metalcast", path=place):
            return found
    raise FileNotFoundError(f"metalcast: no such program in {', '.join(places)} or PATH; METALCAST_BINARY can name it")


def _flags(options: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}={str(one).lower() if isinstance(one, bool) else one}"
            for name, value in options.items() for one in (value if isinstance(value, (list, tuple)) else [value]) if one is not None]


def _run(_: type[Document], command: str, paths: tuple[Path, ...], options: Any, progress: Optional[Progress]) -> Document:
    arguments = [binary(), command, "--json", *([] if command == "plan" else ["--progress=json"]), *_flags(options), "--", *(os.fspath(p) for p in paths)]
    with tempfile.TemporaryFile() as out:  # a pipe could fill up while nobody reads it
        # Its own session: a terminal's Ctrl-C would reach it twice, and the second ends it at once.
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                messages = _listen(process, progress)
            except BaseException:  # Ctrl-C, or an exception from progress
                _stop(process)
                raise
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    document: Any = json.loads(text) if text.startswith("{") and text.endswith("}\n") else {}
    if process.returncode == 0 and document and not {"error", "problems", "differences"} & document.keys():
        return document  # type: ignore[no-any-return]
    differing = [f'{d["shard"]}: tensor "{d["tensor"]}" differs at {d["where"]}' for d in document.get("differences", [])]
    errors = [m[len("error: "):] for m in messages if m.startswith("error: ")]
    ended = f"metalcast {command}: no result, ended with {'signal' if process.returncode < 0 else 'status'} {abs(process.returncode)}"
    said = [document["error"]] if "error" in document else document.get("problems", []) + differing or errors or [ended, *messages[-20:]]
    status = process.returncode or document.get("exit_code", 0)  # 0 if the caller ignores SIGCHLD
    raise ERRORS.get(status, Error)("; ".join(said), status, document)


def _listen(process: subprocess.Popen[bytes], progress: Optional[Progress]) -> list[str]:
    """Reads events, or the lines of an unforeseen error, and returns the messages."""
    messages = []
    for line in process.stderr or ():
        text = line.decode("utf-8", "replace").rstrip("\n")
        try:
            event: dict[str, Any] = {"event": "", **json.loads(text)}
        except (ValueError, TypeError):
            event = {"event": "message", "text": text}
        if event["event"] == "progress" and progress:
            progress(event["phase"], event["bytes"], event["total"], event["seconds"])
        elif event["event"] == "message":
            messages.append(event["text"])
            if event["text"].startswith("warning: "):
                warnings.warn(event["text"][len("warning: "):], MetalcastWarning, stacklevel=4)
    process.wait()
    return messages


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupts the program, which then keeps finished work; another Ctrl-C ends it at once."""
    while process.poll() is None:
        try:
            process.send_signal(signal.SIGINT)
            for _ in process.stderr or ():
                pass
            process.wait()
        except KeyboardInterrupt:
            pass
