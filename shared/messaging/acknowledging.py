"""Which deliveries of a connection are still at work, and how to acknowledge the others in few frames."""

from __future__ import annotations


class Acknowledgements:
    """The deliveries of one connection, by their tags, which the broker counts up. For one thread at a time."""

    def __init__(self) -> None:
        self._at_work: dict[int, None] = {}
        self._done: list[int] = []

    def begun(self, tag: int) -> None:
        """It was delivered."""
        self._at_work[tag] = None

    def settled(self, tag: int) -> None:
        """The broker has been told of it already."""
        self._at_work.pop(tag, None)

    def done(self, tag: int, room: int) -> bool:
        """It may be acknowledged. Says whether the broker must be told now, which has `room` for so many until it is.

        Held back is a quarter of the room that those at work leave: calls that hang must not share it with the others'
        acknowledgements.
        """
        self._at_work.pop(tag, None)
        self._done.append(tag)
        return len(self._done) > (room - len(self._at_work)) // 4

    def due(self) -> list[tuple[int, bool]]:
        """What to tell the broker of those that may be: each tag, and whether it stands for all before it as well.

        It does where none of those is still at work; that is one frame, however many they are.
        """
        done, self._done = sorted(self._done), []
        oldest = next(iter(self._at_work), None)
        together = [tag for tag in done if oldest is None or tag < oldest]
        apart = done[len(together) :]
        return [*((tag, True) for tag in together[-1:]), *((tag, False) for tag in apart)]
