#!/usr/bin/env python3
# A stand-in for a billing system: takes the cashier's calls, checks who calls, and "buys" each purchase once.
#
#   export TOLLGATE_CASHIER_SECRET=$(openssl rand -hex 32)
#   python3 examples/webhook.py                      # listens on 127.0.0.1:7400, keeps its books in memory
#   tollgate serve --store /tmp/tollgate.redb --cashier-payment-url http://127.0.0.1:7400/purchases \
#     --cashier-alerts-url http://127.0.0.1:7400/alerts
#
# What to copy from it: `is_ours` (signature and time), and that the key of a purchase is written down together with its
# result, before the answer. Needs nothing but Python 3.8.
import argparse
import hashlib
import hmac
import json
import os
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A call that was recorded and is played again later than this is refused.
WINDOW_SECONDS = 300


def is_ours(secret: str, headers, body: bytes, now: float) -> bool:
    """Whether Tollgate signed this body, just now, with our secret."""
    timestamp = headers.get("tollgate-timestamp", "")
    if not timestamp.isdigit() or abs(now - int(timestamp)) > WINDOW_SECONDS:
        return False
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    # While the secret is being replaced there are two signatures; one that is right will do.
    given = headers.get("tollgate-signature", "").split(",")
    return any(hmac.compare_digest("v1=" + mac, one.strip()) for one in given)


class Books:
    """What was bought and told, each once for each key."""

    def __init__(self, path: str):
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.execute("CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY, call TEXT, answer TEXT)")

    def once(self, key: str, call: dict, work):
        """The answer that was given to this key before, or what `work` answers now."""
        with self.lock, self.database:
            row = self.database.execute("SELECT call, answer FROM done WHERE key = ?", (key,)).fetchone()
            if row is None:
                answer = work(call)
                row = (json.dumps(call), json.dumps(answer))
                self.database.execute("INSERT INTO done VALUES (?, ?, ?)", (key, *row))
        return (200, json.loads(row[1])) if json.loads(row[0]) == call else (409, {"status": "key used otherwise"})


def buy(call: dict) -> dict:
    """Here a real one charges the customer's card, with the purchase id as the payment provider's idempotency key."""
    print(f"buys {call['amount']} {call['currency']} for {call['account']} ({call['purchase_id']})", flush=True)
    return {"status": "succeeded", "purchase_id": call["purchase_id"], "reference": f"example {call['purchase_id']}"}


def hear(call: dict) -> dict:
    """Here a real one writes a mail."""
    print(f"hears {call['type']} of {call['account']} ({call['id']})", flush=True)
    return {}


class Receiver(BaseHTTPRequestHandler):
    secret: str
    books: Books

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not is_ours(self.secret, self.headers, body, time.time()):
            return self.answer(401, {"status": "not signed with our secret, or too old"})
        call = json.loads(body)
        work = buy if call["type"] == "purchase" else hear
        self.answer(*self.books.once(self.headers["idempotency-key"], call, work))

    def answer(self, status: int, content: dict):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Takes calls of Tollgate's cashier.")
    options.add_argument("--port", type=int, default=7400)
    options.add_argument("--books", default=":memory:", help="an SQLite file, to remember over restarts")
    chosen = options.parse_args()
    Receiver.secret = os.environ["TOLLGATE_CASHIER_SECRET"]
    Receiver.books = Books(chosen.books)
    print(f"listens on http://127.0.0.1:{chosen.port}", flush=True)
    ThreadingHTTPServer(("127.0.0.1", chosen.port), Receiver).serve_forever()
