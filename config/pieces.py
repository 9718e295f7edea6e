"""The size of one read from sockets, files and frames."""

#: A larger block is returned to the kernel as soon as it is freed (see ALLOCATOR in `ops/programs.py`), and costs a
#: page fault for every page when the next one is made: read by the mebibyte, an upload takes twice as long.
PIECE_BYTES = 96 * 1024
