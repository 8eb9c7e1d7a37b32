"""Models in memory, a few at a time: whoever was asked longest ago makes room for the next one."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from penchant.errors import ModelError
from penchant.models.memory import is_out_of_memory, release_memory
from penchant.web.playground_talk import Voice
from penchant.workflow.speaker import Speaker, load_speaker, speaker_config


class Shelf:
    """At most so many models, loaded when they are first asked for.

    Args:
        most: How many are kept; as many as one question needs are kept in any case.
        overrides: Changes of the configuration that models are loaded by.
    """

    def __init__(self, most: int, overrides: Sequence[str] = ()) -> None:
        self._most, self._overrides = most, overrides
        self._kept: OrderedDict[tuple[str, str], Speaker] = OrderedDict()

    def speakers(
        self, voices: Sequence[Voice], note: Callable[[str], None], make_room: Callable[[], None]
    ) -> list[Speaker]:
        """Return the models of some voices, in their order.

        Args:
            voices: Which.
            note: Told what is being loaded.
            make_room: Called before something is dropped: whoever holds on to models lets them go.

        Raises:
            PenchantError: One of them cannot be loaded.
        """
        wanted = [_key(voice) for voice in voices]
        if any(key not in self._kept for key in wanted):
            make_room()
            self._drop(set(wanted))
        return [self._one(voice, note) for voice in voices]

    def _one(self, voice: Voice, note: Callable[[str], None]) -> Speaker:
        key = _key(voice)
        if key not in self._kept:
            note(f"Loading {voice.name}, the {voice.role}; only the first question waits for it")
            with memory_explained(voice.name, 'Ask it beside "nobody", or end what else needs memory.'):
                self._kept[key] = load_speaker(voice.path, speaker_config(voice.like, self._overrides))
        self._kept.move_to_end(key)
        return self._kept[key]

    def _drop(self, wanted: set[tuple[str, str]]) -> None:
        """Make room for what is wanted and not there."""
        room = max(self._most, len(wanted)) - len(wanted)
        idle = [key for key in self._kept if key not in wanted]
        for key in idle[: max(0, len(idle) - room)]:
            del self._kept[key]
        release_memory()


def _key(voice: Voice) -> tuple[str, str]:
    return voice.path, voice.like


@contextlib.contextmanager
def memory_explained(where: str, fix: str) -> Iterator[None]:
    """Turn what an allocator says when there is too little memory into a ModelError with a remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError("there is not enough memory for this", where=where, fix=fix) from error
