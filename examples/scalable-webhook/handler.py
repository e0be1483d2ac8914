"""Books payments. An ordinary web server: one POST a payment, no SDK, standard library only.

What it answers decides what Weir does: 2xx is done, 429 means "not now" and costs no attempt, 500 is
tried again, and after the last attempt the payment is a dead letter.

    BUSY_SECONDS   answer 429 for so long after the first call (a database that is failing over)
    WORK_SECONDS   how long one booking takes
    LEDGER         file to which every call is written: start, end, status
"""
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY_SECONDS = float(os.environ.get("BUSY_SECONDS", "0"))
WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "0.005"))
LEDGER = os.environ.get("LEDGER")

lock = threading.Lock()
first_call = None


def decide(payment):
    """The status for one payment: the only interesting line of this file."""
    if time.monotonic() - first_call < BUSY_SECONDS:
        return 429
    if payment.get("amount", 0) < 0:
        return 500  # a bug that only this payment meets: retried, then a dead letter
    time.sleep(WORK_SECONDS)
    return 204


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        global first_call
        started = time.monotonic()
        with lock:
            first_call = first_call or started
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            status = decide(json.loads(body))
        except ValueError:
            status = 400  # not JSON: permanent, no second try
        self.note(started, status)
        self.answer(status)

    def note(self, started, status):
        if not LEDGER:
            return
        line = {
            "id": self.headers.get("weir-id"),
            "webhook": self.headers.get("webhook-id"),
            "attempt": int(self.headers.get("weir-attempt", 0)),
            "status": status,
            "start": started,
            "end": time.monotonic(),
        }
        with lock, open(LEDGER, "a", encoding="utf-8") as ledger:
            ledger.write(json.dumps(line) + "\n")

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    Server((os.environ.get("HOST", "0.0.0.0"), port), Handler).serve_forever()
