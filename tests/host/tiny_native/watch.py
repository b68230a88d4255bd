"""A window into the server: events, module calls, loaded models, live objects, imported modules."""

from __future__ import annotations

import collections
import gc
import os
import sys
import threading
import time

import comfy.model_management
import psutil
import torch
from aiohttp import web
from server import PromptServer

COUNTED = ("DecoderLayer", "TransformerBlock", "VisionBlock", "lm_head", "VisionModel")

_events: collections.deque = collections.deque(maxlen=20000)
_calls: collections.Counter = collections.Counter()


def install() -> None:
    """Hooks the server's messages and torch's module calls, and adds the routes."""
    server = PromptServer.instance
    _record_events(server)
    torch.nn.modules.module.register_module_forward_pre_hook(_count)
    _add_routes(server)
    _end_with_parent()


def _record_events(server: PromptServer) -> None:
    send = server.send_sync

    def record(event, data, sid=None):
        if isinstance(event, str) and isinstance(data, dict):
            _events.append((event, data))
        return send(event, data, sid)

    server.send_sync = record


def _count(module: torch.nn.Module, _args) -> None:
    name = type(module).__name__
    if name.endswith(COUNTED):
        _calls[name] += 1
    elif name == "Linear" and module.out_features > 100000:
        # A language model's head: nothing else projects to a vocabulary.
        _calls["lm_head"] += 1


def _add_routes(server: PromptServer) -> None:
    routes = server.routes

    @routes.get("/tiny_native/events")
    async def events(request):
        wanted = request.query.get("prompt_id")
        found = [
            [name, {k: v for k, v in data.items() if _is_json(v)}]
            for name, data in list(_events)
            if wanted is None or data.get("prompt_id") == wanted
        ]
        return web.json_response(found)

    @routes.get("/tiny_native/module_calls")
    async def module_calls(request):
        return web.json_response(dict(_calls))

    @routes.post("/tiny_native/module_calls")
    async def reset(request):
        _calls.clear()
        return web.json_response({})

    @routes.get("/tiny_native/state")
    async def state(request):
        queue = server.prompt_queue
        loaded = [
            type(entry.model.model).__name__
            for entry in list(comfy.model_management.current_loaded_models)
            if entry.model is not None
        ]
        # Between two prompts the worker waits here; before, it may still be emptying the caches.
        waits = bool(queue.not_empty._waiters)
        busy = bool(queue.currently_running or queue.queue) or not waits
        resident = psutil.Process().memory_info().rss  # bytes
        return web.json_response(
            {"flags": dict(queue.flags), "loaded": loaded, "busy": busy, "resident": resident}
        )

    @routes.get("/tiny_native/live")
    async def live(request):
        # What only the garbage collector would free counts as alive, unless it is asked to run.
        if request.query.get("collect"):
            gc.collect()
        names = [type(thing).__name__ for thing in gc.get_objects()]
        return web.json_response({x: names.count(x) for x in request.query["names"].split(",")})

    @routes.get("/tiny_native/modules")
    async def modules(request):
        prefixes = tuple(request.query["prefix"].split(","))
        return web.json_response(sorted(x for x in list(sys.modules) if x.startswith(prefixes)))


def _is_json(value) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, list, dict))


def _end_with_parent() -> None:
    """Ends this server when the test run that started it is gone, however it went."""
    parent = int(os.environ.get("TINY_NATIVE_PARENT", 0))
    if not parent or sys.platform == "win32":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, name="end with the tests", daemon=True).start()
