"""Training batches of sequences that are read from files, of which a part is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pipelines.data.groups import Groups
from pipelines.data.sequences import gather, places_of
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.processes import Processes
from pipelines.train.batches import Cut, Windows

BUFFER = 1 << 28  # bytes of the items and windows of a block
ITEM_BYTES, WINDOW_BYTES = 4, 24  # of an item; of sequence, start and length of a window


@dataclass(eq=False)
class StreamedBatches:
    """Optimizer steps over training sequences in groups. Step s is a function of the seed and s alone.

    In each epoch the groups are put into random order and cut into blocks of about `buffer` bytes, at least
    one group each. The windows of a block are drawn and put into random order together; the blocks follow
    each other. Only one block is in memory. Of several processes, each reads its share of a block's groups;
    the windows of a step are then exchanged, so that all processes have the same steps as a single one. The
    construction reads all groups once, to count their windows.

    Attributes:
        groups: training sequences.
        batch_size: windows per optimizer step; the last step of an epoch may have fewer.
        cut: rule by which sequences are cut into windows.
        seed: seed of the windows and their order.
        processes: processes that share the reading.
        buffer: bytes of a block.
        soft: function that returns the soft targets of a group's items, given its number, `places` int64
            [items]; None without teachers. Each process reads those of all groups.
        soft_bytes: bytes of the soft targets of an item.
        measures: numbers of items, of windows, and of sequences longer than a window, of each group; int64
            [groups, 3].
    """

    groups: Groups
    batch_size: int
    cut: Cut
    seed: int
    processes: Processes = field(default_factory=Processes)
    buffer: int = BUFFER
    soft: Callable[[int], SoftTargets] | None = None
    soft_bytes: int = 0
    measures: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.measures = self.groups.measured(
            lambda sequences: (
                len(sequences.items),
                int(self.cut.counts(sequences.lengths).sum()),
                sequences.truncated(self.max_items),
            ),
            3,
            self.processes,
        )

    @property
    def max_items(self) -> int:
        """Largest number of items in a window."""
        return self.cut.max_items

    @property
    def users(self) -> int:
        """Number of sequences."""
        return int(self.groups.rows.sum())

    @property
    def truncated(self) -> int:
        """Number of sequences that are longer than a window."""
        return int(self.measures[:, 2].sum())

    @property
    def window_lengths(self) -> np.ndarray:
        """Mean number of items of the windows, float64 [1]."""
        return np.array([self.measures[:, 0].sum() / max(1, self.windows_per_epoch)]).clip(max=self.max_items)

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows in an epoch."""
        return int(self.measures[:, 1].sum())

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return -(-self.windows_per_epoch // self.batch_size)

    def blocks(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the groups of each block of an epoch."""
        order = np.random.default_rng([self.seed, 4, epoch]).permutation(len(self.groups))
        sizes = (self.measures[:, :2] @ (ITEM_BYTES + self.soft_bytes, WINDOW_BYTES))[order]  # bytes
        block = (np.cumsum(sizes) - sizes) // self.buffer
        return np.split(order, np.flatnonzero(np.diff(block)) + 1)

    def steps(self, first: int) -> Iterator[tuple[int, Windows, np.ndarray]]:
        """Yield the steps from step `first` on, without end.

        Yields:
            Number of the step, its windows, and their rows: all of them.
        """
        epoch, step = divmod(first, self.steps_per_epoch)
        while True:
            for windows in self._epoch(epoch, step * self.batch_size):
                yield epoch * self.steps_per_epoch + step, windows, np.arange(len(windows))
                step += 1
            epoch, step = epoch + 1, 0

    def _epoch(self, epoch: int, skipped: int) -> Iterator[Windows]:
        """Yield the windows of each step of an epoch after so many windows."""
        blocks, begin = self.blocks(epoch), 0
        step: list[Windows] = []  # parts of the step that is being filled
        for number, groups in enumerate(blocks):
            end = begin + int(self.measures[groups, 1].sum())
            if skipped < end:
                block = self._read(groups, np.random.default_rng([self.seed, 0, epoch, number]))
                while skipped < end:  # at the end of a block, a step goes on in the next one
                    filled = sum(len(part) for part in step)
                    last = min(end, skipped + self.batch_size - filled)
                    step.append(block.windows(skipped - begin, last - begin))
                    skipped = last
                    if filled + len(step[-1]) == self.batch_size:
                        yield self._exchanged(step)
                        step = []
                del block  # before the next one is read
            begin = end
        if step:
            yield self._exchanged(step)

    def _read(self, groups: np.ndarray, rng: np.random.Generator) -> _Block:
        """Read a block and draw its windows. Items of other processes' groups are 0."""
        rows = self.groups.rows[groups]
        ends = np.cumsum(rows)
        own = {
            place: self.groups.read(int(groups[place]))
            for place in range(self.processes.rank, len(groups), self.processes.count)
        }
        lengths = np.zeros(ends[-1], np.int64)
        for place, sequences in own.items():
            lengths[ends[place] - rows[place] : ends[place]] = sequences.lengths
        lengths = self.processes.total(lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        items = np.zeros(offsets[-1], np.int32)
        for place, sequences in own.items():
            items[offsets[ends[place] - rows[place]] : offsets[ends[place]]] = sequences.items + 1
        users = np.repeat(self.groups.first_rows[groups] - (ends - rows), rows) + np.arange(ends[-1])
        soft = self._read_soft(groups)
        drawn, starts, sizes = self.cut.draw(lengths, rng)
        return _Block(items, users[drawn], starts, sizes, soft)

    def _read_soft(self, groups: np.ndarray) -> SoftTargets | None:
        """Read the soft targets of the items of a block, in their order."""
        if self.soft is None:
            return None
        ends, whole = np.cumsum(self.measures[groups, 0]), None
        for group, end in zip(groups.tolist(), ends.tolist(), strict=True):
            part = self.soft(group)
            if whole is None:
                shape = (ends[-1], part.items.shape[1])
                items, probabilities = np.empty(shape, np.int32), np.empty(shape, part.probabilities.dtype)
                whole = SoftTargets(items, probabilities, np.arange(ends[-1]), part.share)
            inside = slice(end - len(part.places), end)
            whole.items[inside] = part.items[part.places]
            whole.probabilities[inside] = part.probabilities[part.places]
        return whole

    def _exchanged(self, parts: list[Windows]) -> Windows:
        """Return the windows of a step, with the items that the other processes have read."""
        items = self.processes.total(np.concatenate([part.items for part in parts])) - np.int32(1)
        lengths = np.concatenate([part.lengths for part in parts])
        users = np.concatenate([part.users for part in parts])
        soft = SoftTargets.joined([part.soft for part in parts if part.soft is not None])
        return Windows(items, np.concatenate([[0], np.cumsum(lengths)]), users, soft)


@dataclass(frozen=True, eq=False)
class _Block:
    """Windows of a block, in random order.

    Attributes:
        items: item numbers plus 1 of the sequences of this process, 0 for those of others, int32 [total].
        users: row of the training sequence of each window, int64 [windows].
        starts, lengths: place of each window in `items`, int64 [windows] each.
        soft: soft targets of all items; None without teachers.
    """

    items: np.ndarray
    users: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    soft: SoftTargets | None

    def windows(self, first: int, last: int) -> Windows:
        """Return the windows from `first` up to `last`, with item numbers as in `items`."""
        part = slice(first, last)
        pieces = gather(self.items, self.starts[part], self.lengths[part])
        places = places_of(self.starts[part], self.lengths[part])
        soft = self.soft and self.soft.rows(places)
        return Windows(pieces.items, pieces.offsets, self.users[part], soft)
