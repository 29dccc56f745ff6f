"""An answer of the ledger as a Parquet file, made of the parts in which Arrow's stream comes."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from io import BufferedRandom

__all__ = ["parquet_of"]

_CUT = b"tallygate.truncated"
"""In the metadata of a last batch without rows, and then of the file: rows were cut."""
READ_BYTES = 256 * 1024
"""So much of the file is sent at once."""


async def parquet_of(
    contents: AsyncGenerator[bytes, None],
) -> tuple[AsyncIterator[bytes], bool]:
    """Return the parts of a Parquet file with an answer that comes as Arrow's IPC stream.

    The second value tells whether the answer was cut; the file's metadata say so, too.

    Both lie in files without a name meanwhile, whose length the reader bounds
    (QUERY_PARTS_BYTES_MAX). The file is whole before its first part is given, so an answer that
    fails half way is an error and no broken file.
    """
    arrow, parquet = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    try:
        async for content in contents:
            await asyncio.to_thread(arrow.write, content)
        is_cut = await asyncio.to_thread(_convert, arrow, parquet)
    except BaseException:
        parquet.close()
        raise
    finally:
        arrow.close()
    return _read(parquet), is_cut


async def _read(parquet: BufferedRandom) -> AsyncIterator[bytes]:
    with parquet:
        while part := await asyncio.to_thread(parquet.read, READ_BYTES):
            yield part


def _convert(arrow: BufferedRandom, parquet: BufferedRandom) -> bool:
    # Arrow's library is large and few ask for such a file: it is loaded when one does.
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_cut = False
    arrow.seek(0)
    with (
        pa.ipc.open_stream(arrow) as stream,
        pq.ParquetWriter(parquet, stream.schema, compression="zstd") as writer,
    ):
        for batch, metadata in stream.iter_batches_with_custom_metadata():
            cut = None if metadata is None else metadata.get(_CUT)
            if cut is not None:
                is_cut = True
                writer.add_key_value_metadata({_CUT.decode(): cut.decode()})
            writer.write_batch(batch)
    parquet.seek(0)
    return is_cut
