"""Writes rows in batches. An ordinary web server, standard library only.

A batch arrives as a JSON array of CloudEvents. The answer names the events that failed, exactly as a
Lambda function behind SQS does; Weir tries those again and is done with the others.
"""
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def write(rows):
    """Pretends to be one bulk insert; answers the positions of the rows that the table refused."""
    return [n for n, row in enumerate(rows) if not isinstance(row, dict) or row.get("amount", 0) < 0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        events = json.loads(self.rfile.read(int(self.headers["content-length"])))
        failed = write([event.get("data") for event in events])
        print(f"wrote {len(events) - len(failed)} rows, refused {len(failed)}", file=sys.stderr)
        self.answer({"batchItemFailures": [{"itemIdentifier": events[n]["id"]} for n in failed]})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    ThreadingHTTPServer((os.environ.get("HOST", "0.0.0.0"), port), Handler).serve_forever()
