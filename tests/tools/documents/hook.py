"""What rollouts.md says of hooks, held against one that comes."""

import contextlib
import json
import pathlib
import queue

import stage

from . import Wrong

PATIENCE = 60
KEY = "a key that both know\n"
CONFIG = """\
listeners: [{{ address: 127.0.0.1:{proxy} }}]
admin: {{ address: 127.0.0.1:{admin} }}
services:
  shop:
    pools:
      blue:  {{ version: v1, weight: 100, backends: ["127.0.0.1:{closed}"] }}
      green: {{ version: v2, weight: 0,   backends: ["127.0.0.1:{closed}"] }}
    rollout:
      first_touch: null
      steps: [25, 100]
      hooks: [{{ on: [step], url: "http://127.0.0.1:{port}/hook", key_file: hook.key }}]
"""


def check(binary: pathlib.Path, folder: pathlib.Path, shown: str, judge: str) -> None:
    """`shown` is what is said to be sent, `judge` the Python that is said to tell whether it is genuine."""
    headers, body = heard(binary, folder)
    if kinds(json.loads(shown)) != kinds(json.loads(body)):
        raise Wrong(f"a hook has {body.decode()}, not what is shown: {shown}")
    names: dict = {}
    exec(compile(judge, "is_from_crossfade", "exec"), names)
    genuine = names["is_from_crossfade"]
    if not genuine(KEY.encode(), headers, body):
        raise Wrong(f"a hook of crossfade is not taken for one: {dict(headers)} {body!r}")
    if genuine(KEY.encode(), headers, body + b" ") or genuine(b"another", headers, body):
        raise Wrong("a hook of somebody else is taken for one of crossfade")


def kinds(value: object) -> object:
    """Keys and kinds of values; all numbers are alike."""
    if isinstance(value, dict):
        return {key: kinds(value) for key, value in value.items()}
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def heard(binary: pathlib.Path, folder: pathlib.Path):
    """Headers and body of the first hook of a rollout."""
    with contextlib.ExitStack() as stack:
        hooks: queue.Queue = queue.Queue()
        port = stage.receiver(lambda headers, body: hooks.put((headers, body)), stack)
        proxy, admin, closed = stage.free_ports(3)
        (folder / "hook.key").write_text(KEY)
        (folder / "hook.key").chmod(0o600)
        config = folder / "hook.yaml"
        config.write_text(CONFIG.format(proxy=proxy, admin=admin, closed=closed, port=port))
        log = folder / "hook.log"
        stage.run([binary, "serve", config], log, stack)
        url = f"http://127.0.0.1:{admin}"
        stage.wait_for(f"{url}/readyz", log)
        stage.Stage("", url).call("POST", "/v1/services/shop/rollout", {"to": "green", "force": True})
        try:
            return hooks.get(timeout=PATIENCE)
        except queue.Empty:
            raise Wrong(f"no hook came within {PATIENCE} s") from None
