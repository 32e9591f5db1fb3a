"""metalcast's commands as functions: each runs the program and gives its JSON document. Keywords are the program's flags, q_bits=4 for --q-bits 4."""

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
Progress = Callable[[str, int, int, float], object]  # is called with the phase, the bytes done, the bytes in all, and the seconds since the start


class Error(Exception):
    """metalcast ended without its result: status 1, or a subclass's. document is what it printed as JSON."""

    def __init__(self, message: str, status: int, document: dict[str, Any]) -> None:
        self.message, self.status, self.document = message, status, document
        self.hint: Optional[str] = document.get("hint")
        super().__init__(message, status, document)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(Error): """Status 2: the options contradict each other, or there is no such option."""
class InvalidCheckpoint(Error): """Status 3: the checkpoint is malformed or incomplete."""
class Unsupported(Error): """Status 4: sound, but not something this version treats."""
class NoSpace(Error): """Status 5: not enough disk or memory."""
class Mismatch(Error): """Status 7: a difference was found; of verify, document is the Verification."""
class NothingToDo(Error): """Status 8: the checkpoint is usable as it is; its directory is document["source"]."""
class Interrupted(Error): """Status 130: a signal ended metalcast; the same call goes on with what is in document["kept"]."""
class MetalcastWarning(UserWarning): """What a person should look at."""


ERRORS = {2: UsageError, 3: InvalidCheckpoint, 4: Unsupported, 5: NoSpace, 7: Mismatch, 8: NothingToDo, 130: Interrupted}


def convert(src: Path, dst: Path, *, progress: Optional[Progress] = None, **options: Unpack[ConvertOptions]) -> Report:
    """Writes the converted checkpoint of src, a directory or a model id, into the new directory dst. After Ctrl-C the same call goes on."""
    return _run(Report, "convert", (src, dst), options, progress)


def plan(src: Path, **options: Unpack[PlanOptions]) -> Plan:
    """Says what convert would write, from headers and scales."""
    return _run(Plan, "plan", (src,), options, None)


def inspect(src: Path, *, scan: bool = False, revision: Optional[str] = None, progress: Optional[Progress] = None) -> Inspection:
    """Says what a checkpoint is; with scan it reads every weight."""
    return _run(Inspection, "inspect", (src,), {"scan": scan, "revision": revision}, progress)


def verify(src: Path, dst: Path, *, progress: Optional[Progress] = None, **options: Unpack[VerifyOptions]) -> Verification:
    """Compares a converted checkpoint with its source, byte for byte, and raises Mismatch where they differ."""
    return _run(Verification, "verify", (src, dst), options, progress)


def binary() -> str:
    """Finds the program: METALCAST_BINARY, else where pip has put it, else in PATH."""
    if named := os.environ.get("METALCAST_BINARY"):
        return named
    beside = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # pip install --target
    places = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable), os.path.join(site.getuserbase(), "bin"), os.path.join(beside, "bin")]
    for place in [*places, None]:
        if found := shutil.which("metalcast", path=place):
            return found
    raise FileNotFoundError(f"metalcast: no such program in {', '.join(places)} or PATH; METALCAST_BINARY can name it")


def _flags(options: Any) -> list[str]:
    flags = []
    for name, value in options.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None:
                flags.append(f"--{name.replace('_', '-')}={str(one).lower() if isinstance(one, bool) else one}")
    return flags


def _run(_: type[Document], command: str, paths: tuple[Path, ...], options: Any, progress: Optional[Progress]) -> Document:
    arguments = [binary(), command, "--json", *([] if command == "plan" else ["--progress=json"]), *_flags(options), "--", *(os.fspath(p) for p in paths)]
    with tempfile.TemporaryFile() as out:  # a pipe could fill while nobody reads it
        # In a session of its own: a terminal's Ctrl-C would reach it a second time, and the second ends it at once.
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                messages = _listen(process, progress)
            except BaseException:  # Ctrl-C, or an error of progress
                _stop(process)
                raise
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    document: Any = json.loads(text) if text.startswith("{") and text.endswith("}\n") else {}
    if process.returncode == 0 and document:
        return document  # type: ignore[no-any-return]
    differing = [f'{d["shard"]}: tensor "{d["tensor"]}" differs at {d["where"]}' for d in document.get("differences", [])]
    errors = [m[len("error: "):] for m in messages if m.startswith("error: ")]
    said = [document["error"]] if "error" in document else document.get("problems", []) + differing or errors or messages[-20:]
    ended = f"metalcast {command}: no result, ended with {'signal' if process.returncode < 0 else 'status'} {abs(process.returncode)}"
    raise ERRORS.get(process.returncode, Error)("; ".join(said) or ended, process.returncode, document)


def _listen(process: subprocess.Popen[bytes], progress: Optional[Progress]) -> list[str]:
    """Reads events until the program's end, and gives its messages. Other lines are of an error that no one foresaw."""
    messages = []
    for line in process.stderr or ():
        text = line.decode("utf-8", "replace").rstrip("\n")
        event: dict[str, Any] = json.loads(text) if text.startswith("{") else {"event": "message", "text": text}
        if event["event"] == "progress" and progress:
            progress(event["phase"], event["bytes"], event["total"], event["seconds"])
        elif event["event"] == "message":
            messages.append(event["text"])
            if event["text"].startswith("warning: "):
                warnings.warn(event["text"][len("warning: "):], MetalcastWarning, stacklevel=4)
    process.wait()
    return messages


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupts the program, which then keeps what is done; one more Ctrl-C ends it at once."""
    while process.poll() is None:
        try:
            process.send_signal(signal.SIGINT)
            for _ in process.stderr or ():
                pass
            process.wait()
        except KeyboardInterrupt:
            pass
