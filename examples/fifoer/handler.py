"""Books transfers. An ordinary web server, standard library only.

It relies on the order that Weir keeps: the transfers of an account come one after the other, each only
after the one before it was booked or given up. A transfer of 0 cannot be booked.
"""
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

balances = {}  # per account: the number of the last transfer, and the balance
under_way = set()  # accounts that are being booked


def say(line):
    sys.stderr.write(line + "\n")  # in one piece: accounts are booked at the same time


def book(transfer):
    """Books one transfer; answers the balance, or None when it cannot be booked."""
    account, number, amount = transfer["account"], transfer["number"], transfer["amount"]
    if account in under_way:
        say(f"{account}: two at once")
    under_way.add(account)
    try:
        last, balance = balances.get(account, (0, 0))
        if amount == 0:
            return None
        if number <= last:
            say(f"{account}: {number} after {last}, out of order")
        balances[account] = (number, balance + amount)
        return balance + amount
    finally:
        under_way.discard(account)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        transfer = json.loads(self.rfile.read(int(self.headers["content-length"])))
        account = self.headers["ce-partitionkey"]  # the group
        balance = book(transfer)
        if balance is None:
            attempt = self.headers["weir-attempt"]
            say(f"{account}: {transfer['number']} cannot be booked, attempt {attempt}")
            self.answer(500)
        else:
            say(f"{account}: {transfer['number']} booked, balance {balance}")
            self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    ThreadingHTTPServer((os.environ.get("HOST", "0.0.0.0"), port), Handler).serve_forever()
