#!/usr/bin/env python3
"""gRPC through a proxy, with a server and a client of another language (grpcio): unary calls, streams of the client, of
the server and of both, cancelled calls, deadlines, and statuses. Needs `pip install grpcio`; prints what went
otherwise, and exits 1 then.

    python3 tests/tools/grpc_calls.py --binary target/debug/crossfade
"""

import argparse
import concurrent.futures
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import grpc

PLAIN = dict(request_deserializer=lambda b: b, response_serializer=lambda b: b)


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/t/unary": grpc.unary_unary_rpc_method_handler(self.unary, **PLAIN),
            "/t/fail": grpc.unary_unary_rpc_method_handler(self.fail, **PLAIN),
            "/t/slow": grpc.unary_unary_rpc_method_handler(self.slow, **PLAIN),
            "/t/up": grpc.stream_unary_rpc_method_handler(self.up, **PLAIN),
            "/t/down": grpc.unary_stream_rpc_method_handler(self.down, **PLAIN),
            "/t/both": grpc.stream_stream_rpc_method_handler(self.both, **PLAIN),
        }.get(details.method)

    def unary(self, request, context):
        context.set_trailing_metadata((("x-sum", str(len(request))),))
        return request[::-1]

    def fail(self, request, context):
        context.abort(grpc.StatusCode[request.decode()], "as asked")

    def slow(self, request, context):
        time.sleep(5)
        return b""

    def up(self, requests, context):
        return b"%d" % sum(len(r) for r in requests)

    def down(self, request, context):
        for n in range(int(request)):
            yield b"%d" % n

    def both(self, requests, context):
        for request in requests:
            yield request


def check(what, got, wanted):
    if got != wanted:
        print(f"{what}: {got!r}, not {wanted!r}")
        check.wrong += 1
    check.count += 1


check.wrong = check.count = 0


def play(channel):
    unary = channel.unary_unary("/t/unary")
    for size in (0, 1, 1000, 100_000, 3_000_000):
        response, call = unary.with_call(b"a" * size)
        check(f"unary {size}", (len(response), dict(call.trailing_metadata()).get("x-sum")), (size, str(size)))
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: unary(b"%d" % n), range(2000)))
    check("2,000 calls side by side", answers, [(b"%d" % n)[::-1] for n in range(2000)])
    for name in ("NOT_FOUND", "UNAVAILABLE", "INTERNAL", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"):
        try:
            channel.unary_unary("/t/fail")(name.encode())
            check(name, "answered", name)
        except grpc.RpcError as error:
            check(name, (error.code().name, error.details()), (name, "as asked"))
    try:
        channel.unary_unary("/t/nowhere")(b"")
        check("no such method", "answered", "UNIMPLEMENTED")
    except grpc.RpcError as error:
        check("no such method", error.code().name, "UNIMPLEMENTED")
    check("client stream", channel.stream_unary("/t/up")(b"x" * 1000 for _ in range(1000)), b"1000000")
    check("server stream", [int(m) for m in channel.unary_stream("/t/down")(b"1000")], list(range(1000)))
    check("both", [m for m in channel.stream_stream("/t/both")(b"%d" % n for n in range(1000))], [b"%d" % n for n in range(1000)])
    try:
        channel.unary_unary("/t/slow")(b"", timeout=0.3)
        check("deadline", "answered", "DEADLINE_EXCEEDED")
    except grpc.RpcError as error:
        check("deadline", error.code().name, "DEADLINE_EXCEEDED")
    stream = channel.unary_stream("/t/down")(b"100000000")
    next(stream)
    stream.cancel()
    check("after a cancelled call", unary(b"ab"), b"ba")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/debug/crossfade")
    binary = parser.parse_args().binary
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=(Service(),))
    backend = server.add_insecure_port("127.0.0.1:0")
    server.start()
    port, admin = free_ports(2)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(
            f"listeners: [{{ address: 127.0.0.1:{port} }}]\n"
            f"admin: {{ address: 127.0.0.1:{admin} }}\n"
            f"services: {{ t: {{ pools: {{ v1: {{ protocol: h2, backends: [127.0.0.1:{backend}] }} }} }} }}\n"
            f"routes: [{{ name: all, service: t }}]\n"
        )
        config.flush()
        proxy = subprocess.Popen([binary, "serve", config.name], stderr=subprocess.DEVNULL)
        try:
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                grpc.channel_ready_future(channel).result(timeout=20)
                play(channel)
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
            counted = re.findall(r'crossfade_failures_total\{[^}]*reason="grpc_status"[^}]*\} (\d+)', metrics)
            # UNAVAILABLE, INTERNAL, UNIMPLEMENTED and the method that there is not.
            check("failures counted", sum(map(int, counted)), 4)
        finally:
            proxy.terminate()
            proxy.wait(timeout=40)
            server.stop(None)
    print(f"{check.count} checks, {check.wrong} wrong")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
