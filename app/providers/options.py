"""Parts of a request that a model rejects: `temperature` with reasoning models, tools or images with small ones.

They are found in the error's body, so that the request can be repeated once without them. What a model rejected is kept
for a while, because each turn would otherwise be answered only at the second request.
"""

import re
import threading
from collections.abc import Collection

from cachetools import TTLCache

MODELS, SECONDS = 256, 600.0  # how many models are kept, and for how long: a server may be updated

# By the name in requests: the names of the parameter that servers use.
PARAMETERS = {
    "temperature": ("temperature",),
    "top_p": ("top_p", "topP"),
    "response_format": ("response_format", "response format", "responseFormat"),
    "max_output_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
}
# Rejected because of this request's schema or prompts too, so it says nothing about the model's other requests.
_OF_ONE_REQUEST = frozenset({"response_format"})
TOOLS = "tools"  # stands for the tools of a request, which is sent without them if the model has none
IMAGES = "images"  # stands for the images of a request
_NO_TOOLS = "not support|unsupported|requires|unknown|unrecognized|not permitted|not allowed|extra|not available"
_TOOL = r"\b(?:tools?|tool_choice|functions?|function[ _]call(?:ing|s)?)\b"
_REJECTED_TOOLS = re.compile(
    rf"(?:{_NO_TOOLS}|no endpoints found that support).{{0,80}}{_TOOL}|{_TOOL}.{{0,80}}(?:{_NO_TOOLS})",
    re.IGNORECASE | re.DOTALL,
)
# "X is not a multimodal model", "content must be a string", "unknown variant `image_url`, expected `text`". Errors
# about one image count too: without it, there is an answer.
_REJECTED_IMAGES = re.compile(
    r"image|multi-?modal|vision|mmproj|content.{0,60}(?:must|should|expected).{0,30}string|valid string", re.IGNORECASE
)
_REJECTED = re.compile(
    r"unsupported|not support|unknown|unrecognized|unexpected|not permitted|not allowed|extra|invalid|deprecated"
    r"|cannot be (?:set|used)|only the default|does not (?:accept|allow)|incompatible",
    re.IGNORECASE,
)


class RejectedOptions:
    """The options that each model of a server rejected. Thread-safe."""

    def __init__(self) -> None:
        self._by_model: TTLCache[str, frozenset[str]] = TTLCache(MODELS, SECONDS)
        self._lock = threading.Lock()  # a TTLCache drops old entries when it is read

    def of(self, model: str) -> frozenset[str]:
        """Return the names of the options that `model` rejected."""
        with self._lock:
            return self._by_model.get(model, frozenset())

    def add(self, model: str, options: Collection[str]) -> None:
        """Keep these options as rejected by `model`, except those that it may have rejected for one request only."""
        with self._lock:
            self._by_model[model] = self._by_model.get(model, frozenset()) | (frozenset(options) - _OF_ONE_REQUEST)


def rejected_options(status: int, text: str, sent: Collection[str]) -> frozenset[str]:
    """Return which of the options in `sent` an error with this status and `text` is about, also TOOLS and IMAGES.

    The status is 400 or 422; OpenRouter answers 404 if no provider of a model has tools or takes images, and
    llama.cpp 500.
    """
    if IMAGES in sent and status in (400, 404, 413, 415, 422, 500) and _REJECTED_IMAGES.search(text):
        return frozenset({IMAGES})
    if TOOLS in sent and status in (400, 404, 422) and _REJECTED_TOOLS.search(text):
        return frozenset({TOOLS})
    if status not in (400, 422) or not _REJECTED.search(text):
        return frozenset()
    return frozenset(
        option for option in sent if any(re.search(rf"\b{name}\b", text) for name in PARAMETERS.get(option, ()))
    )
