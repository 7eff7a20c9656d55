"""A link carries frames: four bytes of length, then that many bytes, over any stream of bytes.

The length is checked against a limit as soon as its four bytes are here, before anything is kept for it, so a
stranger's bytes cost at most one read. The kernel's store of unsent bytes is kept small where it can be asked to,
or a frame made now would wait behind a megabyte made earlier and the core's lanes would mean nothing.

Decision: the splitter is a plain object fed with bytes, apart from the stream, so that a test can cut its input
at every place. The refused alternative, `receive_exactly` for header and body, costs two more trips through
the scheduler per frame, and a batch of small frames would take one each.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable

import trio

__all__ = ["HEADER", "READ_BYTES", "SEND_BYTES", "FrameTooLong", "Link", "LinkLost", "Splitter", "joined", "tune"]

HEADER = 4
READ_BYTES = 65_536  # one read; at most so much is taken in between two turns of the scheduler
SEND_BYTES = 65_536  # frames are joined into one send up to about this size
_UNSENT_BYTES = 131_072  # what the kernel may hold unsent before the link counts as busy
_NETWORK = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class LinkLost(Exception):
    """Fault: nobody's: the other side closed the link, or the network did. Never leaves the runtime.

    State: the link is unusable; what was not accounted for is sent again on the next one.
    Do: close it and tell the core, which asks for a new one.
    """


class FrameTooLong(LinkLost):
    """Fault: the other side's, or it is no peer at all and its first bytes were read as a length.

    State: nothing was kept of the frame; where the next one begins is unknown.
    Do: as above.
    """

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes is announced; the limit is {limit}")
        self.start = length.to_bytes(HEADER, "big")  # what was read as a length


_LOOK_S = 0.001  # trio tries once before it waits, unless the time is over already


class Splitter:
    """Cuts a stream of bytes into frames. Holds at most one unfinished frame and one read."""

    __slots__ = ("_rest", "limit", "stuck")

    def __init__(self, limit: int) -> None:
        self.limit = limit  # greatest frame accepted, bytes without the header
        self.stuck = False  # the next frame is above the limit: the next `feed` raises, if it is not raised
        self._rest = bytearray()

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """The frames that `data` completes, in order; good ones before one that is too long are returned first.

        Raises `FrameTooLong`, the peer's fault.
        """
        if self._rest:
            self._rest += data
            data = self._rest
        frames: list[bytes] = []
        limit = self.limit
        start, end = 0, len(data)
        while end - start >= HEADER:
            length = int.from_bytes(data[start : start + HEADER], "big")
            if length > limit:
                if not frames:
                    raise FrameTooLong(length, limit)
                self.stuck = True
                break
            stop = start + HEADER + length
            if stop > end:
                break
            frames.append(bytes(data[start + HEADER : stop]))
            start = stop
        if data is self._rest:
            del self._rest[:start]
        elif start < end:
            self._rest += data[start:]
        return frames

    @property
    def held(self) -> int:
        """Bytes of the unfinished frame that are kept."""
        return len(self._rest)


def joined(frames: Iterable[bytes]) -> bytes:
    """The bytes of some frames, each with its length, for one send."""
    parts: list[bytes] = []
    for frame in frames:
        parts.append(len(frame).to_bytes(HEADER, "big"))
        parts.append(frame)
    return b"".join(parts)


class Link:
    """Frames over one stream. One task may receive and one may send at a time.

    `limit`: greatest frame accepted, in bytes; it may be raised when the peer is trusted.
    """

    __slots__ = ("_ready", "_splitter", "_stream")

    def __init__(self, stream: trio.abc.Stream, limit: int) -> None:
        self._stream = stream
        self._splitter = Splitter(limit)
        self._ready: deque[bytes] = deque()

    def raise_limit(self, limit: int) -> None:
        """Accept frames up to `limit` bytes from now on, those included that came with the last one before trust.

        Raises `FrameTooLong`.
        """
        self._splitter.limit = limit
        self._splitter.stuck = False
        self._ready.extend(self._splitter.feed(b""))

    async def receive(self) -> bytes:
        """The next frame. Raises `LinkLost` at the end of the stream, `FrameTooLong` for a bad length."""
        while not self._ready:
            self._ready.extend(await self._read())
        return self._ready.popleft()

    async def receive_some(self) -> list[bytes]:
        """The frames that one read completes, perhaps none; always passes through the scheduler.

        Raises `LinkLost` at the end of the stream, `FrameTooLong` for a bad length.
        """
        if self._ready:
            frames = list(self._ready)
            self._ready.clear()
            await trio.lowlevel.checkpoint()
            return frames
        return await self._read()

    @property
    def held(self) -> int:
        """Bytes that are kept: whole frames not yet received, and an unfinished one."""
        return self._splitter.held + sum(map(len, self._ready))

    async def _read(self) -> list[bytes]:
        if self._splitter.stuck:
            self._splitter.feed(b"")
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except _NETWORK as error:
            raise LinkLost(f"reading failed: {_cause(error)}") from None
        if not data:
            raise LinkLost("closed by the other side")
        return self._splitter.feed(data)

    async def look(self) -> None:
        """Take in what has come so far, to be received later. Raises `LinkLost` where the other side has hung up."""
        with trio.move_on_after(_LOOK_S):
            self._ready.extend(await self._read())

    async def send(self, frames: Iterable[bytes]) -> None:
        """Send some frames as one run of bytes; returns when the kernel has them. Raises `LinkLost`."""
        try:
            await self._stream.send_all(joined(frames))
        except _NETWORK as error:
            raise LinkLost(f"sending failed: {_cause(error)}") from None

    async def finish(self) -> None:
        """Tell the other side that nothing follows; what it still sends can be received."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            with contextlib.suppress(*_NETWORK):
                await self._stream.send_eof()

    async def close(self) -> None:
        """Close at once, without waiting for the network, also in a cancelled task."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


def _cause(error: BaseException) -> str:
    """The words of the system where there are any: trio's own text says only that the stream broke."""
    inner = error.__cause__
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def tune(stream: trio.abc.Stream) -> None:
    """Bound a socket's unsent bytes, where the system can; trio has set TCP_NODELAY and an eighth of this bound."""
    lowat = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if lowat is not None and isinstance(stream, trio.SocketStream):
        with contextlib.suppress(OSError):
            stream.setsockopt(socket.IPPROTO_TCP, lowat, _UNSENT_BYTES)
