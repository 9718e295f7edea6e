"""How much is read at a time wherever bytes pass through: sockets, files, frames."""

#: A larger block goes back to the kernel as soon as it is freed (see ALLOCATOR in `ops/programs.py`), and costs a
#: page fault for every page when the next one is made: read by the mebibyte, an upload takes twice as long.
PIECE_BYTES = 96 * 1024
