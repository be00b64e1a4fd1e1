#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The smallest route against nginx `return 200`: rounds alternate, medians are compared, one core each for server and load.

hello.py BENCH_HELLO [--rounds N] [--seconds S] [--connections 64,1000,10000] prints one JSON object. Also measured: the same route from a
fiber, and the memory of an idle keep-alive connection of both servers.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

NGINX_CONF = """
worker_processes 1;
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 15000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ default_type text/plain; return 200 "hello\\n"; }} }}
}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on {port}")


def pinned(cpu, *command, **kw):
    """One core for the server, another for the load, when there are two."""
    cpus = sorted(os.sched_getaffinity(0))
    return subprocess.Popen(["taskset", "-c", str(cpus[cpu % len(cpus)]), *command], **kw)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    return int(re.search(r"^RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)) * 1024


def load(url, connections, seconds, pid):
    before = cpu_seconds(pid)
    p = pinned(1, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", url, stdout=subprocess.PIPE, text=True)
    text = p.communicate()[0]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    errors = re.search(r"(Socket errors|Non-2xx).*", text)
    return rate, (cpu_seconds(pid) - before) / max(requests, 1) * 1e6, errors.group(0) if errors else None


def idle_bytes(port, pid, n=8000):
    """Memory a connection that has had one request and waits, by the growth of a server that is warm already."""
    def visit(count):
        opened = []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            s.recv(4096)
            opened.append(s)
        return opened
    warm = visit(200)
    before = resident(pid)
    opened = visit(n)
    grown = (resident(pid) - before) / n
    for s in warm + opened:
        s.close()
    time.sleep(0.5)
    return grown


def main():
    args = argparse.ArgumentParser()
    args.add_argument("program", nargs="?", default=os.path.join(os.environ.get("S24_BUILD", "build/release"), "bench", "bench_hello"))
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--seconds", type=int, default=4)
    args.add_argument("--connections", default="64,1000,10000")
    args.add_argument("--no-memory", action="store_true")
    args = args.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))

    with tempfile.TemporaryDirectory() as where:
        port = {"ours": free_port(), "nginx": free_port()}
        conf = pathlib.Path(where, "nginx.conf")
        conf.write_text(NGINX_CONF.format(dir=where, port=port["nginx"]))
        servers = {"ours": pinned(0, args.program, f"127.0.0.1:{port['ours']}", stdout=subprocess.DEVNULL),
                   "nginx": pinned(0, "nginx", "-c", str(conf), "-p", where, stderr=subprocess.DEVNULL)}
        try:
            for name in servers:
                wait_port(port[name])
            pid = {name: p.pid for name, p in servers.items()}
            out = {"connections": {}}
            # Memory first: what load has left in the heaps would hide the growth.
            if not args.no_memory:
                memory = {name: idle_bytes(port[name], pid[name]) for name in servers}
                out["idle_connection_bytes"] = {**{k: round(v) for k, v in memory.items()}, "ratio": round(memory["ours"] / memory["nginx"], 3)}
            for connections in map(int, args.connections.split(",")):
                urls = {"nginx": ("nginx", "/"), "ours": ("ours", "/"), "ours_fiber": ("ours", "/fiber")}
                rates, cpu, errors = {u: [] for u in urls}, {u: [] for u in urls}, []
                for _ in range(args.rounds):
                    for name, (server, path) in urls.items():
                        rate, us, error = load(f"http://127.0.0.1:{port[server]}{path}", connections, args.seconds, pid[server])
                        rates[name].append(rate)
                        cpu[name].append(us)
                        errors += [f"{name}: {error}"] if error else []
                median = {name: statistics.median(v) for name, v in rates.items()}
                out["connections"][connections] = {
                    "requests_per_s": {k: round(v) for k, v in median.items()},
                    "cpu_us_per_request": {k: round(statistics.median(v), 2) for k, v in cpu.items()},
                    "ratio": round(median["ours"] / median["nginx"], 3),
                    "ratio_fiber": round(median["ours_fiber"] / median["nginx"], 3),
                    "errors": errors}
            print(json.dumps(out, indent=1))
        finally:
            for p in servers.values():
                p.terminate()
                p.wait()


if __name__ == "__main__":
    main()
