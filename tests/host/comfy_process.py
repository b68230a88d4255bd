"""The process of a ComfyUI server: starts it in a folder of its own, waits for it, ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from comfy_find import Checkout

STARTUP_SECONDS = 300


class ServerFailed(Exception):
    """ComfyUI did not start or died; the text ends with the tail of its log."""


class ComfyProcess:
    """One ComfyUI process with a base directory of its own.

    Args:
        checkout: which ComfyUI, and its Python.
        base: an empty folder; becomes ComfyUI's --base-directory.
        args: more command line arguments, such as ("--cache-lru", "2").
        models: a folder to use as `models/` (linked, or copied where links are not allowed).
        packs: node packs to install, {folder name in custom_nodes: source folder}.
        env: more environment variables.
        frontend: a folder with the page's files to serve instead of the installed ones.
    """

    def __init__(
        self,
        checkout: Checkout,
        base: Path,
        args: tuple[str, ...] = (),
        models: Path | None = None,
        packs: dict[str, Path] | None = None,
        env: dict[str, str] | None = None,
        frontend: Path | None = None,
    ):
        self.checkout = checkout
        self.base = base
        self.args = args
        self.env = env or {}
        self.frontend = frontend
        self.process: subprocess.Popen | None = None
        self.port = 0
        self.startup_seconds = 0.0
        for folder in ("custom_nodes", "input", "output", "temp", "user"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        if models is not None:
            _link(models, base / "models")
        for name, source in (packs or {}).items():
            _link(source, base / "custom_nodes" / name)

    @property
    def url(self) -> str:
        """Address without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Everything the server printed."""
        return self.base / "comfyui.log"

    def log(self, lines: int | None = None) -> str:
        """The server's log, or its last lines."""
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return text if lines is None else "\n".join(text.splitlines()[-lines:])

    def start(self) -> ComfyProcess:
        """Starts the server and waits until it answers.

        Raises:
            ServerFailed: it ended early or did not answer within 300 s.
        """
        for attempt in (1, 2, 3):
            self.port = _free_port()
            self._spawn()
            try:
                self._wait_until_up()
                return self
            except ServerFailed:
                self.stop()
                # Another process may have taken the port between asking for it and binding it.
                if attempt == 3 or "address already in use" not in self.log().lower():
                    raise
        return self

    def _spawn(self) -> None:
        page = ("--front-end-root", str(self.frontend)) if self.frontend else ()
        command = [
            str(self.checkout.python), "-u", "main.py", "--cpu", "--listen", "127.0.0.1",
            "--port", str(self.port), "--base-directory", str(self.base),
            "--database-url", "sqlite:///:memory:", "--disable-auto-launch",
            "--disable-api-nodes", "--preview-method", "none", *page, *self.args,
        ]  # fmt: skip
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.checkout.path,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=sys.platform != "win32",
            )

    def _environment(self) -> dict[str, str]:
        # The test run's own Python must not leak into ComfyUI's.
        drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "COMFYUI_PATH")
        env = {k: v for k, v in os.environ.items() if k not in drop and not k.startswith("PYTEST")}
        env |= {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "PYTHONIOENCODING": "utf-8",
            "CUDA_VISIBLE_DEVICES": "",
            "TINY_NATIVE_PARENT": str(os.getpid()),
            # Tiny models on several threads, beside other tests, mostly wait for one another.
            "OMP_NUM_THREADS": os.environ.get("TEST_THREADS", "1"),
        }
        return env | self.env

    def _wait_until_up(self) -> None:
        began = time.monotonic()
        while time.monotonic() - began < STARTUP_SECONDS:
            if self.process is None or self.process.poll() is not None:
                code = None if self.process is None else self.process.returncode
                raise ServerFailed(f"ComfyUI ended with code {code}.\n{self.log(60)}")
            try:
                self.request("/system_stats", timeout=5)
                self.startup_seconds = time.monotonic() - began
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        raise ServerFailed(f"ComfyUI did not answer in {STARTUP_SECONDS} s.\n{self.log(60)}")

    def stop(self) -> None:
        """Ends the server and everything it started. Safe to call twice."""
        process, self.process = self.process, None
        if process is None:
            return
        for name in ("SIGTERM", "SIGKILL"):
            _signal_group(process, name)
            try:
                process.wait(timeout=10)
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait(timeout=60)

    def request(self, path: str, payload: Any = None, timeout: float = 60) -> bytes:
        """GET, or POST when there is a JSON payload; the body's bytes."""
        data = None if payload is None else json.dumps(payload).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=timeout
        ) as answer:
            return answer.read()

    def __enter__(self) -> ComfyProcess:
        return self.start() if self.process is None else self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        skip = shutil.ignore_patterns(".git", "__pycache__", ".pytest_cache", "venv", ".venv")
        shutil.copytree(source, target, ignore=skip)


def _signal_group(process: subprocess.Popen, name: str) -> None:
    if sys.platform == "win32":
        process.kill() if name == "SIGKILL" else process.terminate()
        return
    try:
        # The group's id is the pid, because the server began a session of its own.
        os.killpg(process.pid, getattr(signal, name))
    except ProcessLookupError:
        return
