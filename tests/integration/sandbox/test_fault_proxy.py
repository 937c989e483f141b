"""What the fault proxy does to a hop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import httpx
import pytest

from tests.support.fault_proxy import GARBAGE, Ending, Fault, FaultProxy, Way, fault_proxy
from tests.support.waiting import until

WAIT_S = 10.0
LONG_S = 3_600.0
BLACK_HOLE = Fault(ending=Ending.BLACK_HOLE)


class Echo:
    """A server that sends back what it gets, and counts."""

    def __init__(self) -> None:
        self.port = 0
        self.connections_open = 0
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_open += 1
        try:
            while data := await reader.read(4_096):
                self.received += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.connections_open -= 1


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()
    await until(lambda: echo.connections_open == 0)


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(echo.port) as proxy:
        yield proxy


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


@pytest.fixture
async def connect(proxy: FaultProxy) -> AsyncIterator[Connect]:
    """Open connections to the echo through the proxy."""
    writers = []

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()


async def say(streams: Streams, data: bytes) -> bytes:
    """Send, and wait for the same length of an answer."""
    streams[1].write(data)
    async with asyncio.timeout(WAIT_S):
        return await streams[0].readexactly(len(data))


async def test_without_a_fault_bytes_pass_and_are_counted(proxy: FaultProxy, connect: Connect) -> None:
    first, second = await connect(), await connect()
    data = bytes(range(256)) * 1_000
    assert await say(first, data) == data
    assert await say(second, b"hi") == b"hi"
    assert (proxy.connections_total, proxy.connections_open) == (2, 2)
    assert proxy.bytes_passed == {Way.TO_SERVER: len(data) + 2, Way.TO_CLIENT: len(data) + 2}


async def test_each_side_learns_that_the_other_has_left(proxy: FaultProxy, connect: Connect, echo: Echo) -> None:
    streams = await connect()
    assert await say(streams, b"hi") == b"hi"
    streams[1].close()
    await until(lambda: echo.connections_open == 0 and proxy.connections_open == 0)
    assert proxy.connections_total == 1


async def test_a_server_that_is_down_is_a_reset(proxy: FaultProxy) -> None:
    async with fault_proxy(1) as nowhere:
        reader, writer = await asyncio.open_connection("127.0.0.1", nowhere.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("fault", [Fault(latency_s=LONG_S), Fault(bytes_per_s=1 / LONG_S), BLACK_HOLE])
async def test_held_bytes_come_when_the_fault_is_lifted(
    proxy: FaultProxy, connect: Connect, fault: Fault, echo: Echo
) -> None:
    streams = await connect()
    assert await say(streams, b"one") == b"one"
    proxy.fault = fault
    reply = asyncio.create_task(say(streams, b"two"))
    other = await connect()  # new connections are held as well
    other_reply = asyncio.create_task(say(other, b"hi"))
    await until(lambda: proxy.connections_open == 2)
    if fault.ending is None:
        await until(lambda: echo.received.startswith(b"one") and b"two" in echo.received and b"hi" in echo.received)
    assert proxy.bytes_passed[Way.TO_CLIENT] == 3
    assert not reply.done()
    assert not other_reply.done()
    proxy.fault = Fault()
    assert (await reply, await other_reply) == (b"two", b"hi")


async def test_a_drip_delivers_everything_in_pieces(proxy: FaultProxy, connect: Connect) -> None:
    proxy.fault = Fault(bytes_per_s=100_000.0, latency_s=0.0001)
    streams = await connect()
    data = bytes(range(250)) * 20
    assert await say(streams, data) == data


async def test_a_reset_comes_after_its_bytes(proxy: FaultProxy, connect: Connect, echo: Echo) -> None:
    streams = await connect()
    assert await say(streams, b"before") == b"before"
    proxy.fault = Fault(ending=Ending.RESET, after_bytes=3)
    streams[1].write(b"abcdef")
    with pytest.raises(ConnectionResetError):
        await streams[0].readexactly(6)
    await until(lambda: echo.connections_open == 0 and proxy.connections_open == 0)
    assert proxy.bytes_passed[Way.TO_CLIENT] == len(b"beforeabc")


async def test_a_cut_closes_after_its_bytes(proxy: FaultProxy, connect: Connect, echo: Echo) -> None:
    proxy.fault = Fault(ending=Ending.CLOSE, after_bytes=3)
    streams = await connect()
    streams[1].write(b"abcdef")
    assert await streams[0].read() == b"abc"
    await until(lambda: echo.connections_open == 0 and proxy.connections_open == 0)
    assert await say_again(proxy, connect) == b"ok"


async def say_again(proxy: FaultProxy, connect: Connect) -> bytes:
    """Lift the fault and see that new connections are well."""
    proxy.fault = Fault()
    return await say(await connect(), b"ok")


async def test_a_fault_of_requests_keeps_them_from_the_server(proxy: FaultProxy, connect: Connect, echo: Echo) -> None:
    proxy.fault = Fault(ending=Ending.RESET, way=Way.TO_SERVER)
    streams = await connect()
    streams[1].write(b"abcdef")
    with pytest.raises(ConnectionResetError):
        await streams[0].read()
    assert await say_again(proxy, connect) == b"ok"
    assert echo.received == b"ok"


async def test_garbage_comes_after_its_bytes_and_then_the_end(proxy: FaultProxy, connect: Connect) -> None:
    proxy.fault = Fault(ending=Ending.GARBAGE, after_bytes=2)
    streams = await connect()
    streams[1].write(b"abcdef")
    assert await streams[0].read() == b"ab" + GARBAGE


async def test_a_half_close_lets_the_client_go_on_sending(proxy: FaultProxy, connect: Connect, echo: Echo) -> None:
    proxy.fault = Fault(ending=Ending.HALF_CLOSE, after_bytes=2)
    streams = await connect()
    streams[1].write(b"abcdef")
    assert await streams[0].read() == b"ab"
    streams[1].write(b"more")
    await streams[1].drain()
    assert (proxy.connections_open, echo.connections_open) == (1, 1)
    streams[1].close()
    await until(lambda: proxy.connections_open == 0 and echo.connections_open == 0)


async def test_a_black_hole_after_some_bytes_holds_the_rest(proxy: FaultProxy, connect: Connect) -> None:
    proxy.fault = Fault(ending=Ending.BLACK_HOLE, after_bytes=2)
    streams = await connect()
    streams[1].write(b"abcdef")
    assert await streams[0].readexactly(2) == b"ab"
    rest = asyncio.create_task(streams[0].readexactly(4))
    streams[1].write(b"ghi")
    await until(lambda: proxy.bytes_passed[Way.TO_SERVER] == 6)
    assert not rest.done()
    proxy.fault = Fault()
    assert await rest == b"cdef"


@pytest.mark.parametrize("fault", [Fault(), BLACK_HOLE, Fault(latency_s=LONG_S)])
@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.RESET])
async def test_dropped_connections_end_at_once_whatever_holds_them(
    proxy: FaultProxy, connect: Connect, fault: Fault, ending: Ending
) -> None:
    streams = await connect()
    assert await say(streams, b"one") == b"one"
    proxy.fault = fault
    streams[1].write(b"" if fault == Fault() else b"two")
    proxy.drop(ending)
    # A socket that is closed with bytes unread resets too: only a reset is certain of what the client sees.
    with pytest.raises(ConnectionResetError) if ending is Ending.RESET else contextlib.suppress(ConnectionResetError):
        assert await streams[0].read() == b""
    await until(lambda: proxy.connections_open == 0)


async def recovered(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> bytes:
    """The next answer: a channel may give a call to the connection that is just breaking."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await call(b"c", timeout=WAIT_S, wait_for_ready=True)


async def test_a_grpc_hop_fails_while_it_is_spoiled_and_recovers() -> None:
    async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.enable_retries", 0), ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.enable_http_proxy", 0)]
    try:
        async with fault_proxy(port) as proxy, grpc.aio.insecure_channel(proxy.address, options=options) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/Echo")
            assert await call(b"a", timeout=WAIT_S) == b"a"
            for ending in (Ending.RESET, Ending.CLOSE, Ending.GARBAGE):
                proxy.fault = Fault(ending=ending)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"b", timeout=WAIT_S)
                assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
                proxy.fault = Fault()
                assert await recovered(call) == b"c"
            assert proxy.connections_total >= 4
    finally:
        await server.stop(None)


async def test_an_http_hop_through_the_proxy(replay_url: str) -> None:
    port = int(replay_url.rpartition(":")[2])
    async with fault_proxy(port) as proxy:
        base_url = f"http://{proxy.address}"
        async with httpx.AsyncClient(base_url=base_url, timeout=WAIT_S, trust_env=False) as http:
            assert (await http.get("/healthz")).status_code == 200
            proxy.fault = Fault(ending=Ending.CLOSE, after_bytes=20)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/healthz")
            proxy.fault = Fault()
            assert (await http.get("/healthz")).status_code == 200
