"""PDF files, read with PDFium."""

import re
from collections.abc import Iterator
from typing import BinaryIO

import pypdfium2 as pdfium
from pypdfium2 import raw

from app.enums import FileTextFailure
from app.extraction.errors import ExtractionFailed
from app.extraction.pieces import Piece

_HYPHEN = re.compile("[\x02\ufffe](?:\r?\n)?")  # PDFium's mark of a word that continues on the next line


def read(file: BinaryIO, characters: int) -> Iterator[Piece]:  # the caller stops at that number
    """Yield the text of each page. Pages that are broken are left out, unless all are. Raises `ExtractionFailed`."""
    try:
        document = pdfium.PdfDocument(file)
        count = len(document)
    except pdfium.PdfiumError as error:
        encrypted = getattr(error, "err_code", None) in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        raise ExtractionFailed(FileTextFailure.ENCRYPTED if encrypted else FileTextFailure.BROKEN) from None
    broken = 0
    for index in range(count):
        try:
            yield Piece(_page(document, index), index + 1)
        except pdfium.PdfiumError:
            broken += 1
    if broken == count:
        raise ExtractionFailed(FileTextFailure.BROKEN)


def _page(document: pdfium.PdfDocument, index: int) -> str:
    page = document[index]
    try:
        textpage = page.get_textpage()
        try:
            return _HYPHEN.sub("", textpage.get_text_range())
        finally:
            textpage.close()
    finally:
        page.close()
