"""Models in memory, a few at a time: whoever was asked longest ago makes room for the next one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

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
            try:
                self._kept[key] = load_speaker(voice.path, speaker_config(voice.like, self._overrides))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._kept.clear()
                release_memory()
                raise ModelError(
                    "there is not enough memory for this model beside the others",
                    where=voice.name,
                    fix='Ask it beside "nobody", or end what else needs memory.',
                ) from error
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
