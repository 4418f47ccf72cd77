"""Small PDF and Word documents, made for tests."""

import io
import random
import zipfile
from collections.abc import Iterator, Sequence

import docx

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_DOCUMENT = "word/document.xml"
_WORD = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>%s</w:body></w:document>'


def pdf(pages: Sequence[str]) -> bytes:
    """Return a PDF with one line of text on each page."""
    return pdf_of([f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode() for text in pages])


def pdf_of(contents: Sequence[bytes], forms: Sequence[bytes] = (), extra: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a PDF with a page for each content stream. The streams may draw the `forms` as /X0, /X1..."""
    first = 4 + len(forms)  # object of the first page
    names = b"".join(b"/X%d %d 0 R" % (number, 4 + number) for number in range(len(forms)))
    resources = b"/Resources<</Font<</F1 3 0 R>>/XObject<<" + names + b">>>>"
    kids = b" ".join(b"%d 0 R" % (first + 2 * number) for number in range(len(contents)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[" + kids + b"]/Count %d>>" % len(contents),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *(_stream(b"/Type/XObject/Subtype/Form/BBox[0 0 612 792]" + resources, form) for form in forms),
    ]
    for number, content in enumerate(contents):
        page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]" + resources + b"/Contents %d 0 R>>"
        objects += [page % (first + 2 * number + 1), _stream(extra, content)]
    output, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(output))
        output += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    start = len(output)
    output += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return bytes(output + b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (size, trailer, start))


def _stream(entries: bytes, content: bytes) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)


def endless_pdf() -> bytes:
    """Return a PDF whose forms draw each other, 10 to the power of 12 times in all."""
    return pdf_of([b"/X0 Do"], [b"/X%d Do " % (number + 1) * 10 for number in range(12)] + [b"0 0 m"])


def encrypted_pdf() -> bytes:
    """Return a PDF that needs a password."""
    encrypt = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<00><00>]" % (b"ab" * 32, b"cd" * 32)
    return pdf_of([b"BT (secret) Tj ET"], trailer=encrypt)


def word(*paragraphs: str, table: Sequence[Sequence[str]] = ()) -> bytes:
    """Return a Word document."""
    document, output = docx.Document(), io.BytesIO()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if table:
        made = document.add_table(len(table), len(table[0]))
        for row, cells in zip(made.rows, table, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    document.save(output)
    return output.getvalue()


def word_with_body(body: bytes) -> bytes:
    """Return a Word document with this XML as its body."""
    return _replaced(word(), {_DOCUMENT: _WORD % body})


def zip_bomb(size: int) -> bytes:
    """Return a Word document that is small and has `size` bytes when it is unpacked."""
    return _replaced(word("small"), {"word/media/image1.png": bytes(size)})


def _replaced(document: bytes, entries: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(document)) as source, zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            if name not in entries:
                target.writestr(name, source.read(name))
        for name, content in entries.items():
            target.writestr(name, content)
    return output.getvalue()


def mutations(document: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield broken copies of a document: bytes changed, removed, doubled, or cut off."""
    chance = random.Random(seed)
    for _ in range(count):
        broken = bytearray(document)
        for _ in range(chance.randint(1, 20)):
            at, length = chance.randrange(len(broken)), chance.randint(1, 40)
            change = chance.randrange(4)
            if change == 0:
                broken[at : at + length] = chance.randbytes(length)
            elif change == 1:
                del broken[at : at + length]
            elif change == 2:
                broken[at:at] = broken[at : at + length] * chance.randint(1, 50)
            elif chance.random() < 0.2:
                del broken[at:]
            broken = broken or bytearray(b"x")
        yield bytes(broken)
