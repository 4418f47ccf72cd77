"""The demo provider's sentence about the files of a message: a quotation that shares most words with the message."""

import re
from collections.abc import Iterator

from app.providers.base import ChatMessage
from app.text import shortened

_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]?")
_WORD = re.compile(r"\w+")
_SHOWN_CHARS = 300


def about_files(message: ChatMessage) -> str | None:
    """Return a sentence about the files that came with `message`, or None without any."""
    parts = message.files
    if parts is None:
        return None
    said: list[str] = []
    wanted = set(_words(message.content or ""))
    passages = [(file.name, passage) for file in parts.files for passage in file.passages]
    if passages:
        name, passage = max(passages, key=lambda each: _shared(wanted, each[1].text))
        sentences = _SENTENCE.findall(passage.text) or [passage.text]
        best = max(sentences, key=lambda sentence: _shared(wanted, sentence))
        said.append(f"In “{name}”, passage {passage.number}: “{shortened(best.strip(), _SHOWN_CHARS)}”")
    if parts.images:
        said.append(f"It received the images {', '.join(f'“{image.name}”' for image in parts.images)}.")
    said += parts.notes
    return " ".join(said) or None


def _shared(wanted: set[str], text: str) -> int:
    folded = text.casefold()
    return sum(word in folded for word in wanted)


def _words(text: str) -> Iterator[str]:
    """Yield the words of more than two letters; of other scripts, which may write without spaces, pairs of letters."""
    for word in _WORD.findall(text.casefold()):
        if not word.isascii():
            yield from (word[index : index + 2] for index in range(len(word) - 1))
        elif len(word) > 2:
            yield word
