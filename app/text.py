"""Clean text from providers for storage and display, and compare text that people typed."""

import re
import unicodedata

REPLACEMENT = "\ufffd"

_SURROGATE = re.compile("[\ud800-\udfff]")

# Unicode's property Default_Ignorable_Code_Point, which includes the Hangul fillers, and control characters.
_IGNORABLE = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
_INVISIBLE = re.compile(f"[{_IGNORABLE}]")
# The same, with white space, the blank Braille pattern, and format characters of annotations and hieroglyphs.
_BLANK = re.compile(rf"[{_IGNORABLE}\s\u2800\ufff9-\ufffb\U00013430-\U0001343f]*")

# The ignorable ones that do not change how the text around them is written.
_HIDDEN = re.compile(rf"(?![\t\n\u200c\u200d\ufe0e\ufe0f])[{_IGNORABLE}]")
_MARKUP = re.compile(r"[<>\[\]{}|`]")

# Control characters without tab and newline, and those that change the direction of the text around them.
_CONTROL = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# API keys by their prefix, and any long run of letters and digits, which is no word of a message.
_KEY_LIKE = re.compile(
    r"\bBearer\s+\S+|\b(?:sk|pk|rk|gsk|hf|xai|key|token|AIza)[-_][\w*.\-]{4,}|\b\w{32,}", re.IGNORECASE
)


def clean_text(text: str) -> str:
    """Replace what PostgreSQL or UTF-8 cannot hold by U+FFFD: each NUL, and each surrogate without its partner.

    Two surrogates that are a pair become the character that they stand for.
    """
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\x00", REPLACEMENT)


def without_controls(text: str) -> str:
    """Return `text` as one may show it: clean, without control characters but tabs and newlines."""
    return _CONTROL.sub("", clean_text(text.replace("\r\n", "\n").replace("\x00", "")))


def inline_text(text: str, characters: int) -> str:
    """Return a text of a user as one line of at most `characters` inside another text, without what may be markup.

    The joiners of Persian, of Indic scripts and of emoji stay; brackets, angle brackets, braces, bars and backticks do
    not: they begin the markup of templates, of Markdown and of models.
    """
    visible = _HIDDEN.sub("", without_controls(text))
    return " ".join(_MARKUP.sub(" ", visible).split())[:characters].rstrip()


def is_blank(text: str) -> bool:
    """Return whether nothing of `text` is visible: it has only white space and invisible characters."""
    return _BLANK.fullmatch(text) is not None


def from_first_visible(text: str) -> str:
    """Return `text` from its first visible character on; nothing if it is blank."""
    return text[_BLANK.match(text).end() :]  # type: ignore[union-attr]  # it matches at least the empty string


def without_invisible(text: str) -> str:
    """Return `text` without invisible characters, such as zero-width spaces and joiners; white space stays."""
    return _INVISIBLE.sub("", text)


def address_key(email: str) -> str:
    """Return the normal form of an email address, which two addresses share if they look alike.

    It has no case, no compatibility characters, no invisible characters and no white space around it. It is its own
    normal form. It can be empty, and longer than the address.
    """
    previous = None
    while email != previous:
        previous = email
        email = without_invisible(unicodedata.normalize("NFKC", email).casefold()).strip()
    return email


def without_secrets(text: str, *secrets: str) -> str:
    """Redact `secrets` and anything that looks like an API key, in a text of a provider that users are shown.

    It redacts more than `app.logs.redact`, which must leave ids in log lines readable: any long run of letters.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "[redacted]")
    return _KEY_LIKE.sub("[redacted]", text)


def shortened(text: str, characters: int) -> str:
    """Return `text` on one line, cut to `characters`."""
    line = " ".join(clean_text(text).split())
    return line if len(line) <= characters else line[: characters - 3] + "..."
