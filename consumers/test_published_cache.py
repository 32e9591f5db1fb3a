"""metalcast reads what huggingface_hub's own code leaves in a cache: the store of shared blobs, a
cache without one, a pool, names with ~ and $VAR.

huggingface_hub downloads from a fake hub in this file, in a process of its own. Only the transport
of Xet is replaced: hf_xet's server is not available here, so xet_get copies the file. Links, store,
marker and manifests are huggingface_hub's.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import oracle
import pytest
from checkpoints import write
from weights import Spec

ID, COMMIT = "Org/Tiny-FP8", "0123456789abcdef0123456789abcdef01234567"
SPEC = Spec(moe=False)
LARGE = {".safetensors"}  # what the hub keeps in Xet

DOWNLOAD = """
import os, shutil, sys
import huggingface_hub
from huggingface_hub import file_download
repo, files = sys.argv[1:]
def xet_get(*, incomplete_path, displayed_filename, **_):
    shutil.copyfile(os.path.join(files, displayed_filename), incomplete_path)
file_download.xet_get = xet_get
print(huggingface_hub.snapshot_download(repo))
"""


def etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def xet(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()


def handler(files: Path):
    class Hub(BaseHTTPRequestHandler):
        def answer(self, body: bytes, headers: dict, *, bare: bool = False) -> None:
            self.send_response(200)
            for key, value in ({"Content-Length": len(body)} | headers).items():
                self.send_header(key, str(value))
            self.end_headers()
            if not bare:
                self.wfile.write(body)

        def do_GET(self, *, bare: bool = False) -> None:
            if self.path.startswith("/api/"):
                siblings = [{"rfilename": p.name} for p in sorted(files.iterdir())]
                info = {"id": ID, "sha": COMMIT, "siblings": siblings} if "/tree/" not in self.path else [
                    {"type": "file", "path": p.name, "oid": etag(p)[:40], "size": p.stat().st_size} for p in sorted(files.iterdir())]
                return self.answer(json.dumps(info).encode(), {"Content-Type": "application/json"}, bare=bare)
            path = files / self.path.split("?")[0].rsplit("/", 1)[1]
            headers = {"ETag": f'"{etag(path)}"', "X-Repo-Commit": COMMIT}
            if path.suffix in LARGE:
                headers |= {"X-Xet-Hash": xet(path), "X-Xet-Refresh-Route": "/api/token", "X-Linked-Size": path.stat().st_size, "X-Linked-Etag": f'"{etag(path)}"'}
            return self.answer(path.read_bytes(), headers, bare=bare)

        def do_HEAD(self) -> None:
            self.do_GET(bare=True)

        def log_message(self, *_: object) -> None:
            pass

    return Hub


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write(SPEC, tmp_path_factory.mktemp("published") / "files")


@pytest.fixture(scope="module")
def download(files):
    """Has huggingface_hub download the model; returns its snapshot, as "hf download" prints it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(files))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(**variables: str) -> Path:
        env = environment(HF_ENDPOINT=f"http://127.0.0.1:{server.server_address[1]}", **variables)
        done = subprocess.run([sys.executable, "-c", DOWNLOAD, ID, str(files)], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip().splitlines()[-1])

    yield run
    server.shutdown()
    server.server_close()


def environment(**variables: str) -> dict:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_", "XDG_"))}
    return kept | variables


def metalcast_in(metalcast, env: dict, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([metalcast.path, *map(str, arguments)], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["shared", "classic", "pool"])
def test_a_cache_that_huggingface_hub_made_is_read(metalcast, download, files, tmp_path, kind):
    cache = tmp_path / "hub"
    snapshot = download(HF_HUB_CACHE=str(cache), HF_HUB_DISABLE_SHARED_BLOBS="0" if kind == "shared" else "1")
    blob = Path(os.readlink(snapshot / "model.safetensors"))
    blob = (snapshot / blob).parent.resolve() / blob.name
    assert blob.is_symlink() == (kind == "shared"), "huggingface_hub lays its cache out in another way now"
    if kind == "pool":
        (tmp_path / "disk2").mkdir()
        for b in (cache / "models--Org--Tiny-FP8" / "blobs").iterdir():
            b.rename(tmp_path / "disk2" / b.name)
            b.symlink_to(tmp_path / "disk2" / b.name)
    env, output = environment(HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE="1"), tmp_path / "output"
    done = metalcast_in(metalcast, env, "convert", ID, output)
    assert done.returncode == 0, done.stderr
    assert oracle.differences(files, output) == []
    done = metalcast_in(metalcast, env, "verify", ID, output)
    assert done.returncode == 0, done.stderr

    # The path that "hf download" prints: any directory may look like that, and the refusal names
    # the id to use.
    done = metalcast_in(metalcast, env, "inspect", snapshot)
    if kind == "classic":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 3
    hint = f"give the model's id, {ID} --revision {COMMIT}"
    assert hint in done.stderr
    assert metalcast_in(metalcast, env, "inspect", *hint.removeprefix("give the model's id, ").split()).returncode == 0


@pytest.mark.parametrize(("name", "value"), [
    ("HF_HOME", "~/hf"), ("HF_HOME", "$HOME/hf"), ("HF_HOME", "${HOME}/hf"), ("HF_HUB_CACHE", "~/hf/hub"), ("HF_HUB_CACHE", "$MC_BASE/hub"),
    ("HUGGINGFACE_HUB_CACHE", "${MC_BASE}/hub"), ("XDG_CACHE_HOME", "~/.c"), ("HF_HOME", "~/$MC_NONE/hf")])
def test_the_cache_is_where_huggingface_hub_puts_it(metalcast, download, tmp_path, name, value):
    variables = {"HOME": str(tmp_path), "MC_BASE": str(tmp_path / "base"), name: value}
    snapshot = download(**variables)
    assert snapshot.is_relative_to(tmp_path)
    done = metalcast_in(metalcast, environment(**variables), "inspect", ID)
    assert done.returncode == 0, done.stderr
