"""HTTP/2 frames as no client should send them, written with `h2`, `hpack` and `hyperframe`.

Each case has a connection of its own and says what RFC 9113 has the server do: end the connection with GOAWAY and a
code, reset the stream with a code, or answer. PROTOCOL_ERROR stands for any more special code of a connection that ends:
hyper's HTTP/2 says little else. After all of them a good request is answered: nothing was left broken.
"""

import argparse
import socket
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe import frame as f

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BODY = b'{"model":"demo","max_tokens":4,"messages":[{"role":"user","content":"hi"}]}'


def head(path="/any", method="GET", more=(), leave=()):
    fields = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path), *more]
    return [field for field in fields if field[0] not in leave]


def headers(stream, fields, end=True, whole=True):
    block = Encoder().encode(fields)
    flags = (["END_STREAM"] if end else []) + (["END_HEADERS"] if whole else [])
    return f.HeadersFrame(stream, data=block, flags=flags).serialize()


def raw(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(**values):
    return f.SettingsFrame(0, settings={getattr(f.SettingsFrame, name): value for name, value in values.items()}).serialize()


class Peer:
    """A connection that has said its preface, and reads frames."""

    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.socket.sendall(PREFACE + settings())
        self.buffer = b""

    def send(self, *pieces):
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # What came before says why.

    def frames(self):
        """Every frame up to the end of the connection."""
        while True:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
                try:
                    more = self.socket.recv(65536)
                except ConnectionResetError:
                    more = b""
                if not more:
                    return
                self.buffer += more
            frame, length = f.Frame.parse_frame_header(memoryview(self.buffer[:9]))
            frame.parse_body(memoryview(self.buffer[9 : 9 + length]))
            self.buffer = self.buffer[9 + length :]
            yield frame

    def outcome(self):
        """The first thing that tells how it went."""
        for frame in self.frames():
            if isinstance(frame, f.GoAwayFrame) and frame.error_code:
                return "goaway", ErrorCodes(frame.error_code).name
            if isinstance(frame, f.RstStreamFrame):
                return "reset", ErrorCodes(frame.error_code).name
            if isinstance(frame, f.HeadersFrame):
                return ("answer",)
        return ("closed",)


def cases():
    """name, what is sent after the preface, outcomes that the RFC allows."""
    protocol, size, flow = ("goaway", "PROTOCOL_ERROR"), ("goaway", "FRAME_SIZE_ERROR"), ("goaway", "FLOW_CONTROL_ERROR")
    reset, closed = ("reset", "PROTOCOL_ERROR"), ("closed",)
    post = headers(1, head("/v1/chat/completions", "POST", [("content-length", str(len(BODY) + 1))]), end=False)
    data = lambda payload, end=True: f.DataFrame(1, data=payload, flags=["END_STREAM"] if end else []).serialize()
    yield "data on stream 0", [raw(0, 0, 0, b"x")], [protocol]
    yield "data on an idle stream", [raw(0, 0, 1, b"x")], [protocol, ("goaway", "STREAM_CLOSED")]
    yield "headers on stream 0", [raw(1, 5, 0, b"\x82")], [protocol]
    yield "headers on an even stream", [headers(2, head())], [protocol]
    yield "a stream that goes backwards", [headers(5, head()), headers(3, head())], [protocol, ("answer",), ("goaway", "STREAM_CLOSED")]
    yield "a frame longer than allowed", [raw(0, 0, 1, b"x" * 16385)], [size, protocol]
    yield "settings of an odd size", [raw(4, 0, 0, b"12345")], [size]
    yield "settings on a stream", [raw(4, 0, 1, b"")], [protocol]
    yield "an acknowledgement with a payload", [raw(4, 1, 0, b"123456")], [size]
    yield "a push that is neither on nor off", [settings(ENABLE_PUSH=2)], [protocol]
    yield "a window beyond 2^31", [settings(INITIAL_WINDOW_SIZE=2**31)], [flow]
    yield "a frame size below 16384", [settings(MAX_FRAME_SIZE=100)], [protocol]
    yield "a ping of 7 bytes", [raw(6, 0, 0, b"1234567")], [size]
    yield "a ping on a stream", [raw(6, 0, 1, b"12345678")], [protocol]
    yield "a window update of nothing", [raw(8, 0, 0, b"\0\0\0\0")], [protocol]
    yield "window updates beyond 2^31", [raw(8, 0, 0, b"\x7f\xff\xff\xff")] * 2, [flow]
    yield "a window update of 3 bytes", [raw(8, 0, 0, b"\0\0\1")], [size]
    yield "a push by a client", [raw(5, 4, 1, b"\0\0\0\2\x82")], [protocol]
    yield "a reset of an idle stream", [raw(3, 0, 1, b"\0\0\0\0")], [protocol]
    yield "a priority of 4 bytes", [raw(2, 0, 1, b"\0\0\0\0")], [size, ("reset", "FRAME_SIZE_ERROR")]
    yield "padding longer than its frame", [raw(1, 0x0D, 1, b"\xff\x82")], [protocol]
    yield "a continuation of nothing", [raw(9, 4, 1, b"\x82")], [protocol]
    yield "headers broken by another frame", [headers(1, head(), whole=False), raw(6, 0, 0, b"12345678")], [protocol]
    yield "headers that do not decode", [raw(1, 5, 1, b"\xff\xff\xff\xff\xff\xff")], [("goaway", "COMPRESSION_ERROR")]
    yield "no method", [headers(1, head(leave=[":method"]))], [reset]
    yield "no path", [headers(1, head(leave=[":path"]))], [reset, ("answer",)]
    yield "a name in capitals", [headers(1, head(more=[("X-Big", "1")]))], [reset, protocol]
    yield "a pseudo-header behind others", [headers(1, [("x", "1"), *head()])], [reset, protocol]
    yield "an unknown pseudo-header", [headers(1, head(more=[(":odd", "1")]))], [reset, protocol]
    yield "a pseudo-header twice", [headers(1, head(more=[(":path", "/other")]))], [reset, protocol]
    yield "a header for one connection", [headers(1, head(more=[("connection", "close")]))], [reset, protocol]
    yield "a transfer coding", [headers(1, head(more=[("transfer-encoding", "chunked")]))], [reset, protocol]
    yield "a body shorter than its length", [post, data(BODY)], [reset]
    yield "a body longer than its length", [post, data(BODY + b"  ")], [reset]
    yield "an unknown frame, which is let go", [raw(99, 0xFF, 1, b"odd"), headers(1, head())], [("answer",)]
    endless = [headers(1, head(), whole=False)] + [raw(9, 0, 1, b"\0\1a" + b"\x7f\x81\x7d" + b"b" * 16000)] * 40
    yield "an endless head", endless, [("goaway", "ENHANCE_YOUR_CALM"), ("goaway", "COMPRESSION_ERROR"), closed]
    resets = b"".join(headers(n, head()) + raw(3, 0, n, b"\0\0\0\x08") for n in range(1, 20001, 2))
    yield "ten thousand streams, each reset at once", [resets], [("goaway", "ENHANCE_YOUR_CALM")]


def good_request(address):
    """Answered to a client that keeps every rule."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection = socket.create_connection(address)
    client.initiate_connection()
    client.send_headers(1, head("/v1/chat/completions", "POST", [("content-type", "application/json")]))
    client.send_data(1, BODY, end_stream=True)
    connection.sendall(client.data_to_send())
    status = None
    while True:
        events = client.receive_data(connection.recv(65536))
        connection.sendall(client.data_to_send())
        for event in events:
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[":status"]
            if isinstance(event, h2.events.StreamEnded):
                return status


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--base-url", required=True)
    url = urlsplit(arguments.parse_args().base_url)
    address = (url.hostname, url.port)
    wrong = []
    for name, pieces, allowed in cases():
        peer = Peer(address)
        peer.send(*pieces)
        outcome = peer.outcome()
        peer.socket.close()
        print(f"{name}: {' '.join(outcome)}")
        if any(kind[0] == "goaway" for kind in allowed):
            allowed = [*allowed, ("goaway", "PROTOCOL_ERROR")]
        if outcome not in allowed:
            wrong.append(f"{name}: {outcome}, not one of {allowed}")
    assert not wrong, "\n".join(wrong)
    assert good_request(address) == "200"


if __name__ == "__main__":
    main()
