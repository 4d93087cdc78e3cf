"""A corpus of malformed requests to the service, as a client, a proxy or an attacker may send them.

Each is the bytes of one connection and the allowed statuses; 0 means that the connection closes without a response.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests import wire

REFUSED: Final = frozenset({0, *range(400, 500)})
ANY: Final = frozenset({0, *range(200, 500)})
"""For requests that may also succeed: the service only must not fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """One malformed request on its own connection."""

    name: str
    request: bytes
    allowed: frozenset[int] = REFUSED
    method: str = "POST"


def requests(own: str, row: Mapping[str, Any], image: Mapping[str, Any]) -> Iterator[Malformed]:
    """Yield all malformed requests.

    `own` is the service's host:port, `row` a valid row of titanic, `image` the name and the image column of a project
    without other features.
    """
    yield from _bodies(own, row)
    yield from _content_types(own, row)
    yield from _framing(own, row)
    yield from _targets(own, row)
    yield from _headers(own, row)
    yield from _protocol(own)
    yield from _feedback(own)
    yield from _images(own, image)


def _post(own: str, path: str, body: bytes, *headers: tuple[str, str], media: str = "application/json") -> bytes:
    return wire.request("POST", path, [("Host", own), ("Connection", "close"), ("Content-Type", media), *headers], body)


def _bodies(own: str, row: Mapping[str, Any]) -> Iterator[Malformed]:
    """Yield bodies with odd numbers, nesting, encodings and shapes."""
    right = json.dumps(row)
    values = (
        *(
            "NaN",
            "Infinity",
            "-Infinity",
            "1e400",
            "-1e400",
            "1e39",
            "9" * 400,
            "-1",
            "121",
            "0x10",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
        ),
        *(
            "true",
            '"1"',
            '"NaN"',
            "[1]",
            '{"a": 1}',
            "null,",
            '"\\ud800"',
            '"\\u0000"',
            "1" + "0" * 5000,
            "1e-400",
            "2.5e5",
        ),
    )
    for value in values:
        body = right.replace(f'"age": {json.dumps(row["age"])}', f'"age": {value}')
        yield Malformed(
            name=f"age {value[:20]}",
            request=_post(own, "/titanic/predict", body.encode()),
            allowed=ANY if value == "1e-400" else REFUSED,
        )
    integers = ("1.5", "1e1", "99999999999999999999", "-1", "21", "true", '"1"', "9223372036854775808")
    for value in integers:
        body = right.replace(f'"sibsp": {row["sibsp"]}', f'"sibsp": {value}')
        yield Malformed(name=f"sibsp {value}", request=_post(own, "/titanic/predict", body.encode()), allowed=ANY)
    texts = (
        "x" * 1001,
        "\\u0000",
        "</script><script>alert(1)</script>",
        "{{7*7}}",
        "\\u202e",
        "'; DROP TABLE x;--",
        "",
    )
    for value in texts:
        body = right.replace('"Mr"', f'"{value}"')
        yield Malformed(name=f"title {value[:20]}", request=_post(own, "/titanic/predict", body.encode()), allowed=ANY)
    shapes = {
        "nothing": b"",
        "null": b"null",
        "a number": b"1",
        "a text": b'"x"',
        "an empty list": b"[]",
        "a list": f"[{right}]".encode(),
        "an empty object": b"{}",
        "no rows": b'{"rows": []}',
        "rows of null": b'{"rows": [null]}',
        "rows of lists": b'{"rows": [[1]]}',
        "rows twice": f'{{"rows": [{right}], "rows": []}}'.encode(),
        "1,001 rows": json.dumps({"rows": [row] * 1001}).encode(),
        "a field twice": right.replace("{", '{"age": "x", ', 1).encode(),
        "an unknown field": right.replace("{", '{"__class__": "x", ', 1).encode(),
        "an empty name": right.replace("{", '{"": 1, ', 1).encode(),
        "a name of 100,000 characters": right.replace("{", f'{{"{"n" * 100_000}": 1, ', 1).encode(),
        "100,000 names": json.dumps({f"n{i}": i for i in range(100_000)}).encode(),
        "100,000 open lists": b"[" * 100_000,
        "100,000 open objects": b'{"a":' * 100_000,
        "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
        "nested rows": b'{"rows": [' * 50_000,
        "cut off": right[:-5].encode(),
        "followed by more": (right + right).encode(),
        "a comment": ("/* */" + right).encode(),
        "single quotes": right.replace('"', "'").encode(),
        "a byte order mark": b"\xef\xbb\xbf" + right.encode(),
        "UTF-16": right.encode("utf-16"),
        "UTF-32": right.encode("utf-32"),
        "Latin-1": right.replace("Mr", "\u00fc").encode("latin-1"),
        "an overlong encoding": right.encode().replace(b"Mr", b"\xc0\xaf"),
        "a lone continuation": right.encode().replace(b"Mr", b"\x80"),
        "NULs": b"\0" * 1000,
        "random bytes": bytes(range(256)) * 40,
        "white space": b" " * 1_000_000,
        "a pickle": b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "XML with an entity": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        "YAML": b"!!python/object/apply:os.system ['id']",
    }
    for name, content in shapes.items():
        yield Malformed(
            name=name,
            request=_post(own, "/titanic/predict", content),
            allowed=ANY if name in {"a field twice", "rows twice", "a byte order mark"} else REFUSED,
        )
    yield Malformed(name="9 MiB", request=_post(own, "/titanic/predict", b"[" + b" " * (9 << 20) + b"]"))


def _content_types(own: str, row: Mapping[str, Any]) -> Iterator[Malformed]:
    body = json.dumps(row).encode()
    for media in (
        *(
            "text/plain",
            "application/x-www-form-urlencoded",
            "text/json",
            "application/jsonp",
            "application/xml",
            "*/*",
            "json",
            "",
        ),
        *(
            "application/vnd.bentoml+pickle",
            "application/vnd.bentoml.pickle",
            "application/octet-stream",
            "application/x-pickle",
        ),
        *(
            "image/png",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=x",
            "application/json, text/plain",
        ),
    ):
        for path in ("/titanic/predict", "/predict"):
            yield Malformed(name=f"content type {media} to {path}", request=_post(own, path, body, media=media))
    for encoding, content in (
        ("gzip", gzip.compress(body)),
        ("gzip", gzip.compress(b"0" * 50_000_000)),
        ("br", body),
        ("deflate", zlib.compress(body)),
        ("identity", body),
        ("gzip, gzip", gzip.compress(gzip.compress(body))),
    ):
        allowed = ANY if content == body else REFUSED  # the service ignores the header and reads the body as it is
        yield Malformed(
            name=f"content encoding {encoding}, {len(content)} bytes",
            request=_post(own, "/titanic/predict", content, ("Content-Encoding", encoding)),
            allowed=allowed,
        )
    two = [("Content-Type", "text/plain")]
    yield Malformed(name="two content types", request=_post(own, "/titanic/predict", body, *two))
    charset = "application/json; charset=utf-16"
    yield Malformed(name="another charset", request=_post(own, "/titanic/predict", body, media=charset), allowed=ANY)


def _framing(own: str, row: Mapping[str, Any]) -> Iterator[Malformed]:
    """Yield odd lengths, chunks and smuggling: bytes after a request must never count as another request."""
    body = json.dumps(row).encode()
    start = f"POST /titanic/predict HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\n".encode()
    smuggled = f"GET /smuggled HTTP/1.1\r\nHost: {own}\r\n\r\n".encode()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    cases: dict[str, bytes] = {
        "CL and TE": start + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + smuggled,
        "TE and CL": start + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunks + smuggled,
        "two lengths": start + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n" + body,
        "two lengths in one": start + b"Content-Length: 4, 5\r\n\r\n" + body,
        "a negative length": start + b"Content-Length: -1\r\n\r\n" + body,
        "a length with a sign": start + b"Content-Length: +4\r\n\r\n" + body,
        "a length in hexadecimal": start + b"Content-Length: 0x4\r\n\r\n" + body,
        "a length that is no number": start + b"Content-Length: four\r\n\r\n" + body,
        "a huge length": start + b"Content-Length: 99999999999999999999999\r\n\r\n" + body,
        "a length of 8 GiB": start + b"Content-Length: 8589934592\r\n\r\n" + body,
        "a length with white space": start + b"Content-Length : 4\r\n\r\n" + body,
        "TE identity": start + b"Transfer-Encoding: identity\r\n\r\n" + body,
        "TE xchunked": start + b"Transfer-Encoding: xchunked\r\n\r\n" + chunks,
        "TE chunked twice": start + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunks,
        "TE gzip, chunked": start + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks,
        "TE with a tab": start + b"Transfer-Encoding:\tchunked\r\n\r\n" + chunks,
        "TE with a vertical tab": start + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + chunks,
        "TE folded": start + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunks,
        "TE with white space": start + b"Transfer-Encoding : chunked\r\n\r\n" + chunks,
        "a chunk of no size": start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
        "a negative chunk": start + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + body,
        "a huge chunk": start + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + body,
        "a chunk with an extension of 100,000": start
        + b"Transfer-Encoding: chunked\r\n\r\n1;"
        + b"x" * 100_000
        + b"\r\n{\r\n0\r\n\r\n",
        "a chunk that lies": start + b"Transfer-Encoding: chunked\r\n\r\n2\r\n" + body + b"\r\n0\r\n\r\n",
        "a trailer": start
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + chunks[:-2]
        + b"Content-Length: 99\r\nHost: evil.example\r\n\r\n",
        "9 MiB of chunks": start
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 144
        + b"0\r\n\r\n",
        "bare line feeds": (start + b"Content-Length: 4\r\n\r\n").replace(b"\r\n", b"\n") + body,
        "bare carriage returns": (start + b"Content-Length: 4\r\n\r\n").replace(b"\r\n", b"\r") + body,
        "a length that ends early": start + b"Connection: close\r\nContent-Length: 4\r\n\r\n" + body,
        "Expect": start + b"Connection: close\r\nExpect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}",
    }
    right = {"a trailer", "bare line feeds", "TE with a tab", "TE gzip, chunked"}  # valid framing
    for name, request in cases.items():
        yield Malformed(name=name, request=request, allowed=ANY if name in right else REFUSED)


def _targets(own: str, row: Mapping[str, Any]) -> Iterator[Malformed]:
    body = json.dumps(row).encode()
    for path in (
        *(
            "/titanic%2fpredict",
            "/titanic%252fpredict",
            "//titanic/predict",
            "/titanic//predict",
            "/titanic/predict/",
            "/./titanic/predict",
        ),
        *(
            "/../titanic/predict",
            "/titanic/../titanic/predict",
            "/TITANIC/predict",
            "/titanic%00/predict",
            "/titanic/predict%00",
            "/%ff/predict",
        ),
        *(
            "/titanic;x=1/predict",
            "/titanic/predict?a=b&a[]=c",
            "/titanic/predict#x",
            "/\u00fc/predict",
            "/predict",
            "/v2/models//infer",
        ),
        *(
            "/v2/models/../titanic/infer",
            "/" + "a" * 20_000 + "/predict",
            "/titanic_monitor/predict",
            "/*/predict",
            "/-/predict",
            "*",
            "",
        ),
        *(
            "http://evil.example/titanic/predict",
            f"http://{own}/titanic/predict",
            "https://[::1/titanic/predict",
            "titanic/predict",
            "/titanic/ predict",
        ),
    ):
        yield Malformed(name=f"target {path[:30]}", request=_post(own, path, body), allowed=ANY)
    for method in (
        "GET",
        "HEAD",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "get",
        "G\tET",
        "POST\0",
        "M" * 5000,
    ):
        request = wire.request(method, "/titanic/predict", [("Host", own), ("Connection", "close")])
        yield Malformed(
            name=f"method {method[:20]!r}",
            request=request,
            method=method,
            allowed=ANY if method in {"OPTIONS", "HEAD"} else REFUSED,
        )
    for version in ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/9.9", "HTTP/1", "http/1.1", "ICY", ""):
        yield Malformed(
            name=f"version {version}",
            request=wire.request(
                "POST",
                "/titanic/predict",
                [("Host", own), ("Content-Type", "application/json"), ("Connection", "close")],
                b"{}",
                version=version,
            ),
        )


def _headers(own: str, row: Mapping[str, Any]) -> Iterator[Malformed]:
    body = b"{}"
    many = [(f"X-{number}", "x") for number in range(3000)]
    odd: dict[str, list[tuple[str, str]]] = {
        "a header of 100,000 characters": [("X", "x" * 100_000)],
        "a header of 1,000,000 characters": [("X", "x" * 1_000_000)],
        "a header name of 100,000 characters": [("x" * 100_000, "x")],
        "3,000 headers": many,
        "a cookie of 100,000 characters": [("Cookie", "x" * 100_000)],
        "two hosts": [("Host", "evil.example")],
        "a space in a name": [("X Y", "x")],
        "no name": [("", "x")],
        "a NUL": [("X", "a\0b")],
        "a line feed": [("X", "a\nb: c")],
        "a control character": [("X", "a\x01b")],
        "a long range": [("Range", "bytes=" + ",".join(f"{i}-" for i in range(1000)))],
        "an upgrade to WebSocket": [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ],
        "an upgrade to h2c": [
            ("Upgrade", "h2c"),
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ],
        "another method by override": [("X-HTTP-Method-Override", "DELETE")],
        "hop-by-hop": [("Connection", "close, Content-Type, Host")],
        "forwarded": [
            ("X-Forwarded-Host", "evil.example"),
            ("Forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
            ("X-Forwarded-Prefix", "/../"),
        ],
    }
    for name, headers in odd.items():
        yield Malformed(name=name, request=_post(own, "/titanic/predict", body, *headers))
    yield Malformed(
        name="no host", request=wire.request("POST", "/titanic/predict", [("Content-Type", "application/json")], body)
    )
    yield Malformed(name="an HTTP/2 preface", request=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100)
    yield Malformed(name="a TLS hello", request=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500)
    yield Malformed(name="an empty line of 1,000,000 characters", request=b"\r\n" * 500_000)
    yield Malformed(name="a request line of 1,000,000 characters", request=b"GET /" + b"a" * 1_000_000)


def _protocol(own: str) -> Iterator[Malformed]:
    """Yield requests of the Open Inference Protocol."""
    tensor = {"name": "age", "shape": [1], "datatype": "FP64", "data": [1.0]}
    bodies: dict[str, Any] = {
        "no inputs": {"inputs": []},
        "no tensor": {"inputs": [None]},
        "another shape": {"inputs": [tensor | {"shape": [2]}]},
        "a negative shape": {"inputs": [tensor | {"shape": [-1]}]},
        "a huge shape": {"inputs": [tensor | {"shape": [2**62]}]},
        "no data": {"inputs": [tensor | {"data": []}]},
        "data of lists": {"inputs": [tensor | {"data": [[1.0]]}]},
        "one tensor twice": {"inputs": [tensor, tensor]},
        "an unknown tensor": {"inputs": [tensor | {"name": "x" * 10_000}]},
        "a number as name": {"inputs": [tensor | {"name": 1}]},
        "a shape of texts": {"inputs": [tensor | {"shape": ["1"]}]},
        "an id of 100,000": {"id": "x" * 100_000, "inputs": [tensor]},
    }
    for name, body in bodies.items():
        yield Malformed(name=f"OIP {name}", request=_post(own, "/v2/models/titanic/infer", json.dumps(body).encode()))
    for path in (
        "/v2/models/x/infer",
        "/v2/models/titanic/versions/1/infer",
        "/v2/repository/models/titanic/load",
        "/v2/models/titanic/unload",
    ):
        yield Malformed(name=f"OIP {path}", request=_post(own, path, b"{}"))


def _feedback(own: str) -> Iterator[Malformed]:
    bodies: dict[str, Any] = {
        "no labels": {"labels": []},
        "an empty id": {"labels": [{"id": "", "label": "1"}]},
        "a long id": {"labels": [{"id": "x" * 201, "label": "1"}]},
        "a foreign class": {"labels": [{"id": "x-0", "label": "2"}]},
        "a label of a list": {"labels": [{"id": "x-0", "label": ["1"]}]},
        "no label": {"labels": [{"id": "x-0"}]},
        "a null label": {"labels": [{"id": "x-0", "label": None}]},
        "1,001 labels": {"labels": [{"id": f"x-{n}", "label": "1"} for n in range(1001)]},
        "a client's name": {"labels": [{"id": "x-0", "label": "1", "client": "trusted"}]},
        "a time": {"labels": [{"id": "x-0", "label": "1", "time": 0}]},
    }
    for name, body in bodies.items():
        yield Malformed(name=f"feedback {name}", request=_post(own, "/titanic/feedback", json.dumps(body).encode()))


def _images(own: str, image: Mapping[str, Any]) -> Iterator[Malformed]:
    project, column = image["project"], image["column"]
    path = f"/{project}/predict"
    text = zlib.compress(b"x" * 50_000_000, 9)
    bombs: dict[str, bytes] = {
        "16,000,000 x 1": png(16_000_000, 1),
        "1 x 16,000,000": png(1, 16_000_000),
        "50,000 x 50,000": png(50_000, 50_000, rows=1),
        "2^31 - 1 squared": png(2**31 - 1, 2**31 - 1, rows=0),
        "no pixels": png(0, 0, rows=0),
        "cut off": png(28, 28)[:-20],
        "a text chunk of 50 MB": png(28, 28, chunk(b"zTXt", b"k\0\0" + text)),
        "a profile of 50 MB": png(28, 28, chunk(b"iCCP", b"k\0\0" + text)),
        "a wrong checksum": png(28, 28)[:-16] + b"\0" * 16,
        "a palette without one": png(28, 28, colour=3),
        "an unknown colour": png(28, 28, colour=7),
        "no PNG after its signature": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        "a GIF": b"GIF89a" + b"\xff" * 20,
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "a PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/etc/passwd) (r) file\n",
        "a TIFF": b"II*\0\x08\0\0\0\xff\xff",
        "a JPEG that ends": b"\xff\xd8\xff\xe0" + b"\0" * 10,
        "nothing": b"",
    }
    for name, content in bombs.items():
        allowed = (
            ANY
            if name in {"a palette without one", "a text chunk of 50 MB", "a profile of 50 MB", "a wrong checksum"}
            else REFUSED
        )
        row = json.dumps({column: base64.b64encode(content).decode()}).encode()
        yield Malformed(name=f"image {name}", request=_post(own, path, row), allowed=allowed)
        yield Malformed(
            name=f"image {name} as the body", request=_post(own, path, content, media="image/png"), allowed=allowed
        )
    wide = base64.b64encode(png(8_000_000, 1)).decode()
    rows = json.dumps({"rows": [{column: wide}] * 200}).encode()
    yield Malformed(name="200 wide images", request=_post(own, path, rows))
    odd: dict[str, Any] = {
        "no base64": "!!!",
        "a number": 1,
        "a URL": "http://127.0.0.1/x",
        "a file": "file:///etc/passwd",
        "an odd data URL": "data:image/png;base64,",
        "a list": [1, 2],
    }
    for name, value in odd.items():
        yield Malformed(name=f"image {name}", request=_post(own, path, json.dumps({column: value}).encode()))
    part = (
        b'--x\r\nContent-Disposition: form-data; name="%s"; filename="../../x"\r\nContent-Type: image/png\r\n\r\n%s\r\n'
    )
    forms = {
        "no end": part % (column.encode(), png(28, 28)),
        "two files": part % (column.encode(), png(28, 28)) * 2 + b"--x--\r\n",
        "another name": part % (b"x" * 10_000, png(28, 28)) + b"--x--\r\n",
        "10,000 parts": part % (b"y", b"") * 10_000 + b"--x--\r\n",
        "a preamble of 7 MB": b"x" * 7_000_000 + b"\r\n--x--\r\n",
    }
    for name, content in forms.items():
        yield Malformed(
            name=f"form with {name}",
            request=_post(own, path, content, media="multipart/form-data; boundary=x"),
            allowed=ANY if name == "two files" else REFUSED,
        )


def chunk(kind: bytes, content: bytes) -> bytes:
    """Encode a chunk of a PNG (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *extra: bytes, rows: int | None = None, colour: int = 0) -> bytes:
    """Encode a black image; the file contains `rows` of its rows, all by default."""
    packed = zlib.compressobj(9)
    line = b"\0" * (width + 1) if rows != 0 else b""
    pixels = b"".join(
        [*(packed.compress(line) for _ in range(min(height, 16_000_000) if rows is None else rows)), packed.flush()]
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
