"""A scan that keeps what it is given; as with a client's, errors about a block come a call late."""

import numpy as np

from usidstream.client import Spooled
from usidstream.errors import error_for


class ScanDouble:
    """Records every write in one array a main.

    ``arrays`` holds the values, ``held`` which elements were written, ``calls`` the order of writes
    as (method, first row or list of rows, first column, shape).
    """

    def __init__(self, layout, *, is_prompt=False):
        self.layout = layout
        self.is_prompt = is_prompt  # errors come at once
        self.arrays = {m.name: np.zeros(layout.shape(m.name), m.np_dtype) for m in layout.mains}
        self.held = {m.name: np.zeros(layout.shape(m.name), bool) for m in layout.mains}
        self.calls = []
        self.corrupted = 0
        self.aborted = False
        self.spooled = Spooled()
        self._pending = []

    @property
    def is_complete(self):
        return all(held.all() for held in self.held.values())

    def write(self, row, spectrum, *, main=None):
        self._raise_pending()
        given = spectrum if isinstance(spectrum, dict) else {self._name(main): spectrum}
        self.calls.append(("write", row, 0, tuple(given)))
        for name, values in given.items():
            self._take(name, np.array([row]), 0, np.asarray(values).reshape(1, -1))

    def write_block(self, row, block, *, col=0, main=None):
        self._raise_pending()
        self.calls.append(("write_block", row, col, block.shape))
        self._take(self._name(main), np.arange(row, row + len(block)), col, block)

    def write_at(self, rows, block, *, main=None):
        self._raise_pending()
        self.calls.append(("write_at", rows.tolist(), 0, block.shape))
        self._take(self._name(main), rows, 0, block)

    def wait_durable(self, timeout_s=None):  # noqa: ARG002 - a Scan's signature
        self._raise_pending()

    def abort(self):
        self.aborted = True

    def corrupt_next_block(self):
        self.corrupted += 1

    def _name(self, main):
        assert main is not None or len(self.layout.mains) == 1
        return main or self.layout.mains[0].name

    def _take(self, name, rows, col, block):
        array = self.arrays[name]
        assert block.dtype == array.dtype
        assert len(rows) == len(block)
        cols = slice(col, col + block.shape[1])
        if rows.max() >= len(array) or cols.stop > array.shape[1]:
            self._refuse("out_of_bounds", rows)
        elif self.held[name][rows, cols].any():
            self._refuse("already_covered", rows)
        else:
            array[rows, cols] = block
            self.held[name][rows, cols] = True

    def _refuse(self, code, rows):
        self._pending.append(error_for(code, f"rows {rows}"))
        if self.is_prompt:
            self._raise_pending()

    def _raise_pending(self):
        if self._pending:
            raise self._pending.pop(0)
