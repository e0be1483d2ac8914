#!/usr/bin/env python3
"""The scalable webhook in ten seconds: a burst over real HTTP, and every number checked.

usage: demo.py PATH-OF-WEIR

Starts `weir run` on this folder, posts 300 signed events at once (one of them poisonous), 20 with a
wrong signature or none and 5 twice, while the handler answers 429 for its first second and takes two calls at
a time. Ends with a table; exits with 1 when a number is not what it must be.
"""
import base64
import concurrent.futures
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = base64.b64decode("d2Vpci1leGFtcGxlLXNpZ25pbmcta2V5LTAwMDE=")
BURST, UNSIGNED, TWICE, LIMIT, ATTEMPTS = 300, 20, 5, 2, 3
DEADLINE = 60
local = threading.local()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post(port, name, body, key=KEY):
    """Posts one event as a provider would; answers the status and the message's id."""
    when = str(int(time.time()))
    headers = {"content-type": "application/json", "webhook-id": name}
    if key:
        signed = f"{name}.{when}.".encode() + body
        signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        headers |= {"webhook-timestamp": when, "webhook-signature": f"v1,{signature}"}
    if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    local.connection.request("POST", "/webhooks/payments", body, headers)
    answer = local.connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text or b"{}")


def events():
    for n in range(BURST):
        amount = -1 if n == 137 else n
        yield f"evt_{n:04}", json.dumps({"type": "payment.captured", "n": n, "amount": amount}).encode(), KEY
    for n in range(UNSIGNED):
        key = b"not the key" if n % 2 else None
        yield f"forged_{n:04}", b'{"type":"payment.captured","amount":1000000}', key


def ledger_lines(path):
    try:
        with open(path, encoding="utf-8") as f:
            return [json.loads(line) for line in f.read().splitlines() if line.endswith("}")]
    except FileNotFoundError:
        return []


def most_at_once(lines):
    edges = sorted([(l["start"], 1) for l in lines] + [(l["end"], -1) for l in lines])
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def weir(binary, *arguments):
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise SystemExit(f"demo: weir {' '.join(arguments)} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def show(text, end="\n"):
    if sys.stdout.isatty() or end == "\n":
        print(text, end=end, flush=True)


def main():
    binary = os.path.abspath(sys.argv[1])
    folder = tempfile.mkdtemp(prefix="weir-demo-")
    ledger, log = os.path.join(folder, "ledger.ndjson"), os.path.join(folder, "run.log")
    port, ops = free_port(), free_port()
    environment = {**os.environ, "BUSY_SECONDS": "1", "LEDGER": ledger}
    command = [binary, "run", "-f", HERE, "--listen", f"127.0.0.1:{port}", "--ops", f"127.0.0.1:{ops}"]
    print(f"$ weir run -f {os.path.relpath(HERE)}          (log: {log})")
    with open(log, "wb") as out:
        run = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        return demonstrate(binary, run, port, ops, ledger, log)
    finally:
        run.send_signal(signal.SIGTERM)
        try:
            run.wait(15)
        except subprocess.TimeoutExpired:
            run.kill()


def demonstrate(binary, run, port, ops, ledger, log):
    began = time.monotonic()
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
            break
        except OSError:
            if run.poll() is not None or time.monotonic() - began > 20:
                print(f"demo: weir run did not come up; see {log}", file=sys.stderr)
                return 1
            time.sleep(0.02)
    show(f"ready after {time.monotonic() - began:.2f} s; posting {BURST} signed and {UNSIGNED} unsigned or forged events")

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda e: post(port, *e), events()))
    absorbed = time.monotonic() - began
    again = [post(port, name, body, key) for name, body, key in list(events())[:TWICE]]
    ids = {a["id"] for status, a in answers if status == 202}
    accepted = sum(status == 202 for status, _ in answers)
    refused = sum(status == 401 for status, _ in answers)
    repeats = sum(a.get("duplicate", False) and a["id"] in ids for _, a in again)
    show(f"burst absorbed in {absorbed:.2f} s")

    dead = []
    while time.monotonic() - began < DEADLINE:
        lines = ledger_lines(ledger)
        handled = {l["id"] for l in lines if l["status"] == 204}
        poison = [l for l in lines if l["status"] == 500]
        busy = sum(l["status"] == 429 for l in lines)
        show(f"\r  handled {len(handled):3} of {BURST - 1}   told 'not now' {busy:3}   failed tries {len(poison)}", end="")
        if len(handled) >= BURST - 1 and len(poison) >= ATTEMPTS:
            dead = weir(binary, "dlq", "list", "webhook/payments", "--ops", f"http://127.0.0.1:{ops}", "-o", "json")["items"]
            if dead:
                break
        time.sleep(0.05)
    show("")

    lines = ledger_lines(ledger)
    handled = [l["id"] for l in lines if l["status"] == 204]
    reasons = sorted({f"{d['reason']} after {d['attempts']} attempts" for d in dead})
    # label, what happened, what must have happened
    rows = [
        ("posted", BURST + UNSIGNED, BURST + UNSIGNED),
        ("accepted (202, stored)", accepted, BURST),
        ("rejected (401, no signature)", refused, UNSIGNED),
        ("sent again, recognised", repeats, TWICE),
        ("handled", len(set(handled)), BURST - 1),
        ("handled twice", len(handled) - len(set(handled)), 0),
        ("dead-lettered", len(dead), 1),
        ("  why", ", ".join(reasons) or "-", f"MaxAttempts after {ATTEMPTS} attempts"),
        ("most calls at once", most_at_once(lines), LIMIT),
        ("accepted = handled + dead", len(set(handled) | {d["id"] for d in dead}) == len(ids) == BURST, True),
    ]
    wrong = [row for row in rows if row[1] != row[2]]
    for label, got, wanted in rows:
        print(f"  {label:28} {got!s:>32}   {'ok' if got == wanted else f'WRONG, must be {wanted}'}")
    busy = sum(l["status"] == 429 for l in lines)
    print(f"the handler answered 429 for a second ({busy} calls) and nothing was lost or spent; {time.monotonic() - began:.1f} s in all")
    if wrong:
        print(f"demo: {len(wrong)} numbers are wrong; see {log} and {ledger}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
