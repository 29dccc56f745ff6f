"""An answer of the ledger as a Parquet file, made of the parts in which Arrow's stream comes."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from io import BufferedRandom

__all__ = ["parquet_of"]

READ_BYTES = 256 * 1024
"""So much of the file is sent at once."""


async def parquet_of(contents: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Return the parts of a Parquet file with an answer that comes as Arrow's IPC stream.

    Both lie in files without a name meanwhile, whose length the reader bounds
    (QUERY_PARTS_BYTES_MAX). The file is whole before its first part is given, so an answer that
    fails half way is an error and no broken file.
    """
    arrow, parquet = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    try:
        async for content in contents:
            await asyncio.to_thread(arrow.write, content)
        await asyncio.to_thread(_convert, arrow, parquet)
    except BaseException:
        parquet.close()
        raise
    finally:
        arrow.close()
    return _read(parquet)


async def _read(parquet: BufferedRandom) -> AsyncIterator[bytes]:
    with parquet:
        while part := await asyncio.to_thread(parquet.read, READ_BYTES):
            yield part


def _convert(arrow: BufferedRandom, parquet: BufferedRandom) -> None:
    # Arrow's library is large and few ask for such a file: it is loaded when one does.
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow.seek(0)
    with (
        pa.ipc.open_stream(arrow) as stream,
        pq.ParquetWriter(parquet, stream.schema, compression="zstd") as writer,
    ):
        for batch in stream:
            writer.write_batch(batch)
    parquet.seek(0)
