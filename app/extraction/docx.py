"""Word documents (DOCX): paragraphs, lists, tables and text boxes, in their order.

Headers, footers, footnotes and comments are left out.
"""

import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import docx
from docx.opc.exceptions import OpcError
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph
from lxml import etree

from app.enums import FileTextFailure
from app.extraction.errors import ExtractionFailed
from app.extraction.pieces import Piece

# Bytes and entries of the ZIP file when it is unpacked; a document with more is a bomb, or needs too much memory.
MAX_UNPACKED = 200_000_000
MAX_ENTRIES = 10_000
_ENCRYPTED = 1  # flag of a ZIP entry
_PARAGRAPH, _CELL, _ROW, _TABLE = (qn(f"w:{tag}") for tag in ("p", "tc", "tr", "tbl"))
# The same content once more, for programs that cannot read the first form.
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"


def read(file: BinaryIO, characters: int) -> Iterator[Piece]:  # the caller ends it
    """Yield the text in pieces. Raises `ExtractionFailed`."""
    try:
        _check(file)
        body = docx.Document(file).element.body
    except etree.XMLSyntaxError as error:
        no_memory = error.code == etree.ErrorTypes.ERR_NO_MEMORY
        raise ExtractionFailed(FileTextFailure.MEMORY if no_memory else FileTextFailure.BROKEN) from None
    except (zipfile.BadZipFile, OpcError, KeyError, ValueError, EOFError, AttributeError):
        raise ExtractionFailed(FileTextFailure.BROKEN) from None  # python-docx trusts the structure of the file
    yield Piece("".join(_texts(body)))


def _check(file: BinaryIO) -> None:
    """Raise `ExtractionFailed` for a file that is not to be unpacked. The sizes are those that reading stops at."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise ExtractionFailed(FileTextFailure.ENCRYPTED)
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
        raise ExtractionFailed(FileTextFailure.TOO_LARGE)
    file.seek(0)


def _texts(body: etree._Element) -> Iterator[str]:
    """Yield the paragraphs with line ends; a row of a table is one line, its cells separated by bars."""
    tables = 0
    walk = etree.iterwalk(body, events=("start", "end"))
    for event, element in walk:
        if event == "start" and element.tag == _FALLBACK:
            walk.skip_subtree()
        elif element.tag == _TABLE:
            tables += 1 if event == "start" else -1
            yield "\n"
        elif event == "start" and element.tag == _PARAGRAPH:
            yield Paragraph(element, None).text + (" " if tables else "\n\n")  # type: ignore[arg-type]  # no parent
        elif event == "end" and element.tag == _CELL:
            yield "| "
        elif event == "end" and element.tag == _ROW:
            yield "\n"
