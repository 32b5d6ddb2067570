"""HTTP by hand: what tests that have hundreds of streams, or look at every byte, ask by."""

import json
import socket


def request_bytes(path, body):
    data = json.dumps(body).encode()
    return (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data
    )


async def read_reply(reader):
    """The status, and the body in a list, or None where it comes in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if b"chunked" not in head:
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return status, [await reader.readexactly(length)]
    return status, None


async def read_chunk(reader):
    """None at the end."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    data = await reader.readexactly(size + 2)
    return data[:-2] if size else None


def text_of(events):
    """Of the whole events of a stream of completions."""
    text = ""
    for event in events.decode(errors="replace").split("\n\n")[:-1]:
        if event.startswith("data: {"):
            content = json.loads(event[6:])
            if "error" in content:
                raise AssertionError(content)
            text += content["choices"][0]["text"]
    return text


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
