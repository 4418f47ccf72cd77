"""The process that reads files: what it finds in good files, and how it ends with bad ones."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from app.enums import FileTextFailure
from app.extraction.errors import ExtractionFailed
from app.extraction.process import PROJECT, ExtractedText, ExtractionLimits, extract, is_separated_from_network
from tests.files import documents
from tests.files.documents import DOCX, PDF
from tests.waiting import wait_until

MEBIBYTE = 1024 * 1024
LIMITS = ExtractionLimits(characters=1_000_000, seconds=60, memory=512 * MEBIBYTE)
HTML = "text/html"


def extracted(content: bytes, media_type: str, limits: ExtractionLimits = LIMITS) -> ExtractedText:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return extract(file, media_type, limits)


def text_of(content: bytes, media_type: str) -> str:
    return "\n\n".join(piece.text for piece in extracted(content, media_type).pieces)


def failure(content: bytes, media_type: str, limits: ExtractionLimits = LIMITS) -> FileTextFailure:
    with pytest.raises(ExtractionFailed) as raised:
        extracted(content, media_type, limits)
    return raised.value.reason


def test_pages_of_pdf_are_numbered() -> None:
    found = extracted(documents.pdf(["First page", "", "Third page"]), PDF)
    assert [(piece.text, piece.page) for piece in found.pieces] == [("First page", 1), ("Third page", 3)]
    assert not found.truncated


def test_word_document_is_read_with_its_table() -> None:
    content = documents.word("Grüße", "東京", table=[["a", "b"], ["c", "d"]])
    assert text_of(content, DOCX) == "Grüße\n\n東京\n\na | b |\nc | d |"


def test_html_is_read_as_it_is_seen() -> None:
    page = (
        "<html><head><title>Pumps</title><style>p { color: red }</style></head><body><p>A <b>war</b>m\n pump"
        "<script>alert(1)</script></p><ul><li>one<li>two</ul><table><tr><td>1<td>2</table><pre>a\n  b</pre>&lt;&#233;"
    )
    assert text_of(page.encode(), HTML) == "Pumps\n\nA warm pump\n\none\n\ntwo\n\n1\t2\n\na\n  b\n\n<é"


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown", "text/csv", "application/json"])
def test_text_is_read_as_it_is(media_type: str) -> None:
    assert text_of('# {"a": 1,\n  "b": "é"}'.encode(), media_type) == '# {"a": 1,\n  "b": "é"}'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a\x00b\x07c", "abc"),
        (b"\xef\xbb\xbfa\r\nb\rc\x0cd", "a\nb\nc\nd"),
        (b"a\xed\xa0\x80b", "ab"),  # a surrogate
        ("a\u202eb\u2066c".encode(), "abc"),
        (b"a  \n\n\n\n\nb", "a\n\nb"),
        (b" \n\t\n ", ""),
    ],
)
def test_characters_that_cannot_be_shown_are_removed(content: bytes, text: str) -> None:
    assert text_of(content, "text/plain") == text


def test_controls_in_html_and_word_are_removed() -> None:
    assert "\x00" not in text_of(b"<p>a&#0;b\x00c&#xd800;d", HTML)
    assert text_of(documents.word("a\tb"), DOCX) == "a\tb"


def test_scan_without_text_has_no_characters() -> None:
    assert extracted(documents.pdf_of([b"0 0 m 100 100 l S"]), PDF) == ExtractedText([], truncated=False)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"x y " * 12_500_000, "text/plain"),
        (b"<p>x y" * 1_000_000, HTML),
        (documents.word("x y " * 500_000), DOCX),
        (documents.pdf(["x y " * 100] * 3_000), PDF),
    ],
    ids=["text", "html", "docx", "pdf"],
)
def test_long_text_is_cut_and_marked(content: bytes, media_type: str) -> None:
    found = extracted(content, media_type)
    assert found.truncated
    characters = sum(len(piece.text) for piece in found.pieces)
    assert 999_990 <= characters <= 1_000_000  # white space at the end of a piece is removed


@pytest.mark.parametrize(
    ("content", "media_type", "reason"),
    [
        (documents.encrypted_pdf(), PDF, "encrypted"),
        (documents.pdf(["a"])[:120], PDF, "broken"),
        (b"not a PDF", PDF, "broken"),
        (documents.word("a")[:3_000], DOCX, "broken"),
        (b"not a ZIP file", DOCX, "broken"),
        (documents.pdf(["a"]), DOCX, "broken"),
        (documents.word_with_body(b"<w:p><"), DOCX, "broken"),
        (documents.zip_bomb(250_000_000), DOCX, "too_large"),
        (documents.word_with_body(b"<w:p/>" * 20_000_000), DOCX, "memory"),
    ],
    ids=["encrypted", "cut-pdf", "no-pdf", "cut-docx", "no-docx", "pdf-as-docx", "bad-xml", "bomb", "memory"],
)
def test_bad_file_fails_with_its_reason(content: bytes, media_type: str, reason: str) -> None:
    small = ExtractionLimits(characters=1_000_000, seconds=60, memory=256 * MEBIBYTE)
    assert failure(content, media_type, small) == FileTextFailure(reason)


def test_entities_of_word_document_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    content = documents._replaced(
        documents.word(), {documents._DOCUMENT: bomb + documents._WORD % b"<w:p><w:r><w:t>&b;&f;x</w:t></w:r></w:p>"}
    )
    try:
        found = text_of(content, DOCX)
    except ExtractionFailed:
        return
    assert "aaa" not in found
    assert "root" not in found


def test_file_that_is_never_read_is_ended() -> None:
    limits = ExtractionLimits(characters=1_000, seconds=2, memory=512 * MEBIBYTE)
    assert failure(documents.endless_pdf(), PDF, limits) is FileTextFailure.TIME


def test_killed_process_is_a_failure() -> None:
    this = psutil.Process()

    def readers() -> list[psutil.Process]:
        return [each for each in this.children() if "app.extraction.child" in each.cmdline()]

    with ThreadPoolExecutor(1) as pool:
        reason = pool.submit(failure, documents.endless_pdf(), PDF)
        wait_until(lambda: bool(readers()))
        for reader in readers():
            reader.kill()
        assert reason.result() is FileTextFailure.CRASHED


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (documents.pdf(["A heat pump", "moves heat"]), PDF),
        (documents.word("A heat pump", table=[["a", "b"]]), DOCX),
        (b"<html><body><table><tr><td>a</td></tr></table><p>b</body></html>", HTML),
    ],
    ids=["pdf", "docx", "html"],
)
def test_broken_copies_have_text_or_a_reason(document: bytes, media_type: str) -> None:
    limits = ExtractionLimits(characters=10_000, seconds=20, memory=512 * MEBIBYTE)
    for broken in documents.mutations(document, 12, seed=14):
        try:
            found = extracted(broken, media_type, limits)
        except ExtractionFailed as error:
            assert error.reason in FileTextFailure  # noqa: PT017  # either outcome is right
        else:
            assert sum(len(piece.text) for piece in found.pieces) <= 10_000


def _in_sandbox(code: str, limit: str = "") -> str:
    program = f"""
import os, socket
from app.extraction import sandbox
{limit}
sandbox.forbid_opening()
try:
    {code}
except OSError as error:
    os.write(1, type(error).__name__.encode() + b" " + str(error.errno).encode())
else:
    os.write(1, b"done")"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    return done.stdout or done.stderr


@pytest.mark.parametrize("code", ["open('/etc/passwd')", "socket.socket()", "os.pipe()", "open('/tmp/x', 'w')"])
def test_reader_opens_nothing(code: str) -> None:
    assert _in_sandbox(code) == "OSError 24"  # too many open files


def test_reader_writes_no_more_than_its_limit() -> None:
    limit = "sandbox.set_limits(seconds=60, memory=512 * 1024 * 1024, output=10)"
    with tempfile.TemporaryFile() as output:
        program = (
            f"import os\nfrom app.extraction import sandbox\n{limit}\nos.write(1, b'x' * 5)\nos.write(1, b'x' * 50)"
        )
        subprocess.run([sys.executable, "-c", program], cwd=PROJECT, stdout=output, timeout=60, check=False)
        output.seek(0)
        assert output.read() == b"x" * 10


def test_reader_has_no_network_where_the_system_allows_that() -> None:
    program = """
import os, socket
from app.extraction import sandbox
if sandbox.leave_network():
    print([name for _, name in socket.if_nameindex()])"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == ("['lo']" if is_separated_from_network() else "")


def test_reader_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", "s" * 32)
    this = psutil.Process()
    seen: list[dict[str, str]] = []

    def environments() -> bool:
        for each in this.children():
            if "app.extraction.child" in each.cmdline():
                seen.append(each.environ())
                each.kill()
        return bool(seen)

    with ThreadPoolExecutor(1) as pool:
        reason = pool.submit(failure, documents.endless_pdf(), PDF)
        wait_until(environments)
        reason.result()
    assert set(seen[0]) <= {"LC_ALL", "LC_CTYPE"}
